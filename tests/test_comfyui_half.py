"""Our nodes in a ComfyUI whose own nodes pass images and latents in half precision.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout that knows ``--fp16-intermediates``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from real_comfyui import COMFYUI, comfy, graph, link, pixels_of

COMFYUI_FLAGS = ["--fp16-intermediates"]
FIXTURES = (comfy,)  # pytest finds it by name

if "--fp16-intermediates" not in (Path(COMFYUI) / "comfy" / "cli_args.py").read_text():
    pytest.skip("SKIPPED: this ComfyUI has no --fp16-intermediates.", allow_module_level=True)


def test_an_image_of_native_nodes_is_encoded_denoised_decoded_and_compared(comfy):
    made = graph(
        picture=("LoadImage", {"image": "example.png"}),
        small=(
            "ImageScale",
            {
                "image": link("picture"),
                "upscale_method": "bilinear",
                "width": 96,
                "height": 64,
                "crop": "disabled",
            },
        ),
        start=("OvisVAEEncode", {"worker": link("worker"), "image": link("small")}),
        denoise__latent_image=link("start"),
        denoise__denoise=0.5,
        compare=(
            "OvisCompare",
            {
                "before": link("small"),
                "after": link("decode"),
                "layout": "side by side",
                "position": 0.5,
                "gain": 1.0,
                "before_label": "",
                "after_label": "",
            },
        ),
        image=("SaveImage", {"images": link("compare"), "filename_prefix": "half"}),
    )
    pixels = pixels_of(comfy, comfy.run(made))
    assert pixels.shape[0] == 64 and pixels.std() > 0


def test_a_native_empty_latent_is_denoised(comfy):
    assert pixels_of(comfy, comfy.run(graph(denoise__seed=9))).std() > 0
