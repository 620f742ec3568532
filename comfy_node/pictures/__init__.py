"""Pictures made without ComfyUI: contact sheets, comparisons, their captions, and sizes."""
