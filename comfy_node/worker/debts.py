"""What a worker must still be told about jobs that are over here.

The end of a job is acknowledged, and a job that nobody waits for is cancelled. If the connection is
down at that moment, the worker is told after the reconnect.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CANCEL_PATIENCE_SECONDS = 60.0
"""For how long a cancellation that could not be sent is remembered."""
ANSWER_SECONDS = 5.0
"""How long a job of the same name waits for the answer to the cancellation of the earlier one."""
MAX_ACKNOWLEDGEMENTS = 1000
"""The number of acknowledgements that are remembered; the worker forgets the others in time."""


@dataclass
class _Cancelled:
    until: float
    sent_to: object = None
    """The connection that the cancellation was sent on."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Debts:
    """The acknowledgements and cancellations that one worker has still to get."""

    def __init__(self) -> None:
        self._ended: dict[bytes, None] = {}
        self._cancelled: dict[bytes, _Cancelled] = {}
        self._delivering = asyncio.Lock()

    @property
    def are_pending(self) -> bool:
        """Whether something was not sent yet."""
        self._expire()
        return bool(self._ended) or any(one.sent_to is None for one in self._cancelled.values())

    def acknowledge(self, name: bytes) -> None:
        """The job's end has arrived here, with its result."""
        self._ended[name] = None
        while len(self._ended) > MAX_ACKNOWLEDGEMENTS:
            del self._ended[next(iter(self._ended))]

    def cancel(self, name: bytes) -> None:
        """Nobody waits for the job any more."""
        self._cancelled[name] = _Cancelled(time.monotonic() + CANCEL_PATIENCE_SECONDS)

    def note_end(self, name: bytes) -> None:
        """A job ended that nobody waits for; usually, it was cancelled."""
        cancelled = self._cancelled.pop(name, None)
        self.acknowledge(name)
        if cancelled is not None:
            cancelled.answered.set()

    async def settled(self, name: bytes, round_trip: Callable[[], Awaitable[object]]) -> None:
        """Waits until an earlier job of this name has ended, so that its end is not mistaken.

        ``round_trip`` asks the worker something and returns after the answer: a worker that does
        not have the job answers that, but not the cancellation.
        """
        cancelled = self._cancelled.get(name)
        if cancelled is None:
            return
        waits = [asyncio.ensure_future(cancelled.answered.wait())]
        waits.append(asyncio.ensure_future(round_trip()))
        try:
            await asyncio.wait(waits, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            self._cancelled.pop(name, None)

    async def deliver(self, connection: object, send: Callable[[object], Awaitable[bool]]) -> None:
        """Sends what is pending; ``send`` returns whether it worked. What did not work stays."""
        async with self._delivering:
            self._expire()
            for name in list(self._ended):
                # Removed first: sent twice, it could acknowledge a later job of the same name.
                del self._ended[name]
                if not await send(wire.Acknowledge(name)):
                    self._ended[name] = None
                    return
            for name, cancelled in list(self._cancelled.items()):
                if cancelled.sent_to is connection or cancelled.answered.is_set():
                    continue
                cancelled.sent_to = connection
                if not await send(wire.Cancel(name)):
                    cancelled.sent_to = None
                    return

    def lost(self, connection: object) -> None:
        """The connection ended, so that a cancellation on it may not have arrived."""
        for cancelled in self._cancelled.values():
            if cancelled.sent_to is connection:
                cancelled.sent_to = None

    def _expire(self) -> None:
        now = time.monotonic()
        for name in [name for name, one in self._cancelled.items() if one.until < now]:
            self._cancelled.pop(name).answered.set()
