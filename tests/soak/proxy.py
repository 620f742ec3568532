"""A TCP proxy with a bad network: it cuts, stalls, delays and truncates at random.

Each connection draws its faults from a generator of its own, which the seed and the connection's
number determine.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field

BUFFER = 1 << 16
CLOSE_SECONDS = 5.0


@dataclass
class Faults:
    """How bad the network is. All times are in seconds."""

    mean_seconds: float = 6.0
    """The mean time between two faults of one connection; 0 is no faults."""
    weights: dict[str, float] = field(
        default_factory=lambda: {"cut": 3, "truncate": 3, "stall": 2, "delay": 4}
    )
    """How often each fault is drawn, in proportion."""
    longest_stall: float = 30.0
    typical_stall: float = 4.0
    longest_delay: float = 0.3
    delay_seconds: float = 3.0
    """How long a delay affects all that is sent."""


@dataclass
class _Link:
    """One connection: the faults that affect it at the moment."""

    random: random.Random
    stalled_until: float = 0.0
    delayed_until: float = 0.0
    delay: float = 0.0
    truncates: str = ""
    """The direction whose next buffer is cut in the middle, or empty."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Forwards connections to a local port, badly. Use it as a context manager."""

    def __init__(self, target: int, seed: int, faults: Faults | None = None) -> None:
        self._target = target
        self._seed = seed
        self.faults = faults or Faults()
        self.counts: Counter[str] = Counter()
        """Connections, refusals and faults so far, by kind."""
        self.longest_stall = 0.0
        self.bytes = 0
        self._is_calm = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.port = self._call(self._listen())
        self.url = f"ws://127.0.0.1:{self.port}/"
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    def calm(self) -> None:
        """No faults begin from now on; a stall that has begun lasts as long as it was to last."""
        self._is_calm = True

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CLOSE_SECONDS + 5)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        draws = random.Random(f"{self._seed}/{self.counts['connections']}")
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            self.counts["refused"] += 1
            _reset(writer)
            return
        link = _Link(draws)
        tasks = [
            asyncio.create_task(self._forward(link, "up", reader, far_writer)),
            asyncio.create_task(self._forward(link, "down", far_reader, writer)),
            asyncio.create_task(self._break(link)),
        ]
        try:
            await link.ended.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for end in (writer, far_writer):
                if draws.random() < 0.5:
                    _reset(end)
                else:
                    end.close()

    async def _break(self, link: _Link) -> None:
        """Begins one fault after the other, until one ends the connection."""
        faults = self.faults
        kinds, weights = zip(*faults.weights.items(), strict=True)
        while faults.mean_seconds > 0:
            await asyncio.sleep(link.random.expovariate(1 / faults.mean_seconds))
            if self._is_calm:
                return
            kind = link.random.choices(kinds, weights)[0]
            now = self._loop.time()
            if kind == "cut":
                self.counts["cut"] += 1
                link.ended.set()
                return
            if kind == "truncate":
                # Counted when it happens: the connection may have nothing to send.
                link.truncates = link.random.choice(("up", "down"))
            elif kind == "stall":
                seconds = link.random.expovariate(1 / faults.typical_stall)
                seconds = min(seconds, faults.longest_stall)
                self.counts["stall"] += 1
                self.longest_stall = max(self.longest_stall, seconds)
                link.stalled_until = now + seconds
                await asyncio.sleep(seconds)
            else:
                self.counts["delay"] += 1
                link.delay = link.random.uniform(0.01, faults.longest_delay)
                link.delayed_until = now + faults.delay_seconds

    async def _forward(
        self,
        link: _Link,
        direction: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            while data := await reader.read(BUFFER):
                now = self._loop.time()
                if now < link.delayed_until:
                    await asyncio.sleep(link.delay)
                while (left := link.stalled_until - self._loop.time()) > 0:
                    await asyncio.sleep(left)
                if link.truncates == direction and len(data) > 1:
                    self.counts["truncate"] += 1
                    writer.write(data[: link.random.randrange(1, len(data))])
                    await writer.drain()
                    return
                writer.write(data)
                await writer.drain()
                self.bytes += len(data)
        except OSError:
            pass
        finally:
            link.ended.set()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes a connection with RST instead of FIN, as a host does that has lost it."""
    with contextlib.suppress(OSError):
        one = writer.get_extra_info("socket")
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
