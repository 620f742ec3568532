"""The protocol's version, and the limits that both peers enforce."""

from __future__ import annotations

PROTOCOL_VERSION = 3
"""Peers with different versions refuse each other."""

MAGIC = int.from_bytes(b"OVIS", "little")
"""First field of both hellos, so that a peer of any version is recognised."""

MAX_CHUNK_BYTES = 1 << 20
"""Most tensor bytes in one chunk."""

MAX_MESSAGE_BYTES = MAX_CHUNK_BYTES + (64 << 10)
"""Most bytes in one encoded message."""

MAX_TENSORS = 8
"""Most tensors one message may announce."""

MAX_RANK = 8
"""Most dimensions of a tensor."""

MAX_TENSOR_BYTES = 1 << 30
"""Most bytes of all tensors of one message together."""

MAX_PROMPT_BYTES = 48 << 10
"""Most bytes of UTF-8 in one prompt."""

MAX_PREVIEW_SIDE = 512
"""Most pixels along the longer side of a preview."""
