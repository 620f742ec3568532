"""What a worker's label means on this machine: its address, its secrets, and how to start it."""
