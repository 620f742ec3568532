"""Sending and receiving tensors: checking their headers, splitting and reassembling their bytes."""

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
    """A tensor's header and its bytes, row-major and contiguous."""

    header: TensorHeader
    data: bytes | bytearray | memoryview


def byte_length(header: TensorHeader) -> int:
    """The size of the announced tensor in bytes.

    Raises :class:`WireFormatError` if the tensor is empty, has too many dimensions, or is too
    large.
    """
    if len(header.shape) > MAX_RANK:
        raise WireFormatError(
            f"tensor `{header.name}` has {len(header.shape)} dimensions, the maximum is {MAX_RANK}"
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
    """Checks the tensors of one message against the limits, and returns their sizes in bytes.

    Raises :class:`WireFormatError` if there are too many, one is invalid, or all together are too
    large.
    """
    if len(headers) > MAX_TENSORS:
        raise WireFormatError(f"{len(headers)} tensors, the maximum is {MAX_TENSORS}")
    lengths = [byte_length(header) for header in headers]
    if sum(lengths) > MAX_TENSOR_BYTES:
        raise WireFormatError(
            f"{sum(lengths)} bytes in all tensors, the maximum is {MAX_TENSOR_BYTES}"
        )
    return lengths


def chunks(job: bytes, tensors: Sequence[WireTensor]) -> Iterator[Chunk]:
    """Splits tensors into chunks, in the order in which the protocol wants them sent."""
    for index, tensor in enumerate(tensors):
        view = memoryview(tensor.data).cast("B")
        for offset in range(0, len(view), MAX_CHUNK_BYTES):
            data = view[offset : offset + MAX_CHUNK_BYTES]
            yield Chunk(job, index, offset, data)


class Assembler:
    """Reassembles the tensors of one message from their chunks.

    The bytes are copied once, from the frame into a buffer that is allocated at full size.
    """

    def __init__(self, headers: Sequence[TensorHeader]) -> None:
        self.headers = list(headers)
        self._lengths = check_set(headers)
        self._done: list[bytearray] = []
        self._current = self._next()
        self._arrived = 0

    def _next(self) -> bytearray:
        """The buffer of the next tensor, allocated at full size so that it never has to move."""
        return bytearray() if self.complete else bytearray(self._lengths[len(self._done)])

    @property
    def complete(self) -> bool:
        """Whether all bytes of all tensors have arrived."""
        return len(self._done) == len(self.headers)

    @property
    def received(self) -> int:
        """Bytes of the tensors that have arrived, over all tensors in their order."""
        return sum(self._lengths[: len(self._done)]) + self._arrived

    def push_new(self, chunk: Chunk) -> bool:
        """Like :meth:`push`, but skips what has already arrived.

        A result that is sent again may begin before the byte at which the first time ended.
        """
        done, arrived = len(self._done), self._arrived
        if chunk.tensor < done:
            return self.complete
        if chunk.tensor == done and chunk.offset < arrived:
            known = arrived - chunk.offset
            if known >= len(chunk.data):
                return self.complete
            chunk = Chunk(chunk.job, chunk.tensor, arrived, memoryview(chunk.data)[known:])
        return self.push(chunk)

    def push(self, chunk: Chunk) -> bool:
        """Copies the next chunk; returns whether all bytes have arrived.

        Raises :class:`WireFormatError` if the chunk is out of order, or does not fit its tensor.
        """
        if self.complete:
            raise WireFormatError("a chunk arrived after the end of the last tensor")
        expected = (len(self._done), self._arrived)
        if (chunk.tensor, chunk.offset) != expected:
            raise WireFormatError(
                f"a chunk of tensor {chunk.tensor} at byte {chunk.offset} arrived, "
                f"expected tensor {expected[0]} at byte {expected[1]}"
            )
        if not 0 < len(chunk.data) <= MAX_CHUNK_BYTES:
            raise WireFormatError(f"a chunk of {len(chunk.data)} bytes arrived")
        length = len(self._current)
        end = self._arrived + len(chunk.data)
        if end > length:
            raise WireFormatError(f"a chunk reaches past the {length} bytes of its tensor")
        with memoryview(self._current) as current:
            current[self._arrived : end] = chunk.data
        self._arrived = end
        if end == length:
            self._done.append(self._current)
            self._current = self._next()
            self._arrived = 0
        return self.complete

    def finish(self) -> list[WireTensor]:
        """Returns the tensors. Call it only when :attr:`complete` is true."""
        return [WireTensor(h, d) for h, d in zip(self.headers, self._done, strict=True)]
