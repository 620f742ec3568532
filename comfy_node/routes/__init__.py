"""The HTTP routes under ``/ovis-worker/`` that the pack adds to ComfyUI's server."""
