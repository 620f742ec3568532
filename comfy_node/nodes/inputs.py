"""Checks the values that arrive at a node's inputs.

ComfyUI checks the values of widgets. A link, however, can bring a value of any type from a node
whose output type is a wildcard. So every input is checked where it is used; a wrong value raises
:class:`WorkerError` with a sentence that names the input.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence

import torch

from .. import wire
from ..texts import WorkerError, printable, say

MAX_SEED = (1 << 64) - 1
"""The largest seed that `torch.manual_seed` accepts, and the largest integer on the wire."""
_LARGEST_SHOWN = 1 << 128


def refusal(name: str, value: object, takes: str, hint: str = "") -> WorkerError:
    """The error for an input of the wrong kind; ``takes`` describes what the input accepts."""
    return WorkerError(
        say(
            "The input `{name}` expects {takes}, but got {got}.",
            name=name,
            takes=takes,
            got=describe(value),
        ),
        hint or say("Connect a node that outputs such a value, or remove the link."),
    )


def describe(value: object) -> str:
    """A short description of any value, however large it is."""
    if value is None:
        return say("nothing (None)")
    if isinstance(value, str):
        return say("the text `{text}`", text=printable(value, 40))
    if isinstance(value, torch.Tensor):
        return say(
            "a tensor of shape {shape} ({kind})",
            shape=list(value.shape),
            kind=str(value.dtype).removeprefix("torch."),
        )
    if isinstance(value, bool | float):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < _LARGEST_SHOWN else say("a number of more than 38 digits")
    kind = printable(type(value).__name__, 40)
    if isinstance(value, list | tuple | dict | set):
        return say("a {kind} of length {count}", kind=kind, count=len(value))
    return say("a value of type {kind}", kind=kind)


DEFAULT_MODEL = "default"
"""The value of the widget for the worker's default model, whatever its name is."""


class WorkerChoice(str):
    """A worker's label, together with the priority and the model that its jobs get."""

    priority: wire.Priority
    model: str | None

    def __new__(cls, label: str, priority: wire.Priority, model: str | None) -> WorkerChoice:
        """A label that code which knows neither priorities nor models can use as text."""
        choice = super().__new__(cls, label)
        choice.priority = priority
        choice.model = model
        return choice


def with_choices(label: str, priority: wire.Priority, model: str | None) -> str:
    """The label as the Ovis Worker node passes it on: plain text if there is nothing to add."""
    if priority is wire.Priority.NORMAL and model is None:
        return label
    return WorkerChoice(label, priority, model)


def worker_priority(value: object) -> wire.Priority:
    """The priority that comes with a worker's label; a label without one means the normal one."""
    return value.priority if isinstance(value, WorkerChoice) else wire.Priority.NORMAL


def worker_model(value: object) -> str | None:
    """The model that comes with a worker's label; a label without one means the default."""
    return value.model if isinstance(value, WorkerChoice) else None


def model_name(name: str, value: object) -> str | None:
    """The name of a model, or ``None`` for the worker's default model."""
    if isinstance(value, str) and value in ("", DEFAULT_MODEL):
        return None
    if isinstance(value, str) and wire.is_model_name(value):
        return value
    raise refusal(name, value, say("a model's name"), say("Choose one of the list."))


def worker_label(value: object) -> str:
    """A worker's label, from an Ovis Worker node."""
    if isinstance(value, str):
        return value
    raise refusal(
        "worker",
        value,
        say("a worker's label"),
        say("Connect the output of an Ovis Worker."),
    )


def integer(name: str, value: object, least: int, most: int) -> int:
    """An integer within bounds; a float with an integral value is accepted."""
    found = _real(value)
    if found is not None and least <= found <= most and found == int(found):
        return int(found)
    takes = say("a whole number from {least} to {most}", least=least, most=most)
    raise refusal(name, value, takes)


def number(name: str, value: object, least: float, most: float) -> float:
    """A finite number within bounds."""
    found = _real(value)
    if found is not None and least <= found <= most:
        return float(found)
    raise refusal(name, value, say("a number from {least:g} to {most:g}", least=least, most=most))


def text(name: str, value: object, most_bytes: int = 1 << 20) -> str:
    """A string that can be encoded as UTF-8, of limited length."""
    if not isinstance(value, str):
        raise refusal(name, value, say("a text"))
    try:
        length = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise WorkerError(
            say(
                "The input `{name}` contains half of a character, which is not valid text.",
                name=name,
            ),
            say("Retype the text near `{place}`.", place=printable(value[: error.start][-20:])),
        ) from error
    if length > most_bytes:
        raise WorkerError(
            say(
                "The input `{name}` has {length} bytes of text; the maximum is {most}.",
                name=name,
                length=length,
                most=most_bytes,
            ),
            say("Shorten the text."),
        )
    return value


def choice(name: str, value: object, options: Sequence[str]) -> str:
    """One of a widget's options."""
    if isinstance(value, str) and value in options:
        return value
    raise refusal(name, value, say("one of: {names}", names=", ".join(options)))


def floats(name: str, value: object, takes: str, hint: str = "") -> torch.Tensor:
    """A dense tensor of floats; its values are not checked."""
    if (
        not isinstance(value, torch.Tensor)
        or not value.is_floating_point()
        or value.layout is not torch.strided
        or value.is_meta
        or value.is_nested
    ):
        raise refusal(name, value, takes, hint)
    return value


def image(name: str, value: object, least_side: int = 1) -> torch.Tensor:
    """An IMAGE ``[B, H, W, 3]`` with values from 0 to 1; further channels are dropped.

    Values slightly outside, as resizing produces them, are clipped.
    """
    takes = say("an IMAGE of floats, [batch, height, width, 3 or more channels]")
    hint = say("Connect a node that makes an IMAGE, such as Load Image.")
    pixels = floats(name, value, takes, hint)
    if pixels.ndim != 4 or pixels.shape[0] < 1 or pixels.shape[3] < 3:
        raise refusal(name, value, takes, hint)
    height, width = pixels.shape[1:3]
    if min(height, width) < least_side:
        raise WorkerError(
            say(
                "The input `{name}` is {width} × {height} pixels; the minimum is {least} in "
                "each direction.",
                name=name,
                width=width,
                height=height,
                least=least_side,
            ),
            say("Make the image larger, for example with Upscale Image."),
        )
    pixels = pixels[..., :3].detach()
    low, high = (bound.item() for bound in torch.aminmax(finite(name, pixels)))
    if low < -0.5 or high > 1.5:
        raise WorkerError(
            say(
                "The input `{name}` has values from {low:g} to {high:g}; an IMAGE has values "
                "from 0 to 1.",
                name=name,
                low=low,
                high=high,
            ),
            say("If the values are from 0 to 255, divide them by 255."),
        )
    return pixels.clamp(0, 1) if low < 0 or high > 1 else pixels


def finite(name: str, values: torch.Tensor) -> torch.Tensor:
    """The values as float32 on the CPU; raises :class:`WorkerError` if one is NaN or infinite."""
    try:
        plain = values.detach().to("cpu", torch.float32)
    except (RuntimeError, NotImplementedError) as error:
        raise WorkerError(
            say("The input `{name}` cannot be read: {why}.", name=name, why=printable(error)),
            say("Run the node before this one again."),
        ) from error
    bad = plain.numel() - int(torch.isfinite(plain).sum())
    if bad:
        raise WorkerError(
            say(
                "The input `{name}` contains NaN or infinity in {bad} of {count} values.",
                name=name,
                bad=bad,
                count=plain.numel(),
            ),
            say(
                "Check the nodes before this one: a computation in half precision may have "
                "overflowed."
            ),
        )
    return plain


def latent(name: str, value: object) -> torch.Tensor:
    """The samples of a LATENT: any number of dimensions, at least one value."""
    takes = say("a LATENT with samples of floats")
    hint = say("Connect a node that makes a LATENT, such as Ovis Empty Latent.")
    if not isinstance(value, Mapping) or "samples" not in value:
        raise refusal(name, value, takes, hint)
    samples = floats(f"{name}.samples", value["samples"], takes, hint)
    if not samples.numel():
        raise refusal(f"{name}.samples", samples, takes, hint)
    return samples


def mask(name: str, value: object) -> torch.Tensor:
    """A MASK ``[H, W]``, ``[B, H, W]`` or ``[B, 1, H, W]`` of floats."""
    takes = say("a MASK of floats, [batch, height, width]")
    hint = say("Remove the node that sets the mask, or connect a mask to it.")
    values = floats(name, value, takes, hint)
    has_one_channel = values.ndim != 4 or values.shape[1] == 1
    if not 2 <= values.ndim <= 4 or not values.numel() or not has_one_channel:
        raise refusal(name, value, takes, hint)
    return values


def conditioning(name: str, value: object) -> list[tuple[torch.Tensor, dict]]:
    """The entries of a CONDITIONING: tensors ``[B, T, D]`` with their options."""
    takes = say("a CONDITIONING")
    hint = say("Connect an Ovis Prompt Encode, or another node that makes a CONDITIONING.")
    if not isinstance(value, list | tuple):
        raise refusal(name, value, takes, hint)
    entries = []
    for entry in value:
        if not isinstance(entry, list | tuple) or len(entry) < 2 or not isinstance(entry[1], dict):
            raise refusal(name, entry, takes, hint)
        tensor = floats(name, entry[0], takes, hint)
        if tensor.ndim != 3 or not tensor.numel():
            raise refusal(name, tensor, takes, hint)
        entries.append((tensor, entry[1]))
    return entries


def sigmas(name: str, value: object) -> torch.Tensor:
    """SIGMAS ``[N]``."""
    takes = say("SIGMAS, a list of floats in one tensor")
    values = floats(name, value, takes)
    if values.ndim != 1:
        raise refusal(name, value, takes)
    return values


def indices(name: str, value: object, count: int) -> list[int]:
    """The batch_index of a LATENT: the seed's noise draw for each of ``count`` entries."""
    takes = say("{count} whole numbers, one for each entry of the batch", count=count)
    hint = say("Remove the node that selects from the batch, or use its whole output.")
    if isinstance(value, torch.Tensor) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, list | tuple) or len(value) != count:
        raise refusal(name, value, takes, hint)
    try:
        return [integer(name, index, 0, MAX_SEED) for index in value]
    except WorkerError as error:
        raise refusal(name, value, takes, hint) from error


def _real(value: object) -> float | int | None:
    """``value`` as a Python number; ``None`` if it is a boolean, NaN, or no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    found = int(value) if isinstance(value, numbers.Integral) else float(value)
    return None if isinstance(found, float) and math.isnan(found) else found
