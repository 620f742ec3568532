"""The way to a worker: its process, the connection to it, and the jobs that run on it."""
