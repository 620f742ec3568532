"""What the pack answers under ``/ovis-worker/`` on ComfyUI's own server."""
