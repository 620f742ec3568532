"""Whether pages on other machines may change worker settings.

A ComfyUI that listens on a network lets every page of its own change its settings. With
``--multi-user``, each user has settings of their own; a worker's are everybody's, so they can then
be changed only on ComfyUI's machine. In no case can another machine's page name a program.
"""

from __future__ import annotations

from ..settings.address import is_loopback


def may_edit(arguments: object) -> bool:
    """Whether ComfyUI's command line opens it to other machines, and all of them share settings."""
    if getattr(arguments, "multi_user", False):
        return False
    listen = str(getattr(arguments, "listen", None) or "127.0.0.1")
    return not all(is_loopback(address.strip()) for address in listen.split(","))
