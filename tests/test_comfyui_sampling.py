"""Samplers, schedulers, advanced nodes and previews in a real ComfyUI.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from make_golden_sampling import SAMPLERS
from real_comfyui import (
    both,
    comfy,
    distance,
    graph,
    latents_of,
    link,
    native,
    undecoded,
    with_native_denoise,
)

FIXTURES = (comfy, native)  # pytest finds them by name


def in_parts(kind: str, ours: dict) -> dict:
    """The same graph with a pair of advanced nodes of this kind instead of the denoise."""
    whole = ours["denoise"]["inputs"]
    rest = {name: value for name, value in whole.items() if name not in ("seed", "denoise")}
    rest |= {"noise_seed": whole["seed"], "end_at_step": 10000}
    first = rest | {"add_noise": "enable", "start_at_step": 0, "end_at_step": 2}
    first |= {"return_with_leftover_noise": "enable"}
    second = rest | {"add_noise": "disable", "start_at_step": 2, "latent_image": link("first")}
    second |= {"return_with_leftover_noise": "disable"}
    return {
        **ours,
        "first": {"class_type": kind, "inputs": first},
        "denoise": {"class_type": kind, "inputs": second},
    }


def advanced(ours: dict, **inputs: object) -> dict:
    """The same graph with one advanced node instead of the denoise."""
    made = in_parts("OvisKSamplerAdvanced", ours)
    made["denoise"]["inputs"] = made.pop("first")["inputs"] | {"end_at_step": 10000} | inputs
    return made


def test_a_step_shows_a_preview(comfy):
    run = comfy.run(undecoded(graph(denoise__seed=55, denoise__steps=3)))
    assert run.of("execution_success"), run.error
    assert len(run.previews) == 3
    with Image.open(io.BytesIO(run.previews[-1])) as picture:
        # One pixel per position of the latent, 8 × 12, resized to ComfyUI's preview size.
        assert picture.size == (341, 512)
    hidden = comfy.run(undecoded(graph(denoise__seed=56)), preview_method="none")
    assert hidden.of("execution_success"), hidden.error
    # An older ComfyUI has only the preview method of its command line.
    assert not hidden.previews or comfy.version < (0, 4)


def test_a_preview_is_the_native_one(native):
    ours = undecoded(both(denoise__seed=104, denoise__steps=2))
    pictures = [
        [np.asarray(Image.open(io.BytesIO(data))).astype(int) for data in native.run(made).previews]
        for made in (ours, with_native_denoise(ours))
    ]
    for mine, theirs in zip(*pictures, strict=True):
        assert mine.shape == theirs.shape
        assert mine.std() > 1
        assert abs(mine - theirs).mean() <= 1


NATIVE_SAMPLERS = {
    **{name: ("KSamplerSelect", {"sampler_name": name}, name) for name in SAMPLERS},
    "uni_pc_bh2": ("KSamplerSelect", {"sampler_name": "uni_pc_bh2"}, None),
    "dpmpp_2m_sde_heun": ("KSamplerSelect", {"sampler_name": "dpmpp_2m_sde_heun"}, None),
    "ancestral": ("SamplerEulerAncestral", {"eta": 1.0, "s_noise": 1.0}, "euler_ancestral"),
    "less ancestral": ("SamplerEulerAncestral", {"eta": 0.3, "s_noise": 1.0}, None),
    "sde": (
        "SamplerDPMPP_SDE",
        {"eta": 1.0, "s_noise": 1.0, "r": 0.5, "noise_device": "gpu"},
        "dpmpp_sde",
    ),
    "2m sde": (
        "SamplerDPMPP_2M_SDE",
        {"solver_type": "midpoint", "eta": 1.0, "s_noise": 1.0, "noise_device": "cpu"},
        "dpmpp_2m_sde",
    ),
}


@pytest.mark.parametrize(
    ("kind", "inputs", "name"), NATIVE_SAMPLERS.values(), ids=NATIVE_SAMPLERS.keys()
)
def test_a_native_sampler_is_the_one_of_its_name(comfy, kind, inputs, name):
    made = graph(
        denoise__seed=105,
        denoise__steps=3,
        denoise__sampler_name="euler",
        denoise__scheduler="simple",
    )
    made = advanced(undecoded(made))
    chosen = {"class_type": kind, "inputs": inputs}
    made["denoise"]["inputs"]["sampler_name"] = name or "euler"
    by_name = latents_of(comfy, comfy.run(made))
    made["denoise"]["inputs"]["custom_sampler"] = link("chosen")
    by_node = latents_of(comfy, comfy.run({**made, "chosen": chosen}))
    assert np.array_equal(by_name, by_node) == (name is not None)
    assert np.isfinite(by_node).all()


def test_a_native_sampler_that_the_worker_lacks_is_refused(comfy):
    chosen = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "heunpp2"}}
    made = advanced(undecoded(graph(denoise__sampler_name="euler", denoise__scheduler="flux")))
    made["denoise"]["inputs"]["custom_sampler"] = link("chosen")
    assert (
        "no equivalent of the connected sampler heunpp2"
        in comfy.run({**made, "chosen": chosen}).error
    )


def test_sigmas_of_another_kind_of_model_are_refused(comfy):
    numbers = {"steps": 3, "sigma_max": 14.6, "sigma_min": 0.03, "rho": 7.0}
    made = advanced(undecoded(graph(denoise__sampler_name="euler", denoise__scheduler="flux")))
    made["denoise"]["inputs"]["sigmas"] = link("sigmas")
    made["sigmas"] = {"class_type": "KarrasScheduler", "inputs": numbers}
    assert "do not descend within 1 to 0" in comfy.run(made).error


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        ("euler_ancestral", "normal"),
        ("heun", "sgm_uniform"),
        ("dpm_2", "beta"),
        ("dpmpp_2m", "linear_quadratic"),
        ("res_multistep", "kl_optimal"),
        ("uni_pc", "simple"),
        ("lms", "exponential"),
        ("ddim", "ddim_uniform"),
    ],
)
def test_samplers_and_schedulers_are_the_native_ones(native, sampler, scheduler):
    mask = {"value": 0.6, "width": 8, "height": 12}
    ours = both(
        even=("SolidMask", mask),
        masked=("SetLatentNoiseMask", {"samples": link("empty"), "mask": link("even")}),
        denoise__latent_image=link("masked"),
        denoise__seed=101,
        denoise__sampler_name=sampler,
        denoise__scheduler=scheduler,
    )
    ours = undecoded(ours)
    theirs = with_native_denoise(ours)
    if sampler == "euler_ancestral" and native.version < (0, 18):
        pytest.skip("this ComfyUI seeds its noise in another way")
    theirs = latents_of(native, native.run(theirs))
    assert theirs.std() > 0.01
    assert distance(latents_of(native, native.run(ours)), theirs) <= 1e-3


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_a_pair_of_advanced_nodes_is_a_native_pair(native, sampler):
    ours = undecoded(
        both(denoise__seed=102, denoise__sampler_name=sampler, denoise__scheduler="simple")
    )
    theirs = in_parts("KSamplerAdvanced", with_native_denoise(ours))
    theirs = latents_of(native, native.run(theirs))
    assert (
        distance(latents_of(native, native.run(in_parts("OvisKSamplerAdvanced", ours))), theirs)
        <= 1e-3
    )


def test_native_samplers_and_sigmas_are_understood(native):
    """The same native SAMPLER and SIGMAS in the native SamplerCustom and in our advanced node."""
    ours = both(denoise__seed=103, denoise__sampler_name="euler", denoise__scheduler="simple")
    ours = undecoded(ours)
    theirs = with_native_denoise(ours)
    parts = {
        "unet": theirs["unet"],
        "shifted": theirs["shifted"],
        "chosen": {"class_type": "SamplerLMS", "inputs": {"order": 2}},
        "sigmas": {
            "class_type": "BasicScheduler",
            "inputs": {
                "model": link("shifted"),
                "scheduler": "karras",
                "steps": 5,
                "denoise": 1.0,
            },
        },
    }
    given = {"custom_sampler": link("chosen"), "sigmas": link("sigmas")}
    inputs = theirs["denoise"]["inputs"]
    custom = {name: inputs[name] for name in ("model", "positive", "negative", "cfg")}
    custom |= {"latent_image": inputs["latent_image"], "add_noise": True, "noise_seed": 103}
    custom |= {"sampler": link("chosen"), "sigmas": link("sigmas")}
    theirs["denoise"] = {"class_type": "SamplerCustom", "inputs": custom}
    theirs = latents_of(native, native.run({**theirs, **parts}))
    ours = latents_of(native, native.run({**advanced(ours, **given), **parts}))
    assert distance(ours, theirs) <= 1e-3
