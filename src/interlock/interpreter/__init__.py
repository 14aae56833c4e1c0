"""What an operation does: pure functions from a machine, a snapshot, an input and the time to facts and effects."""
