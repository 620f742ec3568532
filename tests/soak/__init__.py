"""Long runs against a real worker: chaos, load, a thousand images, restarts."""
