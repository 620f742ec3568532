"""Damaged messages: what a broken or hostile peer sends instead of a golden message."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence

from real_worker import ROOT

GOLDEN = ROOT / "protocol" / "golden"
GOLDEN_JOB = bytes.fromhex("123e4567e89b42d3a456426614174000")
"""The UUID in all golden messages."""

HUGE = (2**64 - 1, 2**63, 2**60, 2**32, 2**31 - 1, 2**20 + 1)
"""Counts, sizes and offsets that no message can mean."""


def golden(direction: str) -> dict[str, bytes]:
    """The golden messages that `client` or `worker` sends, by the names of their files."""
    entries = json.loads((GOLDEN / "vectors.json").read_text(encoding="utf-8"))
    if isinstance(entries, dict):
        entries = entries["vectors"]
    return {
        entry["file"]: (GOLDEN / entry["file"]).read_bytes()
        for entry in entries
        if entry["direction"] == direction
    }


def mutate(rng: random.Random, frame: bytes, others: Sequence[bytes]) -> bytes:
    """A message with one to four damages; ``others`` are messages that parts are taken from."""
    damaged = bytearray(frame)
    for _ in range(rng.randint(1, 4)):
        _damage(rng, damaged, others)
    return bytes(damaged)


def _damage(rng: random.Random, frame: bytearray, others: Sequence[bytes]) -> None:
    at = rng.randrange(len(frame) + 1)
    kind = rng.randrange(7)
    if kind == 0 and at < len(frame):
        frame[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        frame[at : at + 8] = struct.pack("<Q", rng.choice(HUGE))
    elif kind == 2:
        del frame[at:]
    elif kind == 3:
        frame[at:at] = rng.randbytes(rng.randint(1, 16))
    elif kind == 4:
        del frame[at : at + rng.randint(1, 16)]
    elif kind == 5:
        other = rng.choice(others)
        frame[at:] = other[rng.randrange(len(other)) :]
    else:
        frame[:4] = struct.pack("<I", rng.choice((*range(15), 255, 2**32 - 1)))
