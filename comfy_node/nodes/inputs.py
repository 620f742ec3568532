"""What may come into a node, and one sentence for anything else.

ComfyUI checks the values of widgets, but a link from a node whose output has any type
brings whatever that node made. So every input is looked at where it is used.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence

import torch

from ..texts import WorkerError, say, shown

MOST_SEED = (1 << 64) - 1
"""The largest seed that `torch.manual_seed` takes, and the largest number on the wire."""
_LARGEST_SHOWN = 1 << 128


def refuse(name: str, value: object, takes: str, hint: str = "") -> WorkerError:
    """The error for an input that was given what it does not take."""
    return WorkerError(
        say(
            "The input `{name}` takes {takes}, but was given {got}.",
            name=name,
            takes=takes,
            got=described(value),
        ),
        hint or say("Connect a node that makes such a value, or take the link away."),
    )


def described(value: object) -> str:
    """A value in a few words, however large it is."""
    if value is None:
        return say("nothing (None)")
    if isinstance(value, str):
        return say("the text `{text}`", text=shown(value, 40))
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
    kind = shown(type(value).__name__, 40)
    if isinstance(value, list | tuple | dict | set):
        return say("a {kind} of length {count}", kind=kind, count=len(value))
    return say("a value of type {kind}", kind=kind)


def worker_label(value: object) -> str:
    """What comes from an Ovis Worker."""
    if isinstance(value, str):
        return value
    raise refuse(
        "worker",
        value,
        say("a worker's label"),
        say("Connect the output of an Ovis Worker."),
    )


def whole(name: str, value: object, least: int, most: int) -> int:
    """A whole number within bounds; a float that is one counts too."""
    given = _real(value)
    if given is not None and least <= given <= most and given == int(given):
        return int(given)
    takes = say("a whole number from {least} to {most}", least=least, most=most)
    raise refuse(name, value, takes)


def number(name: str, value: object, least: float, most: float) -> float:
    """A finite number within bounds."""
    given = _real(value)
    if given is not None and least <= given <= most:
        return float(given)
    raise refuse(name, value, say("a number from {least:g} to {most:g}", least=least, most=most))


def text(name: str, value: object, most_bytes: int = 1 << 20) -> str:
    """A text that can be written as UTF-8, within a length."""
    if not isinstance(value, str):
        raise refuse(name, value, say("a text"))
    try:
        length = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise WorkerError(
            say("The input `{name}` holds half of a character, which is no text.", name=name),
            say("Type the text anew near `{place}`.", place=shown(value[: error.start][-20:])),
        ) from error
    if length > most_bytes:
        raise WorkerError(
            say(
                "The input `{name}` holds {length} bytes of text, the most is {most}.",
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
    raise refuse(name, value, say("one of: {names}", names=", ".join(options)))


def floats(name: str, value: object, takes: str, hint: str = "") -> torch.Tensor:
    """A dense tensor of floats in memory that can be read; its values are not looked at."""
    if (
        not isinstance(value, torch.Tensor)
        or not value.is_floating_point()
        or value.layout is not torch.strided
        or value.is_meta
        or value.is_nested
    ):
        raise refuse(name, value, takes, hint)
    return value


def image(name: str, value: object, least_side: int = 1) -> torch.Tensor:
    """An IMAGE ``[B, H, W, 3]`` of 0 to 1; what else it has in channels is dropped.

    Values a little outside, as resizing leaves them, are clipped.
    """
    takes = say("an IMAGE of floats, [batch, height, width, 3 or more channels]")
    hint = say("Connect a node that makes an IMAGE, such as Load Image.")
    pixels = floats(name, value, takes, hint)
    if pixels.ndim != 4 or pixels.shape[0] < 1 or pixels.shape[3] < 3:
        raise refuse(name, value, takes, hint)
    height, width = pixels.shape[1:3]
    if min(height, width) < least_side:
        raise WorkerError(
            say(
                "The input `{name}` is {width} × {height} pixels, the least is {least} each way.",
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
                "The input `{name}` holds values from {low:g} to {high:g}, an IMAGE's are 0 to 1.",
                name=name,
                low=low,
                high=high,
            ),
            say("Divide values of 0 to 255 by 255."),
        )
    return pixels.clamp(0, 1) if low < 0 or high > 1 else pixels


def finite(name: str, values: torch.Tensor) -> torch.Tensor:
    """The values as float32 on the CPU; raises :class:`WorkerError` where one is no number."""
    try:
        plain = values.detach().to("cpu", torch.float32)
    except (RuntimeError, NotImplementedError) as error:
        raise WorkerError(
            say("The input `{name}` cannot be read: {why}.", name=name, why=shown(error)),
            say("Run the node before this one again."),
        ) from error
    bad = plain.numel() - int(torch.isfinite(plain).sum())
    if bad:
        raise WorkerError(
            say(
                "The input `{name}` holds NaN or infinity in {bad} of {count} values.",
                name=name,
                bad=bad,
                count=plain.numel(),
            ),
            say("Look at the nodes before this one: a step in half precision may have overflowed."),
        )
    return plain


def latent(name: str, value: object) -> torch.Tensor:
    """The samples of a LATENT, four-dimensional or not, of at least one value."""
    takes = say("a LATENT with samples of floats")
    hint = say("Connect a node that makes a LATENT, such as Ovis Empty Latent.")
    if not isinstance(value, Mapping) or "samples" not in value:
        raise refuse(name, value, takes, hint)
    samples = floats(f"{name}.samples", value["samples"], takes, hint)
    if not samples.numel():
        raise refuse(f"{name}.samples", samples, takes, hint)
    return samples


def mask(name: str, value: object) -> torch.Tensor:
    """A MASK ``[H, W]``, ``[B, H, W]`` or ``[B, 1, H, W]`` of floats."""
    takes = say("a MASK of floats, [batch, height, width]")
    hint = say("Take the node away that sets the mask, or connect a mask to it.")
    values = floats(name, value, takes, hint)
    has_one_channel = values.ndim != 4 or values.shape[1] == 1
    if not 2 <= values.ndim <= 4 or not values.numel() or not has_one_channel:
        raise refuse(name, value, takes, hint)
    return values


def conditioning(name: str, value: object) -> list[tuple[torch.Tensor, dict]]:
    """The entries of a CONDITIONING: tensors ``[B, T, D]``, and what is asked beside them."""
    takes = say("a CONDITIONING")
    hint = say("Connect an Ovis Prompt Encode, or another node that makes a CONDITIONING.")
    if not isinstance(value, list | tuple):
        raise refuse(name, value, takes, hint)
    entries = []
    for entry in value:
        if not isinstance(entry, list | tuple) or len(entry) < 2 or not isinstance(entry[1], dict):
            raise refuse(name, entry, takes, hint)
        tensor = floats(name, entry[0], takes, hint)
        if tensor.ndim != 3 or not tensor.numel():
            raise refuse(name, tensor, takes, hint)
        entries.append((tensor, entry[1]))
    return entries


def sigmas(name: str, value: object) -> torch.Tensor:
    """SIGMAS ``[N]``."""
    takes = say("SIGMAS, a list of floats in one tensor")
    values = floats(name, value, takes)
    if values.ndim != 1:
        raise refuse(name, value, takes)
    return values


def indices(name: str, value: object, count: int) -> list[int]:
    """A LATENT's batch_index: which of a seed's draws each of ``count`` entries takes."""
    takes = say("{count} whole numbers, one for each entry of the batch", count=count)
    hint = say("Take the node away that selects from the batch, or use its whole output.")
    if isinstance(value, torch.Tensor) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, list | tuple) or len(value) != count:
        raise refuse(name, value, takes, hint)
    try:
        return [whole(name, index, 0, MOST_SEED) for index in value]
    except WorkerError as error:
        raise refuse(name, value, takes, hint) from error


def _real(value: object) -> float | int | None:
    """A number of Python's or NumPy's; a truth value is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    given = int(value) if isinstance(value, numbers.Integral) else float(value)
    return None if isinstance(given, float) and math.isnan(given) else given
