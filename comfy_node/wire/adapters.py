"""Adapters (LoRA and its relatives): how a job names them, and how a worker lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .bincode import F64, U32, U64, Bytes, Hash, WireFormatError
from .limits import (
    MAX_ADAPTER_NAME_BYTES,
    MAX_ADAPTER_PICTURE_BYTES,
    MAX_ADAPTER_TEXT_BYTES,
    MAX_TRIGGERS,
)

_NOT_IN_NAMES = re.compile(r"[\\:\x00-\x1f\x7f-\x9f]")


@dataclass
class SigmaInterval:
    """The sigmas between which something applies, both included; ``start`` is the larger one."""

    start: F64
    end: F64


@dataclass
class AdapterUse:
    """An adapter that a job applies.

    ``transformer`` and ``text_encoder`` are strengths. ``hash`` is the SHA-256 of its file, with
    which the worker compares its own. ``blocks`` has a weight for each transformer block, or none.
    """

    name: str
    hash: Hash | None = None
    transformer: F64 = 1.0
    text_encoder: F64 = 1.0
    interval: SigmaInterval | None = None
    blocks: list[F64] = field(default_factory=list)


@dataclass
class AdapterInfo:
    """An adapter that a worker has. ``preview`` holds a JPEG or PNG."""

    name: str
    bytes: U64
    hash: Hash
    kind: str
    rank: U32
    title: str | None
    triggers: list[str]
    parts: list[str]
    preview: Bytes | None = None


@dataclass
class ListAdapters:
    """Asks for the worker's adapters, which come in :class:`Adapters`."""


@dataclass
class Adapters:
    """A part of the list of a worker's adapters; ``more`` says that another part follows."""

    adapters: list[AdapterInfo]
    more: bool = False

    def check(self) -> None:
        """Checks the list against the limits; raises :class:`WireFormatError`."""
        for adapter in self.adapters:
            if not is_adapter_name(adapter.name):
                raise WireFormatError(f"{adapter.name!r:.60} is not an adapter's name")
            texts = [adapter.kind, adapter.title or "", *adapter.triggers, *adapter.parts]
            if max(len(text.encode()) for text in texts) > MAX_ADAPTER_TEXT_BYTES:
                raise WireFormatError(f"a text of the adapter {adapter.name!r} is too long")
            if len(adapter.triggers) > MAX_TRIGGERS:
                raise WireFormatError(f"the adapter {adapter.name!r} has too many trigger words")
            if len(adapter.preview or b"") > MAX_ADAPTER_PICTURE_BYTES:
                raise WireFormatError(f"the picture of the adapter {adapter.name!r} is too large")


def is_adapter_name(name: str) -> bool:
    """Whether a text may name an adapter: a relative path that stays in its folder."""
    return (
        len(name.encode()) <= MAX_ADAPTER_NAME_BYTES
        and not any(part in ("", ".", "..") for part in name.split("/"))
        and not _NOT_IN_NAMES.search(name)
    )
