"""The images of the chaos run: what each one is, and how it is computed in three jobs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from comfy_node import wire
from comfy_node.wire import WireTensor

CHANNELS = 16
"""Channels of a latent."""
STAGES = ("encode", "denoise", "decode")
SAMPLERS = ("euler", "heun", "dpmpp_2m", "euler_ancestral", "dpmpp_2m_sde", "uni_pc")
WORDS = ("fox", "poster", "river", "lamp", "garden", "letter", "tower", "cloud")
SIZES = ((64, 64), (96, 64), (64, 96))

Run = Callable[[str, object, list[WireTensor]], list[WireTensor]]
"""Runs one stage: its name, its request and its tensors; returns the result's tensors."""


@dataclass(frozen=True)
class Image:
    """One image. Two images of a run are never equal, so every job of a run is a job of its own."""

    client: int
    number: int

    def compute(self, run: Run) -> Iterator[None]:
        """Runs the three stages in turn; yields after each."""
        draws = random.Random(f"image {self.client}/{self.number}")
        width, height = draws.choice(SIZES)
        prompt = f"a {draws.choice(WORDS)} beside a {draws.choice(WORDS)}, no. {self.number}"
        prompt = f"{prompt} of client {self.client}"
        steps, sampler = draws.randint(4, 12), draws.choice(SAMPLERS)
        (positive,) = run("encode", wire.EncodeRequest([prompt], 64), [])
        yield
        denoise = wire.DenoiseRequest(
            draws.getrandbits(32),
            steps,
            1.0,
            sampler,
            wire.AutoSchedule(),
            cache=draws.choice(list(wire.StepCaching)),
        )
        (latent,) = run("denoise", denoise, [named("positive", positive), empty(width, height)])
        yield
        run("decode", wire.DecodeRequest(), [named("latent", latent)])
        yield


def named(name: str, tensor: WireTensor) -> WireTensor:
    """A tensor of a result, as another job takes it."""
    header = wire.TensorHeader(name, tensor.header.dtype, tensor.header.shape)
    return WireTensor(header, tensor.data)


def empty(width: int, height: int, batch: int = 1) -> WireTensor:
    """The latent of an image that is made from noise alone."""
    shape = [batch, CHANNELS, height // 8, width // 8]
    header = wire.TensorHeader("latent", wire.DType.F32, shape)
    return WireTensor(header, bytes(wire.transfer.byte_length(header)))
