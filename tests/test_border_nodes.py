"""Everything that a link can bring into a node: it works, or one sentence names the input.

ComfyUI checks no value that comes through a link of any type. The table holds every
input of every node, and for every kind of value whether the input takes it.
"""

from __future__ import annotations

import asyncio
import re
import types

import numpy as np
import pytest
import torch

import fake_comfy
from comfy_node import client as clients
from comfy_node.errors import WorkerError
from comfy_node.settings import ENVIRONMENT
from fake_worker import WIDTH, FakeWorker

CJK = re.compile("[\u4e00-\u9fff]")
TIMEOUT = 20

VALUES = {
    "none": None,
    "true": True,
    "one": 1,
    "minus one": -1,
    "a huge number": 10**400,
    "1.0": 1.0,
    "0.5": 0.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "a NumPy integer": np.int64(1),
    "a NumPy float": np.float32(0.5),
    "a text": "x",
    "an empty text": "",
    "half a character": "\ud800",
    "a text of a megabyte": "x" * (1 << 20) + "x",
    "bytes": b"x",
    "an empty list": [],
    "a list": [1],
    "a list of nothing": [None],
    "a list in a list": [[]],
    "a tuple": (1, 2),
    "a dictionary": {},
    "a set": {1},
    "samples of nothing": {"samples": None},
    "a number in a tensor": torch.tensor(1.0),
    "a vector": torch.tensor([1.0, 0.5, 0.0]),
    "an image": torch.rand(1, 32, 32, 3),
    "whole numbers in a tensor": torch.ones(1, 32, 32, 3, dtype=torch.int64),
    "a sparse tensor": torch.eye(3).to_sparse(),
    "a tensor without memory": torch.empty(1, 32, 32, 3, device="meta"),
    "an object": object(),
    "a function": len,
    "a class": dict,
}
LABELS = {"a text", "half a character", "a text of a megabyte", "an empty text"}
WHOLE = {"one", "1.0", "a NumPy integer"}
FRACTIONS = {"0.5", "a NumPy float"}
PLAIN_TEXT = {"a text", "an empty text"}

# What each input takes of these. The image of 32 × 32 is one for every IMAGE.
NODES = {
    "OvisWorker": {"worker": set()},
    "OvisPromptTemplate": {
        "template": set(),
        **{box: PLAIN_TEXT for box in ("headline", "style", "subject", "colours")},
    },
    "OvisEncode": {"worker": set(), "prompt": PLAIN_TEXT, "max_sequence_length": WHOLE},
    "OvisEmptyLatent": {
        "aspect_ratio": WHOLE | FRACTIONS,
        "megapixels": WHOLE | FRACTIONS,
        "batch_size": WHOLE,
        "preset": set(),
    },
    "OvisDenoise": {
        "worker": set(),
        "positive": set(),
        "latent": set(),
        "seed": WHOLE,
        "steps": WHOLE,
        "cfg": WHOLE | FRACTIONS,
        "denoise": WHOLE | FRACTIONS,
        "shift": WHOLE | FRACTIONS,
        "negative": set(),
        "sampler": set(),
        "scheduler": set(),
        "cache": set(),
    },
    "OvisDenoiseAdvanced": {
        "worker": set(),
        "positive": set(),
        "latent": set(),
        "add_noise": set(),
        "noise_seed": WHOLE,
        "steps": WHOLE,
        "cfg": WHOLE | FRACTIONS,
        "sampler": set(),
        "scheduler": set(),
        "shift": WHOLE | FRACTIONS,
        "start_at_step": WHOLE,
        "end_at_step": WHOLE,
        "return_with_leftover_noise": set(),
        "negative": set(),
        "custom_sampler": {"none"},
        "sigmas": {"none", "a vector"},
        "cache": set(),
        "guidance_start": WHOLE | FRACTIONS,
        "guidance_end": WHOLE | FRACTIONS,
    },
    "OvisDecode": {"worker": set(), "latent": set()},
    "OvisVAEEncode": {"worker": set(), "image": {"an image"}},
    "OvisContactSheet": {
        "worker": set(),
        "positive": set(),
        "latent": set(),
        "seeds": set(),
        "steps": set(),
        "cfg": set(),
        "columns": set(),
        "cell_size": WHOLE,
        "sampler": set(),
        "scheduler": set(),
        "shift": WHOLE | FRACTIONS,
        "negative": set(),
    },
    "OvisCompare": {
        "before": {"an image"},
        "after": {"an image"},
        "layout": set(),
        "position": WHOLE | FRACTIONS,
        "gain": WHOLE,
        "before_label": PLAIN_TEXT,
        "after_label": PLAIN_TEXT,
    },
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """The nodes by name, on a fake worker called `local`."""
    patch = pytest.MonkeyPatch()
    patch.setattr(clients, "_clients", {})
    for name in ENVIRONMENT.values():
        patch.delenv(name, raising=False)
    with fake_comfy.installed(tmp_path_factory.mktemp("comfyui")) as nodes, FakeWorker() as fake:
        patch.setenv("OVIS_WORKER_URL", fake.url)
        listed = asyncio.run(nodes.OvisExtension().get_node_list())
        by_name = {node.define_schema().node_id: node for node in listed}
        yield types.SimpleNamespace(nodes=by_name, worker=fake)
        for client in clients._clients.values():
            client.close()
    patch.undo()


def conditioning(width: int = WIDTH) -> list:
    return [[torch.rand(1, 4, width), {"pooled_output": None}]]


def latent(**more: object) -> dict:
    return {"samples": torch.rand(1, 16, 4, 4), **more}


def inputs_of(node: type, **changes: object) -> dict:
    """Values that work for every required input, and those of ``changes``."""
    common = {
        "worker": "local",
        "positive": conditioning(),
        "negative": conditioning(),
        "latent": latent(),
        "seed": 1,
        "noise_seed": 1,
        "steps": 2,
        "cfg": 5.0,
        "denoise": 1.0,
        "shift": 0.0,
        "sampler": "euler",
        "scheduler": "flux",
        "add_noise": "enable",
        "return_with_leftover_noise": "disable",
        "start_at_step": 0,
        "end_at_step": 10_000,
        "image": torch.rand(1, 32, 32, 3),
        "before": torch.rand(1, 32, 32, 3),
        "after": torch.rand(1, 32, 32, 3),
        "layout": "split",
        "position": 0.5,
        "gain": 1.0,
        "before_label": "",
        "after_label": "",
        "prompt": "a",
        "max_sequence_length": 16,
        "template": "poster",
        "headline": "",
        "style": "",
        "subject": "",
        "colours": "",
        "aspect_ratio": 1.0,
        "megapixels": 0.1,
        "batch_size": 1,
        "seeds": "1",
        "columns": "seeds",
        "cell_size": 32,
    }
    if node.__name__ == "OvisContactSheet":
        common |= {"steps": "2", "cfg": "5"}
    names = [one.id for one in node.define_schema().inputs]
    return {name: common[name] for name in names if name in common} | changes


def run(node: type, **changes: object) -> tuple:
    """What the node gives for working values and ``changes``, as ComfyUI would run it."""
    given = inputs_of(node, **changes)

    async def whole() -> object:
        made = node.execute(**given)
        if asyncio.iscoroutine(made):
            made = await asyncio.wait_for(made, TIMEOUT)
        return made

    return asyncio.run(whole()).values


def says(error: WorkerError, name: str) -> None:
    """One sentence in each language that names the input, and a hint."""
    assert name in error.message, error.message
    assert "\n" not in error.message and len(error.message) < 600
    assert error.message.endswith(".") and error.hint
    for line in error.text("zh").splitlines():
        assert CJK.search(line), line


def test_the_table_holds_every_input_of_every_node(pack):
    schemas = {name: node.define_schema() for name, node in pack.nodes.items()}
    there = {name: {one.id for one in schema.inputs} for name, schema in schemas.items()}
    assert there == {name: set(inputs) for name, inputs in NODES.items()}


CASES = [
    (node, name, value) for node, inputs in NODES.items() for name in inputs for value in VALUES
]


@pytest.mark.parametrize(("node", "name", "value"), CASES)
def test_any_value_works_or_is_refused_with_a_sentence(pack, node, name, value):
    kinds = NODES[node][name]
    if value in kinds or (name == "worker" and value == "an empty text"):  # blank means `local`
        assert run(pack.nodes[node], **{name: VALUES[value]})
        return
    with pytest.raises(WorkerError) as caught:
        run(pack.nodes[node], **{name: VALUES[value]})
    says(caught.value, name)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("check", ["validate_inputs", "fingerprint_inputs"])
@pytest.mark.parametrize("node", NODES)
def test_what_comfyui_asks_before_a_node_runs_never_raises(pack, node, check, value):
    ask = getattr(pack.nodes[node], check, None)
    if ask is None:
        return
    names = ask.__code__.co_varnames[1 : ask.__code__.co_argcount]
    for name in names:
        given = {key: one for key, one in inputs_of(pack.nodes[node]).items() if key in names}
        answer = ask(**(given | {name: VALUES[value]}))
        assert check != "validate_inputs" or answer is True or isinstance(answer, str)


def test_a_worker_comes_out_as_its_label_alone(pack):
    (label,) = run(pack.nodes["OvisWorker"])
    assert type(label) is str and label == "local"


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
    "another width": ([[torch.rand(1, 4, 8), {}]], "8 wide"),
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
        (lambda: fake_comfy.KSAMPLER([]), "no sampler like"),
        (lambda: fake_comfy.KSAMPLER(None), "no sampler like"),
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
        (torch.tensor([]), True),  # no step, as ComfyUI has it
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


# One interrupt for a whole list


def test_an_interrupt_cancels_every_job_of_the_prompt(pack, monkeypatch):
    monkeypatch.setattr(pack.worker, "step_seconds", 0.05)
    node = pack.nodes["OvisDenoise"]
    begun, cancelled = len(pack.worker.submitted), len(pack.worker.cancelled)

    async def prompt() -> list:
        # As ComfyUI maps a list over a node: tasks of one loop.
        tasks = [asyncio.create_task(node.execute(**inputs_of(node, steps=900))) for _ in range(4)]
        while len(pack.worker.submitted) < begun + 4:
            await asyncio.sleep(0.01)
        fake_comfy.Interrupt.wanted = True
        return await asyncio.gather(*tasks, return_exceptions=True)

    ended = asyncio.run(asyncio.wait_for(prompt(), TIMEOUT))
    assert [type(one) for one in ended] == [fake_comfy.InterruptProcessingException] * 4
    assert not fake_comfy.Interrupt.wanted
    deadline = 200
    while len(pack.worker.cancelled) < cancelled + 4 and deadline:
        deadline -= 1
        asyncio.run(asyncio.sleep(0.01))
    assert len(pack.worker.cancelled) == cancelled + 4
    monkeypatch.undo()
    assert run(node), "the next prompt is none of it"
