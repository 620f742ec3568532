"""Names of jobs, derived from what they compute.

The same work has the same name, also after ComfyUI has restarted. So a worker that has already
begun or finished it neither repeats it nor loses it. The owner's secret is part of the name, so
that a name tells others nothing about a request.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from .. import wire
from ..settings.secret import Secret
from ..wire import WireTensor, transfer

_INLINE_BYTES = 256 << 10
"""Up to this many bytes are hashed on the event loop; more would delay other jobs."""


@dataclass(frozen=True)
class Work:
    """What a job computes: a request, its tensors and its model, with a digest of them."""

    request: object
    headers: list[wire.TensorHeader]
    tensors: Sequence[WireTensor]
    digest: bytes
    model: str | None = None

    @classmethod
    async def of(
        cls, request: object, tensors: Sequence[WireTensor], model: str | None = None
    ) -> Work:
        """Checks and hashes the request, its tensors and the name of its model.

        Raises :class:`wire.WireFormatError` if the wire cannot carry them.
        """
        headers = [tensor.header for tensor in tensors]
        lengths = transfer.check_set(headers)
        # Every value of the request, the headers and the options has one encoding, which begins
        # with its length where that varies.
        options = wire.JobOptions(model=model)
        begin = wire.encode_client(wire.Submit(bytes(16), request, headers, options))
        if sum(lengths) <= _INLINE_BYTES:
            digest = _digest(begin, tensors)
        else:
            digest = await asyncio.get_running_loop().run_in_executor(None, _digest, begin, tensors)
        return cls(request, headers, tensors, digest, model)


def job_name(secret: Secret, work: Work, hello: wire.WorkerHello) -> bytes:
    """The 16 bytes of a job's UUID, version 8 (RFC 9562, section 5.8).

    Another model, precision or device gives another result, and so another name.
    """
    can = hello.capabilities
    runs = can.model_of(work.model) or can
    whole = hashlib.sha256(bytes.fromhex(secret.reveal()))
    whole.update(work.digest)
    for text in (runs.model, runs.precision, can.device):
        data = text.encode()
        whole.update(len(data).to_bytes(8, "little") + data)
    value = int.from_bytes(whole.digest()[:16], "big")
    value = value & ~(0xF << 76) | 0x8 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return uuid.UUID(int=value).bytes


def _digest(begin: bytes | bytearray, tensors: Sequence[WireTensor]) -> bytes:
    whole = hashlib.sha256(begin)
    for tensor in tensors:
        whole.update(memoryview(tensor.data).cast("B"))
    return whole.digest()
