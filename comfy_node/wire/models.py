"""The models of a worker: their names, what each can do, and where its weights are."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from .bincode import U32, U64
from .limits import MAX_MODEL_NAME_BYTES

_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_MODEL_NAME_BYTES}}}")


@dataclass
class ModelInfo:
    """A model that a worker has: ``name`` is what jobs ask for, ``model`` its checkpoint."""

    name: str
    model: str
    precision: str
    operations: list[str]
    latent_channels: U32
    conditioning_width: U32


class Residence(enum.IntEnum):
    """Where a model's weights are."""

    UNLOADED = 0
    HOST = 1
    PARTLY = 2
    RESIDENT = 3


@dataclass
class ModelState:
    """Where a model's weights are, and how many bytes of them are on the device."""

    name: str
    state: Residence
    bytes: U64


def is_model_name(name: str) -> bool:
    """Whether a text may name a model."""
    return _NAME.fullmatch(name) is not None
