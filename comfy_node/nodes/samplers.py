"""ComfyUI's samplers and schedulers: their names, and conversion of native SAMPLER and SIGMAS."""

from __future__ import annotations

import itertools
import math

import comfy.extra_samplers.uni_pc as native_uni_pc
import comfy.k_diffusion.sampling as native
import comfy.samplers
import torch
from comfy_api.latest import io

from .. import wire
from ..texts import WorkerError, printable, say
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

# Native sampler functions whose name differs from the worker's sampler, and the options that the
# name implies. `_gpu` variants differ only in where they draw noise; the worker draws its own.
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

MAX_SHIFT = 100.0
_OPTION = {
    "eta": lambda value: inputs.number("custom_sampler.eta", value, 0, 100),
    "s_noise": lambda value: inputs.number("custom_sampler.s_noise", value, 0, 100),
    "r": lambda value: inputs.number("custom_sampler.r", value, 0, 100),
    "order": lambda value: inputs.integer("custom_sampler.order", value, 0, 100),
    "solver_type": lambda value: inputs.text("custom_sampler.solver_type", value, 100),
}
"""Reads each option of a SAMPLER; the worker checks its range."""

# At these values there is no churn, so the options have no effect; nor has `s_noise`, the strength
# of the churn's noise, in samplers that use it for nothing else.
_WITHOUT_CHURN = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": math.inf}
_WITHOUT_NOISE = {"euler", "ddim", "heun", "dpm_2", "res_multistep"}


def sampler_input(name: str = "sampler_name", **settings: object) -> io.Combo.Input:
    """The widget for the sampler; nodes of the first form call it `sampler`."""
    return io.Combo.Input(
        name,
        options=SAMPLERS,
        default="euler",
        tooltip="The solvers of KSampler, with the same numbers. euler_ancestral uses the noise "
        "that ComfyUI draws on a CPU. dpmpp_2m_sde and dpmpp_sde draw their own noise: "
        "a seed always gives the same image, but not ComfyUI's.",
        **settings,
    )


def scheduler_input(**settings: object) -> io.Combo.Input:
    """The widget for the scheduler."""
    return io.Combo.Input(
        "scheduler",
        options=SCHEDULERS,
        default="flux",
        tooltip="The schedulers of KSampler, and flux, the model's own, which adapts to the "
        "image size. With a shift above 0, flux is the same as simple.",
        **settings,
    )


def shift_input(**settings: object) -> io.Float.Input:
    """The widget for the shift of ModelSamplingAuraFlow."""
    return io.Float.Input(
        "shift",
        default=0.0,
        min=0.0,
        max=10.0,
        step=0.05,
        round=0.001,
        display_mode=io.NumberDisplay.slider,
        tooltip="0 derives the shift from the image size, as the model's authors do. Above 0 it "
        "is a constant, as in ModelSamplingAuraFlow; ComfyUI's template for Ovis-Image "
        "uses 3.",
        **settings,
    )


def schedule_by_name(scheduler: str, shift: float) -> dict[str, object]:
    """The fields of a request for a scheduler; a ``shift`` of 0 means the model's own.

    Raises :class:`WorkerError` for values outside the widgets' options and limits.
    """
    scheduler = inputs.choice("scheduler", scheduler, SCHEDULERS)
    shift = inputs.number("shift", shift, 0.0, MAX_SHIFT)
    if shift > 0:
        # Graphs saved before schedulers could be chosen expect `simple` with a shift.
        name = "simple" if scheduler == "flux" else scheduler
        return {"schedule": wire.NamedSchedule(name), "shift": shift}
    return {"schedule": wire.NamedSchedule(scheduler), "shift": None}


def schedule_from_sigmas(sigmas: torch.Tensor, shift: float) -> dict[str, object]:
    """The fields of a request for native SIGMAS, of which there must be at least two.

    Raises :class:`WorkerError` if they are not the sigmas of a flow model.
    """
    # A step between equal sigmas changes nothing.
    values = torch.unique_consecutive(sigmas.float().cpu()).tolist()
    is_descending = all(high > low for high, low in itertools.pairwise(values))
    if not is_descending or not all(0 <= sigma <= 1 for sigma in values):
        raise WorkerError(
            say("The sigmas do not descend within 1 to 0, as those of a flow model do."),
            say("Create them with a BasicScheduler whose model is Ovis-Image or FLUX.1."),
        )
    schedule = wire.SigmasSchedule(values)
    return {"schedule": schedule, "steps": len(values) - 1, "shift": shift if shift > 0 else None}


def sampler_from_native(sampler: object) -> dict[str, object]:
    """The fields of a request for a native SAMPLER.

    Raises :class:`WorkerError` if the worker has no equivalent, or lacks one of its options.
    """
    if not hasattr(sampler, "sampler_function") and not hasattr(type(sampler), "sample"):
        hint = say("Connect a node that makes a SAMPLER, such as KSamplerSelect.")
        raise inputs.refusal("custom_sampler", sampler, say("a SAMPLER"), hint)
    name, implied = _match_native(sampler)
    options = dict(sampler.extra_options)
    for option, value in list(options.items()):
        is_number = isinstance(value, int | float)
        has_no_effect = is_number and _WITHOUT_CHURN.get(option, math.nan) == value
        if has_no_effect or (option == "s_noise" and name in _WITHOUT_NOISE):
            del options[option]
    unknown = sorted(printable(option, 40) for option in options.keys() - _OPTIONS.get(name, set()))
    if unknown:
        raise WorkerError(
            say(
                "The sampler {name} has options that Ovis Denoise does not support: {what}.",
                name=name,
                what=", ".join(unknown),
            ),
            say("Use the sampler without these options."),
        )
    checked = {option: _OPTION[option](value) for option, value in options.items()}
    return {"sampler": name, "options": wire.SamplerOptions(**{**implied, **checked})}


def _match_native(sampler: object) -> tuple[str, dict[str, object]]:
    """The worker's sampler for a native one, and the options that the native name implies."""
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
    called = printable(getattr(function, "__name__", type(sampler).__name__), 60)
    called = called.removeprefix("sample_")
    raise WorkerError(
        say("Ovis Denoise has no equivalent of the connected sampler {name}.", name=called),
        say("Choose one of: {names}.", names=", ".join(SAMPLERS)),
    )
