"""A worker without a model: it speaks the protocol and answers with simple arithmetic.

It does what a healthy worker never does on request (refuse, send invalid messages, hang up), and
serves tests of the client that need no weights. ``python fake_worker.py serve --listen HOST:PORT``
runs it as a process.

The values of a job decide what happens: the prompt ``fail`` fails, ``hang up`` ends the connection,
and a long prompt is reported as cut. A denoise step takes :attr:`FakeWorker.step_seconds`, and all
steps together add noise. It can end in three ways: :meth:`FakeWorker.shut_down` announces a
shutdown, :attr:`FakeWorker.drops` stops answering as in a broken network, and leaving its context
is a process that dies.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from aiohttp import WSMsgType, web

sys.path.insert(0, str(Path(__file__).parent.parent))

from comfy_node import wire
from comfy_node.wire import transfer

WIDTH = 32
"""D of the conditionings it makes."""


@dataclass
class FakeWorker:
    """A fake worker on its own thread; use it as a context manager."""

    token: str | None = None
    protocol: int = wire.PROTOCOL_VERSION
    magic: int = wire.MAGIC
    step_seconds: float = 0.01
    port: int = 0
    hang_ups: int = 0
    submitted: list[wire.Submit] = field(default_factory=list)
    received: list[dict[str, np.ndarray]] = field(default_factory=list)
    cancelled: list[bytes] = field(default_factory=list)
    connections: int = 0
    drops: bool = False
    """Whether new connections are accepted, and nothing is said on them."""
    busy: bool = False
    """Whether the device belongs to somebody else, so that every job stays queued."""
    frames_after_hello: list[bytes] = field(default_factory=list)
    """What it sends besides, right after its hello."""
    health: dict = field(default_factory=dict)
    """What its `/health` says otherwise than a healthy worker's."""
    born: float = field(default_factory=time.monotonic)
    """When its process began, by ``time.monotonic``."""
    sessions: list[_Session] = field(default_factory=list)

    def __enter__(self) -> FakeWorker:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """The address on which it listens."""
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self, host: str = "127.0.0.1") -> None:
        """Listens on ``port``, or on a free port if that is 0."""
        app = web.Application()
        app.router.add_get("/ws", self._serve)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        self._device = asyncio.Lock()
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, self.port).start()
        self.port = self._runner.addresses[0][1]

    def shut_down(self) -> None:
        """Announces a shutdown, fails all jobs, and closes."""

        async def leave() -> None:
            for session in list(self.sessions):
                await session.leave()

        asyncio.run_coroutine_threadsafe(leave(), self._loop).result(10)

    def cut(self) -> None:
        """Closes every connection, as a network failure does; the process keeps running."""

        async def close() -> None:
            for session in list(self.sessions):
                session.socket._req.transport.abort()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)

    async def _health(self, _: web.Request) -> web.Response:
        about = {"model": "no model", "device": "cpu", "precision": "f32"}
        about |= {"queued": 0, "running": int(self._device.locked()), **self.health}
        return web.json_response(about)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text="ovis_device_bytes_used 6e9\novis_device_bytes_total 24e9\n")

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=wire.MAX_MESSAGE_BYTES)
        if self.drops:
            await asyncio.Event().wait()
        await socket.prepare(request)
        self.connections += 1
        session = _Session(self, socket)
        self.sessions.append(session)
        try:
            await session.run()
        finally:
            self.sessions.remove(session)
        return socket


class _Session:
    def __init__(self, worker: FakeWorker, socket: web.WebSocketResponse) -> None:
        self.worker = worker
        self.socket = socket
        self.arriving: dict[bytes, tuple[wire.Submit, transfer.Assembler]] = {}
        self.tasks: dict[bytes, asyncio.Task] = {}

    async def send(self, message: object) -> None:
        with contextlib.suppress(ConnectionError):
            await self.socket.send_bytes(wire.encode_worker(message))

    async def run(self) -> None:
        hello = wire.decode_client(await self.socket.receive_bytes())
        if self.worker.token not in (None, hello.token):
            await self.refuse(wire.ErrorCode.UNAUTHORIZED, "The token is wrong.")
            return
        capabilities = wire.Capabilities(
            operations=["encode", "denoise", "decode", "vae-encode"],
            samplers=["euler"],
            model="no model",
            device="cpu",
            precision="f32",
            latent_channels=16,
            conditioning_width=WIDTH,
            size_multiple=16,
            max_pixels=1 << 24,
        )
        await self.send(
            wire.WorkerHello(self.worker.magic, self.worker.protocol, "fake", capabilities)
        )
        for extra in self.worker.frames_after_hello:
            await self.socket.send_bytes(extra)
        try:
            async for frame in self.socket:
                if frame.type is WSMsgType.BINARY:
                    await self.take(wire.decode_client(frame.data))
        finally:
            for task in self.tasks.values():
                task.cancel()

    async def refuse(self, code: wire.ErrorCode, sentence: str) -> None:
        error = wire.WireError(code, sentence, "Ask another way.")
        await self.send(wire.Refused(self.worker.magic, self.worker.protocol, error))
        await self.socket.close()

    async def leave(self) -> None:
        for job, task in list(self.tasks.items()):
            if not task.done():
                task.cancel()
                code = wire.ErrorCode.SHUTTING_DOWN
                error = wire.WireError(code, "The worker is shutting down.", "Start it again.")
                await self.send(wire.Failed(job, error))
        await self.send(wire.ShuttingDown("The worker is shutting down."))
        await self.socket.close()

    async def take(self, message: object) -> None:
        if isinstance(message, wire.StatusRequest):
            uptime = time.monotonic() - self.worker.born
            await self.send(wire.Status(0, 0, 0, uptime, 0, 0))
        if isinstance(message, wire.Submit):
            self.worker.submitted.append(message)
            self.arriving[message.job] = (message, transfer.Assembler(message.tensors))
            self.begin_if_complete(message.job)
        elif isinstance(message, wire.Chunk) and message.job in self.arriving:
            self.arriving[message.job][1].push(message)
            self.begin_if_complete(message.job)
        elif isinstance(message, wire.Cancel):
            self.worker.cancelled.append(message.job)
            task = self.tasks.pop(message.job, None)
            if task:
                task.cancel()
                await self.send(wire.Cancelled(message.job))

    def begin_if_complete(self, job: bytes) -> None:
        submit, assembler = self.arriving[job]
        if assembler.complete:
            del self.arriving[job]
            arrays = {
                t.header.name: np.frombuffer(t.data, "<f4").reshape(t.header.shape)
                for t in assembler.finish()
            }
            self.worker.received.append(arrays)
            self.tasks[job] = asyncio.create_task(self.work(submit, arrays))

    async def work(self, submit: wire.Submit, arrays: dict[str, np.ndarray]) -> None:
        await self.send(wire.Queued(submit.job, 0))
        while self.worker.busy:
            await asyncio.sleep(0.01)
        async with self.worker._device:
            await self.send(wire.Started(submit.job))
            try:
                outcome, name, array = await self.answer(submit, arrays)
            except _Failure as failure:
                error = wire.WireError(wire.ErrorCode.INVALID_REQUEST, str(failure), "Try it.")
                await self.send(wire.Failed(submit.job, error))
                return
        data = np.ascontiguousarray(array, "<f4")
        header = wire.TensorHeader(name, wire.DType.F32, list(data.shape))
        await self.send(wire.Done(submit.job, outcome, [header]))
        for chunk in transfer.chunks(submit.job, [transfer.WireTensor(header, data.tobytes())]):
            await self.send(chunk)

    async def answer(
        self, submit: wire.Submit, arrays: dict[str, np.ndarray]
    ) -> tuple[wire.Outcome, str, np.ndarray]:
        request, outcome = submit.request, wire.Outcome(0.0, 0.0, [])
        if isinstance(request, wire.EncodeRequest):
            return outcome, "conditioning", await self.encode(request, outcome)
        if isinstance(request, wire.DenoiseRequest):
            for step in range(1, request.steps + 1):
                await asyncio.sleep(self.worker.step_seconds)
                await self.send(wire.Progress(submit.job, step, request.steps, 0.0, 0.0))
            latent = arrays["latent"]
            if latent.shape[2] % 2 or latent.shape[3] % 2:
                raise _Failure("Width and height must be multiples of 16.")
            draws = request.batch_index or range(len(latent))
            noise = [_noise(request.seed, draw, latent.shape[1:]) for draw in draws]
            mask = arrays.get("noise_mask", np.ones((1, 1, 1), "<f4"))[:, None]
            return outcome, "latent", latent + np.stack(noise) * mask * request.denoise
        if isinstance(request, wire.DecodeRequest):
            grey = arrays["latent"][:, :3].transpose(0, 2, 3, 1)
            return outcome, "image", np.clip(grey.repeat(8, 1).repeat(8, 2) / 4 + 0.5, 0, 1)
        image = arrays["image"][:, ::8, ::8].transpose(0, 3, 1, 2)
        return outcome, "latent", np.repeat(image, 6, 1)[:, :16]

    async def encode(self, request: wire.EncodeRequest, outcome: wire.Outcome) -> np.ndarray:
        for index, prompt in enumerate(request.prompts):
            if prompt == "fail":
                raise _Failure("The prompt asks to fail.")
            if prompt == "hang up" and self.worker.hang_ups > 0:
                self.worker.hang_ups -= 1
                await self.socket.close()
            lost = len(prompt.split()) - request.max_sequence_length
            if lost > 0:
                outcome.cuts.append(wire.PromptCut(index, lost, 5))
        values = [len(prompt) for prompt in request.prompts]
        shape = (len(values), request.max_sequence_length, WIDTH)
        return np.broadcast_to(np.array(values, "<f4")[:, None, None], shape)


class _Failure(Exception):
    pass


def _noise(seed: int, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([seed, draw]).normal(size=shape)


async def _serve_for_ever(listen: str) -> None:
    host, port = listen.rsplit(":", 1)
    await FakeWorker(port=int(port)).start(host)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--listen", required=True)
    parser.add_argument("--model")
    parser.add_argument("--tokenizer")
    arguments = parser.parse_args()
    if arguments.model == "broken":
        sys.exit("The weights are broken.")
    asyncio.run(_serve_for_ever(arguments.listen))
