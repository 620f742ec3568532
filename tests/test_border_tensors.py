"""Images, latents, masks, conditionings, samplers and sigmas: what ComfyUI accepts works here.

Everything else is refused in one sentence that names the input.
"""

from __future__ import annotations

import re

import pytest
import torch

import fake_comfy
from comfy_node import wire
from comfy_node.texts import WorkerError
from fake_worker import WIDTH
from test_border_nodes import latent, pack, run, says

FIXTURES = (pack,)  # pytest finds it by name

# Images

PIXELS = torch.rand(2, 32, 48, 3)
IMAGES = {
    "as they are": (PIXELS, (2, 16, 4, 6)),
    "with alpha": (torch.rand(1, 32, 32, 4), (1, 16, 4, 4)),
    "with five channels": (torch.rand(1, 32, 32, 5), (1, 16, 4, 4)),
    "float64": (PIXELS.double(), (2, 16, 4, 6)),
    "bfloat16": (PIXELS.bfloat16(), (2, 16, 4, 6)),
    "float16": (PIXELS.half(), (2, 16, 4, 6)),
    "float8": (PIXELS.to(torch.float8_e4m3fn), (2, 16, 4, 6)),
    "with a gradient": (PIXELS.clone().requires_grad_(), (2, 16, 4, 6)),
    "not contiguous": (PIXELS.transpose(1, 2), (2, 16, 6, 4)),
    "expanded": (torch.rand(1, 32, 32, 1).expand(2, 32, 32, 3), (2, 16, 4, 4)),
    "conjugated views": (PIXELS.flip(1), (2, 16, 4, 6)),
    "cropped to sixteen": (torch.rand(1, 47, 31, 3), (1, 16, 4, 2)),
    "sixteen pixels": (torch.rand(1, 16, 16, 3), (1, 16, 2, 2)),
    "a little outside": (PIXELS * 1.2 - 0.1, (2, 16, 4, 6)),
    "15 high": (torch.rand(1, 15, 32, 3), "32 × 15 pixels"),
    "1 wide": (torch.rand(1, 32, 1, 3), "1 × 32 pixels"),
    "0 wide": (torch.rand(1, 32, 0, 3), "0 × 32 pixels"),
    "no image": (torch.rand(0, 32, 32, 3), "[0, 32, 32, 3]"),
    "without a batch": (torch.rand(32, 32, 3), "[32, 32, 3]"),
    "a video": (torch.rand(1, 2, 32, 32, 3), "[1, 2, 32, 32, 3]"),
    "grey": (torch.rand(1, 32, 32, 1), "[1, 32, 32, 1]"),
    "two channels": (torch.rand(1, 32, 32, 2), "[1, 32, 32, 2]"),
    "channels first": (torch.rand(1, 3, 32, 32)[:, :, :2, :2], "[1, 3, 2, 2]"),
    "bytes": ((PIXELS * 255).byte(), "uint8"),
    "truth values": (PIXELS > 0.5, "bool"),
    "complex": (PIXELS.to(torch.complex64), "complex64"),
    "0 to 255": (PIXELS * 255, "0 to 1"),
    "NaN": (PIXELS / 0 * 0, "NaN or infinity"),
    "infinite": (PIXELS / 0, "NaN or infinity"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images_into_vae_encode(pack, case):
    image, right = IMAGES[case]
    if isinstance(right, str):
        with pytest.raises(WorkerError, match=re.escape(right)) as caught:
            run(pack.nodes["OvisVAEEncode"], image=image)
        says(caught.value, "image")
        return
    (made,) = run(pack.nodes["OvisVAEEncode"], image=image)
    assert made["samples"].shape == right
    sent = pack.worker.received[-1]["image"]
    assert sent.min() >= 0 and sent.max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_image_on_the_gpu_is_encoded(pack):
    (made,) = run(pack.nodes["OvisVAEEncode"], image=PIXELS.cuda())
    assert made["samples"].shape == (2, 16, 4, 6)


# Latents

SAMPLES = torch.rand(2, 16, 4, 4)
LATENTS = {
    "as they are": ({"samples": SAMPLES}, None),
    "empty ones of another model": ({"samples": torch.zeros(1, 4, 4, 4)}, None),
    "empty ones of 16 pixels": (
        {"samples": torch.zeros(1, 128, 2, 2), "downscale_ratio_spacial": 16},
        None,
    ),
    "no mask": (latent(noise_mask=None, batch_index=None), None),
    "a mask": (latent(noise_mask=torch.ones(1, 4, 4)), None),
    "a mask of pixels": (latent(noise_mask=torch.ones(1, 1, 32, 32)), None),
    "a mask of two dimensions": (latent(noise_mask=torch.ones(32, 32)), None),
    "masks for a larger batch": (latent(noise_mask=torch.ones(3, 32, 32)), None),
    "a mask of another shape": (latent(noise_mask=torch.ones(1, 7, 3)), None),
    "draws": (latent(batch_index=[3]), None),
    "draws in a tensor": (latent(batch_index=torch.tensor([3])), None),
    "half precision": ({"samples": SAMPLES.half()}, None),
    "four channels": ({"samples": torch.rand(1, 4, 4, 4)}, "[1, 4, 4, 4]"),
    "a video's": ({"samples": torch.rand(1, 16, 2, 4, 4)}, "[1, 16, 2, 4, 4]"),
    "one without a batch": ({"samples": torch.rand(16, 4, 4)}, "[16, 4, 4]"),
    "no batch": ({"samples": torch.rand(0, 16, 4, 4)}, "[0, 16, 4, 4]"),
    "no height": ({"samples": torch.rand(1, 16, 0, 4)}, "[1, 16, 0, 4]"),
    "whole numbers": ({"samples": torch.ones(1, 16, 4, 4, dtype=torch.int32)}, "int32"),
    "a list of samples": ({"samples": [SAMPLES]}, "list"),
    "no samples": ({"audio": SAMPLES}, "latent"),
    "NaN": ({"samples": SAMPLES / 0 * 0}, "NaN or infinity"),
    "a ratio of nothing": (
        {"samples": torch.zeros(1, 16, 4, 4), "downscale_ratio_spacial": None},
        "downscale_ratio_spacial",
    ),
    "masks for nobody": (latent(noise_mask=torch.ones(0, 4, 4)), "[0, 4, 4]"),
    "a mask of one dimension": (latent(noise_mask=torch.ones(4)), "[4]"),
    "a mask of five dimensions": (latent(noise_mask=torch.ones(1, 1, 1, 4, 4)), "noise_mask"),
    "a mask of whole numbers": (latent(noise_mask=torch.ones(1, 4, 4).int()), "int32"),
    "a mask of NaN": (latent(noise_mask=torch.ones(1, 4, 4) / 0), "NaN or infinity"),
    "a mask that is a number": (latent(noise_mask=1.0), "noise_mask"),
    "too many draws": (latent(batch_index=[1, 2]), "batch_index"),
    "no draws": (latent(batch_index=[]), "batch_index"),
    "draws of nothing": (latent(batch_index=[None]), "batch_index"),
    "a draw before the first": (latent(batch_index=[-1]), "batch_index"),
    "draws as a text": (latent(batch_index="1"), "batch_index"),
    "a number for draws": (latent(batch_index=1), "batch_index"),
}


@pytest.mark.parametrize("case", LATENTS)
@pytest.mark.parametrize("node", ["OvisDenoise", "OvisDenoiseAdvanced", "OvisContactSheet"])
def test_latents_into_denoising(pack, node, case):
    given, wrong = LATENTS[case]
    if wrong is None:
        assert run(pack.nodes[node], latent=given)
        return
    with pytest.raises(WorkerError, match=re.escape(wrong)) as caught:
        run(pack.nodes[node], latent=given)
    says(caught.value, "latent" if "noise_mask" not in caught.value.message else "mask")


# Conditionings

TENSOR = torch.rand(1, 4, WIDTH)
CONDITIONINGS = {
    "without a pooled output": ([[TENSOR, {}]], None),
    "as tuples": (((TENSOR, {}),), None),
    "with what has no effect": ([[TENSOR, {"guidance": 3.5, "strength": 1.0}]], None),
    "a batch": ([[torch.rand(2, 4, WIDTH), {}]], None),
    "half precision": ([[TENSOR.bfloat16(), {}]], None),
    "nothing": ([], "0 entries"),
    "two": ([[TENSOR, {}], [TENSOR, {}]], "2 entries"),
    "another width": ([[torch.rand(1, 4, 8), {}]], "has the width 8"),
    "two dimensions": ([[torch.rand(4, WIDTH), {}]], "[4, 32]"),
    "no tokens": ([[torch.rand(1, 0, WIDTH), {}]], "[1, 0, 32]"),
    "no tensor": ([[None, {}]], "None"),
    "no dictionary": ([[TENSOR]], "list"),
    "a number beside it": ([[TENSOR, 1]], "list"),
    "an area": ([[TENSOR, {"area": (1, 1, 0, 0)}]], "area"),
    "a strength in a tensor": ([[TENSOR, {"strength": torch.ones(2)}]], "strength"),
    "keys of all types": ([[TENSOR, {1: 1, "area": 2, None: 3}]], "area"),
    "NaN": ([[TENSOR / 0 * 0, {}]], "NaN or infinity"),
}


@pytest.mark.parametrize("case", CONDITIONINGS)
@pytest.mark.parametrize("name", ["positive", "negative"])
@pytest.mark.parametrize("node", ["OvisDenoise", "OvisDenoiseAdvanced", "OvisContactSheet"])
def test_conditionings_into_denoising(pack, node, name, case):
    given, wrong = CONDITIONINGS[case]
    if wrong is None:
        assert run(pack.nodes[node], **{name: given})
        return
    with pytest.raises(WorkerError, match=re.escape(wrong)) as caught:
        run(pack.nodes[node], **{name: given})
    says(caught.value, name)


# Previews, which never fail a job


@pytest.mark.parametrize(
    ("width", "height", "size"), [(2, 2, 12), (2, 2, 11), (2, 2, 0), (0, 0, 0), (1 << 31, 2, 12)]
)
def test_a_preview_that_is_no_picture_is_not_shown(pack, width, height, size):
    from comfy_node.nodes.previews import DenoiseBar

    bar = DenoiseBar("7", 2)
    bar.show(wire.Preview(bytes(16), 1, width, height, bytes(size)))
    assert (bar._preview is not None) == (size == 12 and width == 2)
    bar.show(wire.Progress(bytes(16), 1, 2, 0.5, 1.0))


# Samplers and sigmas


def native(name: str = "sample_euler", **options: object) -> fake_comfy.KSAMPLER:
    import comfy.k_diffusion.sampling as sampling

    return fake_comfy.KSAMPLER(getattr(sampling, name), options)


@pytest.mark.parametrize(
    ("made", "wrong"),
    [
        (lambda: native(), None),
        (lambda: native(s_churn=0.0, s_noise=2.0), None),
        (lambda: native("sample_lms", order=3), None),
        (lambda: native("sample_lms", order="three"), "custom_sampler.order"),
        (lambda: native("sample_lms", order=float("nan")), "custom_sampler.order"),
        (lambda: native(s_churn=torch.ones(2)), "s_churn"),
        (lambda: native(**{"x" * 500: 1}), "xxx"),
        (lambda: fake_comfy.KSAMPLER([]), "no equivalent of the connected sampler"),
        (lambda: fake_comfy.KSAMPLER(None), "no equivalent of the connected sampler"),
    ],
)
def test_native_samplers(pack, made, wrong):
    node = pack.nodes["OvisDenoiseAdvanced"]
    if wrong is None:
        assert run(node, custom_sampler=made())
        return
    with pytest.raises(WorkerError, match=wrong) as caught:
        run(node, custom_sampler=made())
    says(caught.value, wrong)


@pytest.mark.parametrize(
    ("values", "works"),
    [
        (torch.tensor([1.0, 0.5, 0.0]), True),
        (torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), True),
        (torch.tensor([]), True),  # no steps, which ComfyUI accepts
        (torch.tensor([14.6, 0.0]), False),
        (torch.tensor([0.0, 1.0]), False),
        (torch.tensor([float("nan"), 0.0]), False),
        (torch.tensor([[1.0, 0.0]]), False),
        (torch.tensor([1, 0]), False),
        ([1.0, 0.0], False),
    ],
)
def test_sigmas(pack, values, works):
    node = pack.nodes["OvisDenoiseAdvanced"]
    if works:
        assert run(node, sigmas=values)
        return
    with pytest.raises(WorkerError) as caught:
        run(node, sigmas=values)
    says(caught.value, "igmas")


@pytest.mark.parametrize(
    "lists",
    [
        {"seeds": "9" * 5000},
        {"seeds": f"1-{'9' * 5000}"},
        {"seeds": "5-1"},
        {"seeds": "0-64"},
        {"cfg": "1e999"},
        {"cfg": "nan"},
        {"steps": "0"},
        {"steps": "1,,a"},
        {"columns": "rows"},
    ],
)
def test_lists_of_a_contact_sheet(pack, lists):
    (name,) = lists
    with pytest.raises(WorkerError) as caught:
        run(pack.nodes["OvisContactSheet"], **lists)
    says(caught.value, "images" if "0-64" in lists.values() else name)
