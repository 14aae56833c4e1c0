"""Exploring: a user's own actions, run against the user's own fakes in virtual time, and crashed everywhere."""
