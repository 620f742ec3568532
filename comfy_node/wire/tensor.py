"""The header that announces a tensor: name, element type and shape."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .bincode import U64


class DType(enum.IntEnum):
    """Element type of a tensor's bytes, little-endian."""

    F32 = 0
    F16 = 1
    BF16 = 2
    U8 = 3

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return (4, 2, 2, 1)[self]


@dataclass
class TensorHeader:
    """Announces a tensor. Its bytes follow in chunks, row-major and contiguous."""

    name: str
    dtype: DType
    shape: list[U64]
