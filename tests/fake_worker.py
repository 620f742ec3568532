"""A worker without a model: it speaks the protocol and answers with simple arithmetic.

It does what a healthy worker never does on request (refuse, send invalid messages, hang up), and
serves tests of the client that need no weights. ``python fake_worker.py serve --listen HOST:PORT``
runs it as a process.

The values of a job decide what happens: the prompt ``fail`` fails, ``hang up`` ends the connection,
and a long prompt is reported as cut. A denoise step takes :attr:`FakeWorker.step_seconds`, and all
steps together add noise. Jobs belong to the owner of a secret and outlive their connection, unless
:attr:`FakeWorker.keeps` is false. The worker can end in three ways: :meth:`FakeWorker.shut_down`
announces a shutdown, :attr:`FakeWorker.drops` stops answering as in a broken network, and leaving
its context is a process that dies.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
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
from fake_jobs import WIDTH, Failure, FakeJob, answer


@dataclass
class FakeWorker:
    """A fake worker on its own thread; use it as a context manager."""

    token: str | None = None
    protocol: int = wire.PROTOCOL_VERSION
    magic: int = wire.MAGIC
    step_seconds: float = 0.01
    port: int = 0
    hang_ups: int = 0
    keeps: bool = True
    """Whether jobs outlive their connection."""
    is_durable: bool = False
    """What its hello says about jobs that outlive its process."""
    jobs: dict[tuple[bytes, bytes], FakeJob] = field(default_factory=dict)
    """The jobs that it has, by owner and name. The next process of a durable worker gets these."""
    model: str = "no model"
    models: tuple[str, ...] = ("default",)
    """The names of its models."""
    adapters: list[wire.AdapterInfo] = field(default_factory=list)
    full: list[float | None] = field(default_factory=list)
    """It refuses this many jobs because it is full, with these values of `retry_after`."""
    full_hellos: list[float] = field(default_factory=list)
    """It refuses this many hellos in the same way."""
    full_http: list[tuple[int, str]] = field(default_factory=list)
    """It answers this many websockets with an HTTP status and a `Retry-After`."""
    cut_uploads: list[int] = field(default_factory=list)
    """After so many chunks of the client, it cuts the connection; one number for each cut."""
    cut_results: list[int] = field(default_factory=list)
    """After so many chunks of results, it cuts the connection; one number for each cut."""
    pauses_results: int | None = None
    """After so many chunks of results, it sends no more of them."""
    dies_at: list[int] = field(default_factory=list)
    """At these steps it forgets its jobs and cuts the connection, as a process that is killed."""
    refuses_states: bool = False
    submitted: list[wire.Submit] = field(default_factory=list)
    received: list[dict[str, np.ndarray]] = field(default_factory=list)
    cancelled: list[bytes] = field(default_factory=list)
    claims: list[wire.Claim] = field(default_factory=list)
    acknowledged: list[bytes] = field(default_factory=list)
    begun_at: list[int] = field(default_factory=list)
    """The step from which each denoise job went on."""
    secrets: list[bytes | None] = field(default_factory=list)
    sent_chunks: list[tuple[int, int]] = field(default_factory=list)
    """Tensor and offset of each chunk of a result."""
    connections: int = 0
    drops: bool = False
    """Whether new connections are accepted, and nothing is said on them."""
    refuses: bool = False
    """Whether new connections are cut at once."""
    busy: bool = False
    """Whether the device belongs to somebody else, so that every job stays queued."""
    frames_after_hello: list[bytes] = field(default_factory=list)
    """What it sends besides, right after its hello."""
    health: dict = field(default_factory=dict)
    """What its `/health` says otherwise than a healthy worker's."""
    born: float = field(default_factory=time.monotonic)
    """When its process began, by ``time.monotonic``."""
    freed: int = 0
    """How often it was asked to unload its models."""
    sessions: list[Session] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> FakeWorker:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _end(self) -> None:
        self.stop_jobs()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The address on which it listens."""
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/ws"

    @property
    def steps_done(self) -> list[int]:
        """The last step of each job that it has."""
        # A copy, because the tests ask in another thread than that in which jobs come and go.
        return [job.step for job in list(self.jobs.values())]

    async def start(self, host: str = "127.0.0.1") -> None:
        """Listens on ``port``, or on a free port if that is 0; goes on with the jobs it has."""
        app = web.Application()
        app.router.add_get("/ws", self._serve)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/free", self._free)
        self._device = asyncio.Lock()
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, self.port, ssl_context=self.tls).start()
        self.port = self._runner.addresses[0][1]
        for job in self.jobs.values():
            job.session, job.is_started = None, False
            if job.end is None:
                job.task = asyncio.create_task(self.work(job))

    def stop_jobs(self) -> None:
        """Ends all work, as the end of the process does."""
        for job in self.jobs.values():
            job.session = None
            if job.task is not None:
                job.task.cancel()

    def shut_down(self) -> None:
        """Announces a shutdown, fails all jobs unless they are durable, and closes."""

        async def leave() -> None:
            for session in list(self.sessions):
                await session.leave()

        asyncio.run_coroutine_threadsafe(leave(), self._loop).result(10)

    def forget(self) -> None:
        """Drops all jobs, as if nobody had come back in time."""

        async def drop() -> None:
            self.stop_jobs()
            self.jobs.clear()

        asyncio.run_coroutine_threadsafe(drop(), self._loop).result(10)

    def cut(self) -> None:
        """Closes every connection, as a network failure does; the process keeps running."""

        async def close() -> None:
            for session in list(self.sessions):
                session.cut()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)

    async def _health(self, _: web.Request) -> web.Response:
        about = {"model": "no model", "device": "cpu", "precision": "f32"}
        about["models"] = [{"name": name, "state": "resident"} for name in self.models]
        about |= {"queued": 0, "running": int(self._device.locked()), **self.health}
        return web.json_response(about)

    async def _free(self, _: web.Request) -> web.Response:
        self.freed += 1
        return web.json_response({"unloading": list(self.models), "busy": []})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text="ovis_device_bytes_used 6e9\novis_device_bytes_total 24e9\n")

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=wire.MAX_MESSAGE_BYTES)
        if self.refuses:
            request.transport.abort()
            return web.Response()
        if self.drops:
            await asyncio.Event().wait()
        if self.full_http:
            status, after = self.full_http.pop(0)
            return web.Response(status=status, headers={"Retry-After": after})
        await socket.prepare(request)
        self.connections += 1
        session = Session(self, socket)
        self.sessions.append(session)
        try:
            await session.run()
        finally:
            self.sessions.remove(session)
            for key, job in list(self.jobs.items()):
                if job.session is session:
                    job.session = None
                    if not self.keeps:
                        job.task.cancel()
                        del self.jobs[key]
        return socket

    async def work(self, job: FakeJob) -> None:
        """Runs a job and sends its end."""
        await job.tell(wire.Queued(job.submit.job, 0))
        while self.busy:
            await asyncio.sleep(0.01)
        async with self._device:
            job.is_started = True
            await job.tell(wire.Started(job.submit.job))
            try:
                outcome, name, array = await answer(self, job)
            except Failure as failure:
                error = wire.WireError(wire.ErrorCode.INVALID_REQUEST, str(failure), "Try it.")
                job.end = wire.Failed(job.submit.job, error)
                await job.tell(job.end)
                return
        data = np.ascontiguousarray(array, "<f4")
        header = wire.TensorHeader(name, wire.DType.F32, list(data.shape))
        job.result = [transfer.WireTensor(header, data.tobytes())]
        job.end = wire.Done(job.submit.job, outcome, [header])
        await self.send_end(job, 0)

    async def send_end(self, job: FakeJob, received: int) -> None:
        """Sends the end of a job, and its result from the byte ``received`` on."""
        await job.tell(job.end)
        session, begin = job.session, 0
        for index, tensor in enumerate(job.result):
            data = memoryview(tensor.data)
            for offset in range(max(0, received - begin), len(data), wire.MAX_CHUNK_BYTES):
                if session is None or job.session is not session:
                    return
                part = data[offset : offset + wire.MAX_CHUNK_BYTES]
                self.sent_chunks.append((index, offset))
                await job.tell(wire.Chunk(job.submit.job, index, offset, part))
                if len(self.sent_chunks) == self.pauses_results:
                    return
                if _counts_down(self.cut_results):
                    # What was written still arrives, as it does where a network is cut later.
                    await asyncio.sleep(0.05)
                    session.cut()
                    return
            begin += len(data)

    def die(self) -> None:
        """Does what the death of the process and the start of another one do to its clients."""
        self.stop_jobs()
        self.jobs.clear()
        self.born = time.monotonic()
        for session in list(self.sessions):
            session.cut()


class Session:
    """One connection of a client."""

    def __init__(self, worker: FakeWorker, socket: web.WebSocketResponse) -> None:
        self.worker = worker
        self.socket = socket
        self.owner = b""
        self.arriving: dict[bytes, tuple[wire.Submit, transfer.Assembler]] = {}

    async def send(self, message: object) -> None:
        with contextlib.suppress(ConnectionError):
            await self.socket.send_bytes(wire.encode_worker(message))

    def cut(self) -> None:
        self.socket._req.transport.abort()

    async def run(self) -> None:
        hello = wire.decode_client(await self.socket.receive_bytes())
        self.worker.secrets.append(hello.secret)
        self.owner = hello.secret or str(id(self)).encode()
        if self.worker.token not in (None, hello.token):
            await self.refuse(wire.ErrorCode.UNAUTHORIZED, "The token is wrong.")
            return
        if self.worker.full_hellos:
            after = self.worker.full_hellos.pop(0)
            await self.refuse(wire.ErrorCode.QUEUE_FULL, "Too many connections.", after)
            return
        capabilities = wire.Capabilities(
            operations=["encode", "denoise", "decode", "vae-encode"],
            samplers=["euler"],
            model=self.worker.model,
            device="cpu",
            precision="f32",
            latent_channels=16,
            conditioning_width=WIDTH,
            size_multiple=16,
            max_pixels=1 << 24,
            models=[
                wire.ModelInfo(
                    name, self.worker.model, "f32", list(wire.OPERATIONS.values()), 16, WIDTH
                )
                for name in self.worker.models
            ],
        )
        keeping = wire.Keeping(60.0, 1 << 30, self.worker.is_durable)
        await self.send(
            wire.WorkerHello(self.worker.magic, self.worker.protocol, "fake", capabilities, keeping)
        )
        for extra in self.worker.frames_after_hello:
            await self.socket.send_bytes(extra)
        async for frame in self.socket:
            if frame.type is WSMsgType.BINARY:
                await self.take(wire.decode_client(frame.data))

    async def refuse(
        self, code: wire.ErrorCode, sentence: str, retry_after: float | None = None
    ) -> None:
        error = wire.WireError(code, sentence, "Ask another way.", retry_after)
        await self.send(wire.Refused(self.worker.magic, self.worker.protocol, error))
        await self.socket.close()

    async def leave(self) -> None:
        for key, job in list(self.worker.jobs.items()):
            if job.session is self and job.end is None and not self.worker.is_durable:
                job.task.cancel()
                code = wire.ErrorCode.SHUTTING_DOWN
                error = wire.WireError(code, "The worker is shutting down.", "Start it again.")
                await self.send(wire.Failed(job.submit.job, error))
                del self.worker.jobs[key]
        await self.send(wire.ShuttingDown("The worker is shutting down."))
        await self.socket.close()

    async def fail(self, job: bytes, code: wire.ErrorCode, after: float | None = None) -> None:
        error = wire.WireError(code, f"The fake worker answers {code.name}.", "", after)
        await self.send(wire.Failed(job, error))

    async def take(self, message: object) -> None:
        worker = self.worker
        if isinstance(message, wire.StatusRequest):
            uptime = time.monotonic() - worker.born
            await self.send(wire.Status(0, 0, 0, uptime, 0, 0))
        if isinstance(message, wire.ListAdapters):
            await self.send(wire.Adapters(worker.adapters))
        if isinstance(message, wire.Submit):
            worker.submitted.append(message)
            if worker.full:
                await self.fail(message.job, wire.ErrorCode.QUEUE_FULL, worker.full.pop(0))
                return
            if message.options.model not in (None, *worker.models):
                await self.fail(message.job, wire.ErrorCode.MISSING_MODEL)
                return
            self.arriving[message.job] = (message, transfer.Assembler(message.tensors))
            await self.begin_if_complete(message.job)
        elif isinstance(message, wire.Chunk) and message.job in self.arriving:
            self.arriving[message.job][1].push(message)
            if _counts_down(worker.cut_uploads):
                del self.arriving[message.job]
                self.cut()
                return
            await self.begin_if_complete(message.job)
        elif isinstance(message, wire.Claim):
            worker.claims.append(message)
            job = worker.jobs.get((self.owner, message.job))
            if job is None:
                await self.fail(message.job, wire.ErrorCode.UNKNOWN_JOB)
            else:
                await self.attach(job, message.received)
        elif isinstance(message, wire.Acknowledge):
            job = worker.jobs.get((self.owner, message.job))
            if job is not None and job.end is not None:
                worker.acknowledged.append(message.job)
                del worker.jobs[self.owner, message.job]
        elif isinstance(message, wire.Cancel):
            worker.cancelled.append(message.job)
            job = worker.jobs.get((self.owner, message.job))
            if job is not None and job.end is None:
                job.task.cancel()
                job.end = wire.Cancelled(message.job)
                await self.send(job.end)
            elif self.arriving.pop(message.job, None):
                await self.send(wire.Cancelled(message.job))

    async def attach(self, job: FakeJob, received: int) -> None:
        """Sends from now on what happens to a job, and first how far it is."""
        job.session, name = self, job.submit.job
        if job.end is not None:
            job.task = asyncio.create_task(self.worker.send_end(job, received))
        elif not job.is_started:
            await self.send(wire.Queued(name, job.position))
        else:
            await self.send(wire.Started(name))
            if job.step:
                steps = job.submit.request.steps
                await self.send(wire.Progress(name, job.step, steps, 0.0, 0.0))

    async def begin_if_complete(self, name: bytes) -> None:
        submit, assembler = self.arriving[name]
        if not assembler.complete:
            return
        del self.arriving[name]
        tensors = assembler.finish()
        arrays = {
            t.header.name: np.frombuffer(
                t.data, "u1" if t.header.dtype is wire.DType.U8 else "<f4"
            ).reshape(t.header.shape)
            for t in tensors
        }
        self.worker.received.append(arrays)
        data = b"".join(bytes(t.data) for t in tensors if t.header.name != "state")
        job = self.worker.jobs.get((self.owner, name))
        if job is None:
            job = FakeJob(submit, arrays, data, session=self)
            self.worker.jobs[self.owner, name] = job
            job.task = asyncio.create_task(self.worker.work(job))
        elif job.submit.request == submit.request and job.data == data:
            await self.attach(job, 0)
        else:
            await self.fail(name, wire.ErrorCode.CONFLICT)


def _counts_down(counts: list[int]) -> bool:
    """Counts an event; whether it is the last one that the first number stands for."""
    if not counts:
        return False
    counts[0] -= 1
    if counts[0] > 0:
        return False
    counts.pop(0)
    return True


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
    parser.add_argument("--or-demo", action="store_true")
    arguments = parser.parse_args()
    if arguments.model == "broken":
        sys.exit("The weights are broken.")
    asyncio.run(_serve_for_ever(arguments.listen))
