"""Images that the pack composes itself, and image sizes."""
