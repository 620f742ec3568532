"""What a worker's label means on this machine: its address, its secrets, how to start it."""
