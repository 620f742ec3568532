"""Hostile clients of a running worker: it stays up, serves others, and its memory is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from comfy_node import wire
from comfy_node.wire import transfer
from hostile_client import HELLO, SECONDS, Raw, upgrade
from mutations import GOLDEN_JOB, HUGE, golden, mutate
from real_worker import RealWorker
from soak.measure import mebibytes, resident_bytes
from soak.wire_client import WireClient

GOLDEN = golden("client")
FRAMES = list(GOLDEN.values())

SEED = 16
MUTATED = 10_000
CONNECTIONS_AT_ONCE = 16
FRAMES_OF_ONE = 25
"""What one connection sends at most; most end sooner, because a frame is invalid."""

MIB = 1 << 20
GROWTH = 64 * MIB
"""Resident memory that 10,000 hostile frames may leave behind. 7 MiB were measured."""
GROWTH_OF_ONE = 4 * MIB
"""Resident memory that a hostile connection may hold, such as one message of the largest size and
what the allocator keeps. An upload holds what it has announced besides, here a quarter of a
mebibyte; `serve --memory` bounds the uploads of all clients. 1.6 MiB were measured, at most."""
HOLDERS = 50
ENDED = 1100
"""More jobs than a worker remembers of one connection."""


class Victim(RealWorker):
    """A worker and the resident memory that it had before anything hostile."""

    fresh_bytes = 0

    def growth(self) -> int:
        """By how many bytes its memory exceeds what it was."""
        return resident_bytes(self.process.pid) - self.fresh_bytes


@pytest.fixture(scope="module")
def victim(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A worker that only these tests use, because they measure its memory."""
    log = tmp_path_factory.mktemp("hostile") / "worker.log"
    with Victim(tiny / "diffusers", log, device="cpu", precision="f32") as running:
        running.encode(["a"], 8)  # so that what the first job allocates is there
        running.fresh_bytes = resident_bytes(running.process.pid)
        yield running
        assert running.process.poll() is None, "the worker ended"
        assert "panicked" not in log.read_text()


@pytest.fixture(autouse=True)
def _neighbour_works_before_and_after(victim: Victim) -> Iterator[None]:
    victim.encode(["before"], 8)
    yield
    assert victim.process.poll() is None, victim.log.read_text()[-2000:]
    victim.encode(["after"], 8)


async def neighbour(worker: RealWorker, stop: asyncio.Event) -> list[float]:
    """Runs a job after another until it is told to stop; returns how long each took.

    A client of its own: whoever else misbehaves, none of its jobs may fail.
    """
    durations: list[float] = []
    async with WireClient(worker.config.endpoint.socket_url, "neighbour") as client:
        while not stop.is_set():
            begin = time.monotonic()
            job = client.run(wire.EncodeRequest(["a fox"], 8))
            (tensor,) = await asyncio.wait_for(job, SECONDS)
            assert tensor.header.shape[1] == 8
            durations.append(time.monotonic() - begin)
            await asyncio.sleep(0.02)
    return durations


async def send_mutated(worker: RealWorker, rng: random.Random, share: int) -> dict[str, int]:
    """Sends that many mutated frames over as many connections as it takes; counts the answers."""
    answers: dict[str, int] = {}
    sent = 0
    while sent < share:
        says_hello = rng.random() < 0.8
        async with Raw(worker, says_hello=says_hello) as raw:
            name = uuid.UUID(int=rng.getrandbits(128)).bytes
            for _ in range(min(FRAMES_OF_ONE, share - sent)):
                sent += 1
                frame = mutate(rng, rng.choice(FRAMES), FRAMES)
                try:
                    await raw.send(frame.replace(GOLDEN_JOB, name))
                except (aiohttp.ClientError, ConnectionError):
                    break
                with contextlib.suppress(asyncio.TimeoutError):
                    while True:
                        got = await asyncio.wait_for(raw.socket.receive(), 0.001)
                        if got.type is not aiohttp.WSMsgType.BINARY:
                            break
                        what = type(wire.decode_worker(got.data)).__name__
                        answers[what] = answers.get(what, 0) + 1
                if raw.socket.closed:
                    break
    return answers


def test_ten_thousand_mutated_frames_change_nothing_for_others(victim):
    async def attack() -> tuple[dict[str, int], list[float]]:
        stop = asyncio.Event()
        beside = asyncio.create_task(neighbour(victim, stop))
        shares = [MUTATED // CONNECTIONS_AT_ONCE] * CONNECTIONS_AT_ONCE
        try:
            found = await asyncio.gather(
                *(send_mutated(victim, random.Random(SEED + i), n) for i, n in enumerate(shares))
            )
        finally:
            stop.set()
            durations = await beside
        return {
            what: sum(one.get(what, 0) for one in found) for one in found for what in one
        }, durations

    answers, durations = asyncio.run(attack())
    grown = victim.growth()
    print(f"{answers}, {len(durations)} jobs, at most {max(durations):.2f} s")
    print(f"grown by {mebibytes(grown):.1f} MiB")
    assert answers["Refused"] > 1000 and answers["Failed"] > 20
    assert len(durations) > 10
    assert grown < GROWTH


SUBMIT = GOLDEN["client-submit-decode.bin"]

COUNTS = {
    "the client's name": HELLO[:12],
    "a chunk's data": b"\2\0\0\0" + GOLDEN_JOB + bytes(12),
    "prompts": b"\1\0\0\0" + GOLDEN_JOB + b"\0\0\0\0",
    "a prompt": b"\1\0\0\0" + GOLDEN_JOB + b"\0\0\0\0" + struct.pack("<Q", 1),
    "tensor headers": b"\1\0\0\0" + GOLDEN_JOB + b"\2\0\0\0",
    "a tensor's name": b"\1\0\0\0" + GOLDEN_JOB + b"\2\0\0\0" + struct.pack("<Q", 1),
    "a shape": b"\1\0\0\0" + GOLDEN_JOB + b"\2\0\0\0" + struct.pack("<QQI", 1, 0, 0),
}
"""Messages up to a count of bytes or elements."""


@pytest.mark.parametrize("what", COUNTS)
def test_a_count_that_no_message_holds_is_refused(victim, what):
    async def send() -> None:
        for count in HUGE:
            async with Raw(victim, says_hello=what != "the client's name") as raw:
                await raw.send(COUNTS[what] + struct.pack("<Q", count))
                (refused,) = await raw.until_end()
                assert isinstance(refused, wire.Refused), (count, refused)
                assert refused.error.code is wire.ErrorCode.BAD_MESSAGE
                assert "\n" not in refused.error.message

    before = resident_bytes(victim.process.pid)
    asyncio.run(send())
    assert resident_bytes(victim.process.pid) - before < GROWTH_OF_ONE * len(HUGE)


@pytest.mark.parametrize("size", [2**63, 2**60, 2**40, 2**63 - 1])
def test_a_websocket_frame_of_a_huge_size_is_refused_from_its_header(victim, size):
    host, port = victim.address.split(":")
    before = resident_bytes(victim.process.pid)
    with socket.create_connection((host, int(port)), timeout=SECONDS) as raw:
        upgrade(raw, victim)
        raw.sendall(b"\x82\xff" + struct.pack(">Q", size) + b"mask" + bytes(1000))
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(1 << 16):  # until it hangs up: a timeout fails the test
                pass
    assert resident_bytes(victim.process.pid) - before < GROWTH_OF_ONE


SHAPES = [
    [2**64 - 1],
    [2**63, 2],
    [2**32, 2**32],
    [2**16] * 4,
    [2**64 - 1] * 8,
    [1, 16, 2**31, 2**31],
    [1] * 9,
    [0],
    [],
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["latent", "state", "image"])
def test_a_tensor_of_an_impossible_shape_fails_its_job_alone(victim, name, shape):
    async def send() -> None:
        kind = wire.DType.U8 if name == "state" else wire.DType.F32
        header = wire.TensorHeader(name, kind, shape)
        request = wire.DenoiseRequest(0, 1, 1.0, "euler", wire.AutoSchedule())
        async with Raw(victim) as raw:
            job = uuid.uuid4().bytes
            await raw.send(wire.encode_client(wire.Submit(job, request, [header])))
            failed = await raw.answer()
            assert isinstance(failed, wire.Failed) and failed.job == job
            assert failed.error.code is wire.ErrorCode.INVALID_REQUEST
            assert "\n" not in failed.error.message
            await raw.send(GOLDEN["client-status.bin"])
            assert isinstance(await raw.answer(), wire.Status)

    before = resident_bytes(victim.process.pid)
    asyncio.run(send())
    assert resident_bytes(victim.process.pid) - before < GROWTH_OF_ONE


@pytest.mark.parametrize("received", [*HUGE, 1, 4])
def test_a_claim_with_any_count_of_bytes_is_answered(victim, received):
    """The rest from a whole value on, and a sentence for what no client can have received."""

    async def claim() -> None:
        async with Raw(victim) as raw:
            unknown = uuid.uuid4().bytes
            await raw.send(wire.encode_client(wire.Claim(unknown, received)))
            failed = await raw.answer()
            assert isinstance(failed, wire.Failed) and failed.job == unknown
            assert failed.error.code is wire.ErrorCode.UNKNOWN_JOB
            done = uuid.uuid4().bytes
            request = wire.EncodeRequest(["a"], 8)
            await raw.send(wire.encode_client(wire.Submit(done, request, [])))
            message = await raw.answer()
            assert isinstance(message, wire.Done)
            size = transfer.byte_length(message.tensors[0])
            chunk = await raw.answer()
            assert isinstance(chunk, wire.Chunk) and len(chunk.data) == size
            await raw.send(wire.encode_client(wire.Claim(done, received)))
            again = await raw.answer()
            assert again.job == done
            if received == 4:
                assert isinstance(again, wire.Done)
                rest = await raw.answer()
                assert (rest.offset, bytes(rest.data)) == (4, bytes(chunk.data)[4:])
            else:
                assert isinstance(again, wire.Failed)
                assert again.error.code is wire.ErrorCode.INVALID_REQUEST
                assert f"cannot have received {received} bytes" in again.error.message
            await raw.send(GOLDEN["client-status.bin"])
            assert isinstance(await raw.answer(), wire.Status)

    asyncio.run(claim())


def frames_for(job: bytes) -> dict[str, bytes]:
    """One message of each kind about a job of one small tensor."""
    data = bytes(4 * 16 * 4 * 4)
    header = wire.TensorHeader("latent", wire.DType.F32, [1, 16, 4, 4])
    submit = wire.Submit(job, wire.DecodeRequest(), [header])
    return {
        "hello": HELLO,
        "submit": bytes(wire.encode_client(submit)),
        "chunk": bytes(wire.encode_client(wire.Chunk(job, 0, 0, data))),
        "later": bytes(wire.encode_client(wire.Chunk(job, 0, 512, data[:64]))),
        "other": bytes(wire.encode_client(wire.Chunk(job, 7, 0, data[:64]))),
        "cancel": bytes(wire.encode_client(wire.Cancel(job))),
        "status": GOLDEN["client-status.bin"],
        "claim": bytes(wire.encode_client(wire.Claim(job, 0))),
        "acknowledge": bytes(wire.encode_client(wire.Acknowledge(job))),
    }


@pytest.mark.parametrize("first", list(frames_for(GOLDEN_JOB)))
def test_messages_in_every_order_are_answered_or_refused(victim, first):
    """All ordered pairs after a first message, with and without a hello before."""
    names = list(frames_for(GOLDEN_JOB))

    async def pair(second: str, third: str, says_hello: bool) -> None:
        job = uuid.uuid4().bytes
        frames = frames_for(job)
        async with Raw(victim, says_hello=says_hello) as raw:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                await raw.send(frames[first], frames[second], frames[third], frames["status"])
            while True:
                message = await raw.receive()
                if message is None or isinstance(message, wire.Status):
                    break
                error = getattr(message, "error", None)
                assert error is None or "\n" not in error.message
                if isinstance(message, wire.Refused):
                    assert message.error.code in (
                        wire.ErrorCode.BAD_MESSAGE,
                        wire.ErrorCode.CONFLICT,
                    )
            if not says_hello and first != "hello":
                assert isinstance(message, wire.Refused) or message is None

    async def all_pairs() -> None:
        pairs = [(b, c, h) for b in names for c in names for h in (True, False)]
        for at in range(0, len(pairs), 16):
            await asyncio.gather(*(pair(*one) for one in pairs[at : at + 16]))

    asyncio.run(all_pairs())


def test_sockets_that_are_half_open_or_cut_cost_nobody_anything(victim):
    """Cut at each place of the head, the upgrade and a message; left open, or reset."""
    host, port = victim.address.split(":")
    head = f"GET / HTTP/1.1\r\nHost: {victim.address}\r\n".encode()
    frame = b"\x82\xfe" + struct.pack(">H", len(SUBMIT)) + bytes(4) + SUBMIT
    held: list[socket.socket] = []
    before = resident_bytes(victim.process.pid)
    try:
        for at in range(0, len(head), 7):
            held.append(socket.create_connection((host, int(port)), timeout=SECONDS))
            held[-1].sendall(head[:at])
        for at in range(0, len(frame), 5):
            one = socket.create_connection((host, int(port)), timeout=SECONDS)
            held.append(one)
            upgrade(one, victim)
            one.sendall(b"\x82\xfe" + struct.pack(">H", len(HELLO)) + bytes(4) + HELLO)
            one.sendall(frame[:at])
            if at % 2:
                one.shutdown(socket.SHUT_WR)
            elif at % 3 == 0:  # a reset instead of an orderly end
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.close()
        victim.encode(["while they are open"], 8)
        grown = resident_bytes(victim.process.pid) - before
        print(f"{len(held)} sockets: {mebibytes(grown):.1f} MiB")
        assert grown < len(held) * GROWTH_OF_ONE
    finally:
        for one in held:
            one.close()


def renamed(message: object, count: int) -> list[bytes]:
    """The same message about as many jobs."""
    frame = bytes(wire.encode_client(message))
    return [frame.replace(GOLDEN_JOB, os.urandom(16)) for _ in range(count)]


def hoarding(kind: str) -> list[bytes]:
    """Messages that make a worker hold something before it computes anything."""
    latent = wire.TensorHeader("latent", wire.DType.F32, [1, 16, 64, 64])
    endless = wire.TensorHeader("latent", wire.DType.F32, [2**64 - 1])
    job = os.urandom(16)
    if kind == "an upload without an end":
        part = bytes(4 * 16 * 64 * 64 - 4)
        messages = (
            wire.Submit(job, wire.DecodeRequest(), [latent]),
            wire.Chunk(job, 0, 0, part),
        )
        return [bytes(wire.encode_client(message)) for message in messages]
    if kind == "chunks of no job":
        return renamed(wire.Chunk(GOLDEN_JOB, 0, 0, bytes(wire.MAX_CHUNK_BYTES)), 4)
    if kind == "many submits":
        return renamed(wire.Submit(GOLDEN_JOB, wire.DecodeRequest(), [latent]), 100)
    if kind == "many failures":
        return renamed(wire.Submit(GOLDEN_JOB, wire.DecodeRequest(), [endless]), ENDED)
    assert kind == "claims of nothing"
    return renamed(wire.Claim(GOLDEN_JOB, 2**64 - 1), 200)


@pytest.mark.parametrize(
    "kind",
    [
        "an upload without an end",
        "chunks of no job",
        "many submits",
        "many failures",
        "claims of nothing",
    ],
)
def test_what_a_connection_holds_is_bounded(victim, kind):
    """50 connections that send, take no answer from their sockets, and stay."""

    async def hoard() -> int:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(HOLDERS):
                raw = await stack.enter_async_context(Raw(victim))
                with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                    frames = hoarding(kind)
                    await asyncio.wait_for(raw.send(*frames), SECONDS)
            stop = asyncio.Event()
            beside = asyncio.create_task(neighbour(victim, stop))
            await asyncio.sleep(0.5)
            stop.set()
            assert await beside, "the neighbour had no turn"
            return victim.growth()

    grown = asyncio.run(hoard())
    print(f"{kind}: {mebibytes(grown / HOLDERS):.2f} MiB for each connection")
    assert grown < HOLDERS * GROWTH_OF_ONE
