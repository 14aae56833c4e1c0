"""Proof before anything runs: what a machine promises, checked against its text and against everything the interpreter can do with it."""
