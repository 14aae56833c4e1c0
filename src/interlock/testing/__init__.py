"""Proving: the simulator, and what it is made of."""
