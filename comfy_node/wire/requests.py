"""The requests that a job can carry: encode, denoise, decode and VAE encode."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated

from .adapters import AdapterUse, SigmaInterval
from .bincode import F32, F64, U32, U64, OneOf


@dataclass
class EncodeRequest:
    """Encodes prompts to the tensor ``conditioning`` (f32 ``[B, T, D]``)."""

    prompts: list[str]
    max_sequence_length: U32
    adapters: list[AdapterUse] = field(default_factory=list)


@dataclass
class AutoSchedule:
    """The scheduler ``flux`` with the request's ``shift``."""


@dataclass
class ShiftSchedule:
    """The scheduler ``flux`` with this shift, which overrides the request's."""

    shift: F64


@dataclass
class SigmasSchedule:
    """Explicit sigmas in descending order, one more than there are steps."""

    sigmas: list[F32]


@dataclass
class NamedSchedule:
    """One of the worker's schedulers by name, with the request's ``shift``."""

    scheduler: str


Schedule = Annotated[object, OneOf(AutoSchedule, ShiftSchedule, SigmasSchedule, NamedSchedule)]


@dataclass
class SamplerOptions:
    """Options of a solver; ``None`` means its default. A solver refuses options that it lacks."""

    eta: F64 | None = None
    s_noise: F64 | None = None
    r: F64 | None = None
    order: U32 | None = None
    solver_type: str | None = None


class PreviewKind(enum.IntEnum):
    """How previews are made: a linear projection of the latents, or the VAE at low resolution."""

    LINEAR = 0
    VAE = 1


@dataclass
class PreviewRequest:
    """The previews that a denoise job sends; ``max_side`` is in pixels."""

    kind: PreviewKind
    max_side: U32


class StepCaching(enum.IntEnum):
    """How readily a step reuses the transformer's work of an earlier step."""

    OFF = 0
    SAFE = 1
    FAST = 2


@dataclass
class DenoiseRequest:
    """Denoises ``latent`` with ``positive`` and, if present, ``negative`` and ``noise_mask``.

    ``shift`` is a constant as in ModelSamplingAuraFlow, or ``None`` for the model's own shift.
    ``start_step``, ``end_step``, ``add_noise`` and ``leftover_noise`` mean what they mean in
    ComfyUI's KSamplerAdvanced. ``guided`` holds the sigmas at which guidance is applied; ``None``
    is all of them.
    """

    seed: U64
    steps: U32
    cfg: F64
    sampler: str
    schedule: Schedule
    denoise: F64 = 1.0
    batch_index: list[U64] | None = None
    options: SamplerOptions = field(default_factory=SamplerOptions)
    shift: F64 | None = None
    start_step: U32 = 0
    end_step: U32 | None = None
    add_noise: bool = True
    leftover_noise: bool = False
    preview: PreviewRequest | None = None
    guided: SigmaInterval | None = None
    cache: StepCaching = StepCaching.OFF
    adapters: list[AdapterUse] = field(default_factory=list)


@dataclass
class DecodeRequest:
    """Decodes ``latent`` (f32 ``[B, 16, H/8, W/8]``) to ``image`` (f32 ``[B, H, W, 3]``)."""


@dataclass
class VaeEncodeRequest:
    """Encodes ``image`` (f32 ``[B, H, W, 3]``) to ``latent`` (f32 ``[B, 16, H/8, W/8]``)."""


Request = Annotated[object, OneOf(EncodeRequest, DenoiseRequest, DecodeRequest, VaeEncodeRequest)]

OPERATIONS = {
    EncodeRequest: "encode",
    DenoiseRequest: "denoise",
    DecodeRequest: "decode",
    VaeEncodeRequest: "vae-encode",
}
"""The name of each request's operation, as the worker's capabilities spell it."""
