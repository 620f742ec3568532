"""ComfyUI's sampling vocabulary: names, and native SAMPLER and SIGMAS as ours."""

from __future__ import annotations

import itertools
import math

import comfy.extra_samplers.uni_pc as native_uni_pc
import comfy.k_diffusion.sampling as native
import comfy.samplers
import torch
from comfy_api.latest import io

from .. import wire
from ..texts import WorkerError, say, shown
from . import inputs

SAMPLERS = [
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_sde",
    "res_multistep",
    "uni_pc",
    "lms",
    "ddim",
]
SCHEDULERS = [
    "flux",
    "simple",
    "normal",
    "sgm_uniform",
    "ddim_uniform",
    "karras",
    "exponential",
    "beta",
    "linear_quadratic",
    "kl_optimal",
]

# Native sampler functions beside those that are called as the sampler is: the
# sampler, and options that the function's name stands for. What is called `_gpu`
# draws its noise there; the noise of these is the worker's own in any case.
_OTHER_NAMES = {
    "dpmpp_2m_sde_gpu": ("dpmpp_2m_sde", {}),
    "dpmpp_2m_sde_heun": ("dpmpp_2m_sde", {"solver_type": "heun"}),
    "dpmpp_2m_sde_heun_gpu": ("dpmpp_2m_sde", {"solver_type": "heun"}),
    "dpmpp_sde_gpu": ("dpmpp_sde", {}),
}
_UNI_PC = {
    "sample_unipc": ("uni_pc", {}),
    "sample_unipc_bh2": ("uni_pc", {"solver_type": "bh2"}),
}

_OPTIONS = {
    "euler_ancestral": {"eta", "s_noise"},
    "dpmpp_2m_sde": {"eta", "s_noise", "solver_type"},
    "dpmpp_sde": {"eta", "s_noise", "r"},
    "lms": {"order"},
}

MOST_SHIFT = 100.0
_OPTION = {
    "eta": lambda value: inputs.number("custom_sampler.eta", value, 0, 100),
    "s_noise": lambda value: inputs.number("custom_sampler.s_noise", value, 0, 100),
    "r": lambda value: inputs.number("custom_sampler.r", value, 0, 100),
    "order": lambda value: inputs.whole("custom_sampler.order", value, 0, 100),
    "solver_type": lambda value: inputs.text("custom_sampler.solver_type", value, 100),
}
"""How each option of a SAMPLER is read; what it may be, the worker says."""

# Options that change nothing at these values: no churn. Without churn the
# strength of its noise has no effect either.
_WITHOUT_CHURN = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": math.inf}
_WITHOUT_NOISE = {"euler", "ddim", "heun", "dpm_2", "res_multistep"}


def sampler_input(**settings: object) -> io.Combo.Input:
    """The widget that chooses a sampler."""
    return io.Combo.Input(
        "sampler",
        options=SAMPLERS,
        default="euler",
        tooltip="As in KSampler, with the same numbers. euler_ancestral adds the noise that "
        "ComfyUI draws on a CPU. dpmpp_2m_sde and dpmpp_sde draw their own: a seed gives the same "
        "image every time, but not ComfyUI's.",
        **settings,
    )


def scheduler_input(**settings: object) -> io.Combo.Input:
    """The widget that chooses a scheduler."""
    return io.Combo.Input(
        "scheduler",
        options=SCHEDULERS,
        default="flux",
        tooltip="As in KSampler. flux is the model's own: it suits the size of the image. With a "
        "shift above 0, flux is the same as simple.",
        **settings,
    )


def shift_input() -> io.Float.Input:
    """The widget for ModelSamplingAuraFlow's shift."""
    return io.Float.Input(
        "shift",
        default=0.0,
        min=0.0,
        max=10.0,
        step=0.05,
        round=0.001,
        display_mode=io.NumberDisplay.slider,
        tooltip="0 chooses by the size of the image, as the model's authors do. Above 0 it is "
        "ModelSamplingAuraFlow's; ComfyUI's template for Ovis-Image uses 3.",
    )


def named_schedule(scheduler: str, shift: float) -> dict[str, object]:
    """The fields of a request for a scheduler; a ``shift`` of 0 is the model's own.

    Raises :class:`WorkerError` for what no widget gives.
    """
    scheduler = inputs.choice("scheduler", scheduler, SCHEDULERS)
    shift = inputs.number("shift", shift, 0.0, MOST_SHIFT)
    if shift > 0:
        # Before there was a choice of schedulers, a shift meant `simple`.
        name = "simple" if scheduler == "flux" else scheduler
        return {"schedule": wire.NamedSchedule(name), "shift": shift}
    return {"schedule": wire.NamedSchedule(scheduler), "shift": None}


def given_schedule(sigmas: torch.Tensor, shift: float) -> dict[str, object]:
    """The fields of a request for SIGMAS, at least two of them.

    Raises :class:`WorkerError` for those of another kind of model.
    """
    # A step from a sigma to itself changes nothing.
    values = torch.unique_consecutive(sigmas.float().cpu()).tolist()
    falling = all(high > low for high, low in itertools.pairwise(values))
    if not falling or not all(0 <= sigma <= 1 for sigma in values):
        raise WorkerError(
            say("The sigmas do not fall within 1 to 0, as those of a flow model do."),
            say("Make them with a BasicScheduler whose model is Ovis-Image or FLUX.1."),
        )
    schedule = wire.SigmasSchedule(values)
    return {"schedule": schedule, "steps": len(values) - 1, "shift": shift if shift > 0 else None}


def known_sampler(sampler: object) -> dict[str, object]:
    """The fields of a request for a native SAMPLER.

    Raises :class:`WorkerError` where the worker has none like it.
    """
    if not hasattr(sampler, "sampler_function") and not hasattr(type(sampler), "sample"):
        hint = say("Connect a node that makes a SAMPLER, such as KSamplerSelect.")
        raise inputs.refuse("custom_sampler", sampler, say("a SAMPLER"), hint)
    name, implied = _recognised(sampler)
    options = dict(sampler.extra_options)
    for option, value in list(options.items()):
        is_number = isinstance(value, int | float)
        has_no_effect = is_number and _WITHOUT_CHURN.get(option, math.nan) == value
        if has_no_effect or (option == "s_noise" and name in _WITHOUT_NOISE):
            del options[option]
    unknown = sorted(shown(option, 40) for option in options.keys() - _OPTIONS.get(name, set()))
    if unknown:
        raise WorkerError(
            say(
                "The sampler {name} is given {what}, which Ovis Denoise cannot do.",
                name=name,
                what=", ".join(unknown),
            ),
            say("Use the sampler without these options."),
        )
    checked = {option: _OPTION[option](value) for option, value in options.items()}
    return {"sampler": name, "options": wire.SamplerOptions(**{**implied, **checked})}


def _recognised(sampler: object) -> tuple[str, dict[str, object]]:
    """The sampler of ours, and what its native name implies."""
    function = getattr(sampler, "sampler_function", None)
    if type(sampler) is comfy.samplers.KSAMPLER:
        inpaint = sampler.inpaint_options
        if function is native.sample_euler and inpaint == {"random": True}:
            return "ddim", {}
        names = {name: (name, {}) for name in SAMPLERS if name not in ("ddim", "uni_pc")}
        native_names = {
            getattr(native, f"sample_{name}", None): meaning
            for name, meaning in {**names, **_OTHER_NAMES}.items()
        }
        native_names |= {getattr(native_uni_pc, name): _UNI_PC[name] for name in _UNI_PC}
        if callable(function) and function in native_names and not inpaint.get("random"):
            return native_names[function]
    called = shown(getattr(function, "__name__", type(sampler).__name__), 60)
    called = called.removeprefix("sample_")
    raise WorkerError(
        say("Ovis Denoise has no sampler like the connected {name}.", name=called),
        say("Choose one of: {names}.", names=", ".join(SAMPLERS)),
    )
