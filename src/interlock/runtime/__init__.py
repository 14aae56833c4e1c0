"""Runtime: performs what `decide` asks for. The only floor with asyncio, and the one shell around the interpreter."""
