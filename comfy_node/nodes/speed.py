"""Widgets that trade exactness for speed, and the request fields that they set."""

from __future__ import annotations

from comfy_api.latest import io

from .. import wire
from ..texts import WorkerError, say
from . import inputs

CACHES = {"off": wire.StepCaching.OFF, "safe": wire.StepCaching.SAFE, "fast": wire.StepCaching.FAST}


def cache_input() -> io.Combo.Input:
    """The widget for the step cache; optional, so that graphs saved before it existed still run."""
    return io.Combo.Input(
        "cache",
        options=list(CACHES),
        default="off",
        optional=True,
        tooltip="Reuses the transformer's inner blocks from an earlier step where little has "
        "changed. off is exact; safe looks the same and saves a little time; fast saves "
        "more and may change details.",
    )


def guidance_inputs() -> list[io.Float.Input]:
    """The widgets for the interval of sigmas in which guidance is applied."""
    common = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001, "optional": True}
    return [
        io.Float.Input(
            "guidance_start",
            default=1.0,
            tooltip="Sigma at which guidance (cfg) begins; 1 is the first step. Steps without "
            "guidance take half the time.",
            **common,
        ),
        io.Float.Input(
            "guidance_end",
            default=0.0,
            tooltip="Sigma at which guidance (cfg) ends; 0 is the last step.",
            **common,
        ),
    ]


def speed_fields(cache: str, start: float = 1.0, end: float = 0.0) -> dict[str, object]:
    """The request fields for these widgets.

    Raises :class:`WorkerError` if the interval ends above its start.
    """
    cache = inputs.choice("cache", cache, list(CACHES))
    start = inputs.number("guidance_start", start, 0.0, 1.0)
    end = inputs.number("guidance_end", end, 0.0, 1.0)
    if end > start:
        raise WorkerError(
            say("guidance_start is {start:g}, below guidance_end, {end:g}.", start=start, end=end),
            say(
                "Sigmas descend from 1 to 0 while an image is made: set the larger value as "
                "the start."
            ),
        )
    whole = start >= 1 and end <= 0
    guided = None if whole else wire.SigmaInterval(start, end)
    return {"cache": CACHES[cache], "guided": guided}
