"""The protocol's version, and the limits that both peers enforce."""

from __future__ import annotations

PROTOCOL_VERSION = 5
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

MAX_MODEL_NAME_BYTES = 64
"""Maximum bytes of a model's name."""

MAX_MODELS = 64
"""Maximum number of models of one worker."""

MAX_ADAPTERS = 16
"""Maximum number of adapters that one job may apply."""

MAX_ADAPTER_NAME_BYTES = 255
"""Maximum bytes of an adapter's name in UTF-8."""

MAX_ADAPTER_STRENGTH = 100.0
"""Maximum distance of an adapter's strength, or of a block's weight, from 0."""

MAX_BLOCK_WEIGHTS = 256
"""Maximum number of block weights of one adapter."""

MAX_ADAPTER_TEXT_BYTES = 256
"""Maximum bytes of an adapter's kind, title, trigger words and parts, each in UTF-8."""

MAX_TRIGGERS = 32
"""Maximum number of trigger words of one adapter."""

MAX_ADAPTER_PICTURE_BYTES = 64 << 10
"""Maximum bytes of an adapter's picture."""
