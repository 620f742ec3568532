"""Talking to a worker: starting its process, connecting to it, running jobs on it."""
