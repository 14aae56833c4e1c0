"""Where operations live: the contract, the memory store that is its reference, and SQLite."""
