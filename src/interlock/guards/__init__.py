"""Guarding records that other code owns: attributes of any class, ORM models, and the database itself."""
