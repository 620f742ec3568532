"""The pack's nodes beside ComfyUI's own: the same latents and images from either.

The native sampler runs ``euler`` on the ``simple`` schedule with ModelSamplingAuraFlow. Runs when
``OVIS_COMFYUI`` names a ComfyUI checkout; most tests need one that has Ovis-Image itself.
"""

from __future__ import annotations

import numpy as np
import pytest

import native_models
from real_comfyui import (
    both,
    comfy,
    distance,
    graph,
    latents_of,
    link,
    native,
    pixels_of,
    undecoded,
    with_native_denoise,
    with_native_encode,
)

FIXTURES = (comfy, native)  # pytest finds them by name


def test_the_native_decode_gives_the_same_image(comfy):
    loader = ("VAELoader", {"vae_name": native_models.VAE})
    native = ("VAEDecode", {"samples": link("denoise"), "vae": link("vae")})
    ours = pixels_of(comfy, comfy.run(graph(worker__worker="full", denoise__seed=81)))
    changes = {"worker__worker": "full", "denoise__seed": 81, "vae": loader, "decode": native}
    theirs = pixels_of(comfy, comfy.run(graph(**changes)))
    assert ours.std() > 1
    assert np.mean(abs(ours - theirs) <= 1) >= 0.999


def test_the_native_encode_gives_the_same_latents(comfy):
    size = {"width": 64, "height": 96, "upscale_method": "bilinear", "crop": "disabled"}
    common = {
        "worker__worker": "full",
        "denoise__denoise": 0.0,  # returns the encoder's output
        "denoise__latent_image": link("start"),
        "picture": ("LoadImage", {"image": "example.png"}),
        "scaled": ("ImageScale", {"image": link("picture"), **size}),
    }
    ours = ("OvisVAEEncode", {"worker": link("worker"), "image": link("scaled")})
    theirs = ("VAEEncode", {"pixels": link("scaled"), "vae": link("vae")})
    loader = ("VAELoader", {"vae_name": native_models.VAE})
    ours = latents_of(comfy, comfy.run(graph(**common, start=ours)))
    theirs = latents_of(comfy, comfy.run(graph(**common, start=theirs, vae=loader)))
    assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs)


CLOSE = 1e-3
LONG = "A hand-painted sign reads \u201cBienvenue \u00e0 la f\u00eate!\u201d, 7 red balloons. " * 12
LATENTS = {
    "empty": {},
    "empty in four channels": {
        "empty": ("EmptyLatentImage", {"width": 64, "height": 96, "batch_size": 1})
    },
    "empty by aspect ratio": {
        "empty": ("OvisEmptyLatent", {"aspect_ratio": 4.0, "megapixels": 0.25, "batch_size": 1}),
        "denoise__steps": 1,
    },
    "empty of another model": {"empty": ("EmptyLatentOfAnotherModel", {"width": 64, "height": 96})},
    "batch": {"empty__batch_size": 3},
    "batch index": {
        "empty__batch_size": 4,
        "picked": ("LatentFromBatch", {"samples": link("empty"), "batch_index": 2, "length": 2}),
        "denoise__latent_image": link("picked"),
    },
    "without guidance": {"denoise__cfg": 1.0},
    # `simple` rounds to thousandths, so seven steps are not evenly spaced, and two thousand steps
    # are more than it has.
    "seven steps": {"denoise__steps": 7, "denoise__cfg": 1.0},
    "two of two thousand steps": {"denoise__steps": 2, "denoise__denoise": 0.001},
}


@pytest.mark.parametrize("changes", LATENTS.values(), ids=LATENTS.keys())
def test_the_native_sampler_gives_the_same_latents(native, changes):
    ours = undecoded(both(denoise__seed=91, **changes))
    theirs = latents_of(native, native.run(with_native_denoise(ours)))
    assert theirs.std() > 0.01
    assert distance(latents_of(native, native.run(ours)), theirs) <= CLOSE


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("steps, denoise", [(4, 0.5), (3, 0.6), (8, 1.0)])
def test_the_native_sampler_gives_the_same_image_to_image(native, masked, steps, denoise):
    scale = {"image": link("picture"), "upscale_method": "bilinear", "crop": "disabled"}
    soft = {"mask": link("even"), "left": 1, "top": 3, "right": 2, "bottom": 0}
    ours = both(
        picture=("LoadImage", {"image": "example.png"}),
        scaled=("ImageScale", {**scale, "width": 64, "height": 96}),
        start=("OvisVAEEncode", {"worker": link("worker"), "image": link("scaled")}),
        # Another size and shape than the latent's: resized as the native sampler does it.
        even=("SolidMask", {"value": 0.7, "width": 20, "height": 20}),
        mask=("FeatherMask", soft),
        masked=("SetLatentNoiseMask", {"samples": link("start"), "mask": link("mask")}),
        denoise__latent_image=link("masked" if masked else "start"),
        denoise__seed=92,
        denoise__steps=steps,
        denoise__denoise=denoise,
    )
    ours = undecoded(ours)
    theirs = latents_of(native, native.run(with_native_denoise(ours)))
    assert distance(latents_of(native, native.run(ours)), theirs) <= CLOSE


@pytest.mark.parametrize("prompt", ["a red square", "", LONG], ids=["short", "empty", "long"])
def test_the_native_text_encoder_feeds_our_denoise(native, prompt):
    long = 1024 if prompt == LONG else 256  # the native encoder cuts nothing
    ours = both(denoise__seed=93, positive__prompt=prompt, positive__max_sequence_length=long)
    ours = undecoded(ours)
    theirs = latents_of(native, native.run(with_native_encode(ours)))
    assert distance(latents_of(native, native.run(ours)), theirs) <= CLOSE
    ours["positive"]["inputs"]["prompt"] += "another"
    # The measure detects even one additional word.
    assert distance(latents_of(native, native.run(ours)), theirs) > 3 * CLOSE


def test_all_native_nodes_give_our_image(native):
    ours = both(denoise__seed=94, negative__prompt="blurry")
    theirs = with_native_denoise(with_native_encode(ours))
    vae = {"vae_name": native_models.VAE}
    theirs["vae"] = {"class_type": "VAELoader", "inputs": vae}
    decode = {"samples": link("denoise"), "vae": link("vae")}
    theirs["decode"] = {"class_type": "VAEDecode", "inputs": decode}
    del theirs["worker"]
    ours, theirs = (pixels_of(native, native.run(graph)) for graph in (ours, theirs))
    assert ours.std() > 1
    assert np.mean(abs(ours - theirs) <= 1) >= 0.999
