"""Tensors as bytes: their headers' limits, their chunks, their assembly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .bincode import WireFormatError
from .limits import MAX_CHUNK_BYTES, MAX_RANK, MAX_TENSOR_BYTES, MAX_TENSORS
from .messages import Chunk
from .tensor import TensorHeader


@dataclass
class WireTensor:
    """A header and the tensor's bytes, row-major and contiguous."""

    header: TensorHeader
    data: bytes | bytearray | memoryview


def byte_length(header: TensorHeader) -> int:
    """Bytes the announced tensor occupies; raises when it is out of limits."""
    if len(header.shape) > MAX_RANK:
        raise WireFormatError(
            f"tensor `{header.name}` has {len(header.shape)} dimensions, the most is {MAX_RANK}"
        )
    if 0 in header.shape:
        raise WireFormatError(f"tensor `{header.name}` of shape {header.shape} is empty")
    length = math.prod(header.shape) * header.dtype.size
    if length > MAX_TENSOR_BYTES:
        raise WireFormatError(
            f"tensor `{header.name}` of shape {header.shape} is larger than "
            f"{MAX_TENSOR_BYTES} bytes"
        )
    return length


def check_set(headers: Sequence[TensorHeader]) -> list[int]:
    """Byte lengths of one message's tensors; raises when they are out of limits."""
    if len(headers) > MAX_TENSORS:
        raise WireFormatError(f"{len(headers)} tensors, the most is {MAX_TENSORS}")
    lengths = [byte_length(header) for header in headers]
    if sum(lengths) > MAX_TENSOR_BYTES:
        raise WireFormatError(
            f"{sum(lengths)} bytes of tensors together, the most is {MAX_TENSOR_BYTES}"
        )
    return lengths


def chunks(job: bytes, tensors: Sequence[WireTensor]) -> Iterator[Chunk]:
    """The chunks that carry ``tensors``, in the order the wire wants them."""
    for index, tensor in enumerate(tensors):
        view = memoryview(tensor.data).cast("B")
        for offset in range(0, len(view), MAX_CHUNK_BYTES):
            data = view[offset : offset + MAX_CHUNK_BYTES]
            yield Chunk(job, index, offset, data)


class Assembler:
    """Collects the chunks of one message's tensors: the wire's only copy."""

    def __init__(self, headers: Sequence[TensorHeader]) -> None:
        self._headers = list(headers)
        self._lengths = check_set(headers)
        self._done: list[bytearray] = []
        self._current = self._next()
        self._arrived = 0

    def _next(self) -> bytearray:
        """The bytes of the next tensor, whole from the start: growing would move them."""
        return bytearray() if self.complete else bytearray(self._lengths[len(self._done)])

    @property
    def complete(self) -> bool:
        """Whether every byte has arrived."""
        return len(self._done) == len(self._headers)

    def push(self, chunk: Chunk) -> bool:
        """Takes the next chunk; true once every byte has arrived."""
        if self.complete:
            raise WireFormatError("a chunk came after the last tensor's end")
        expected = (len(self._done), self._arrived)
        if (chunk.tensor, chunk.offset) != expected:
            raise WireFormatError(
                f"a chunk of tensor {chunk.tensor} at byte {chunk.offset} came, "
                f"expected tensor {expected[0]} at byte {expected[1]}"
            )
        if not 0 < len(chunk.data) <= MAX_CHUNK_BYTES:
            raise WireFormatError(f"a chunk of {len(chunk.data)} bytes came")
        length = len(self._current)
        end = self._arrived + len(chunk.data)
        if end > length:
            raise WireFormatError(f"a chunk runs past its tensor's {length} bytes")
        with memoryview(self._current) as current:
            current[self._arrived : end] = chunk.data
        self._arrived = end
        if end == length:
            self._done.append(self._current)
            self._current = self._next()
            self._arrived = 0
        return self.complete

    def finish(self) -> list[WireTensor]:
        """The tensors; call it only when :attr:`complete`."""
        return [WireTensor(h, d) for h, d in zip(self._headers, self._done, strict=True)]
