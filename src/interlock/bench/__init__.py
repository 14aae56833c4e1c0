"""Measuring: durable steps per second next to what the device itself can do, in one run."""
