"""The protocol's version, and the limits that both peers enforce."""

from __future__ import annotations

PROTOCOL_VERSION = 4
"""Peers with different versions refuse each other."""

MAGIC = int.from_bytes(b"OVIS", "little")
"""First field of both hellos, so that peers recognise each other whatever their versions are."""

MAX_CHUNK_BYTES = 1 << 20
"""Maximum tensor bytes in one chunk."""

MAX_MESSAGE_BYTES = MAX_CHUNK_BYTES + (64 << 10)
"""Maximum bytes of one encoded message."""

MAX_TENSORS = 8
"""Maximum number of tensors that one message may announce."""

MAX_RANK = 8
"""Maximum number of dimensions of a tensor."""

MAX_TENSOR_BYTES = 1 << 30
"""Maximum total bytes of the tensors of one message."""

MAX_PROMPT_BYTES = 48 << 10
"""Maximum bytes of one prompt in UTF-8."""

MAX_PREVIEW_SIDE = 512
"""Maximum length of the longer side of a preview, in pixels."""

SECRET_BYTES = 32
"""Bytes of the secret by which a client owns its jobs."""

MAX_TRACE_BYTES = 128
"""Maximum bytes of a trace context; a W3C ``traceparent`` has 55."""
