"""Every kind of value that a link can bring into a node: it works, or one sentence names the input.

ComfyUI checks no value that comes through a link of a wildcard type. The table lists for every
input of every node which kinds of values it accepts.
"""

from __future__ import annotations

import asyncio
import re
import types

import numpy as np
import pytest
import torch

import fake_comfy
from comfy_node.settings.config import ENVIRONMENT
from comfy_node.texts import WorkerError
from comfy_node.wire import Priority
from comfy_node.worker import client as clients
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
STACKS = {"none", "an empty list"}

# The kinds of values that each input accepts. The image of 32 × 32 is valid for every IMAGE.
NODES = {
    "OvisWorker": {"worker": set(), "priority": set(), "model": {"an empty text"}},
    "OvisPromptTemplate": {
        "template": set(),
        **{box: PLAIN_TEXT for box in ("headline", "style", "subject", "colours")},
    },
    "OvisEncode": {
        "worker": set(),
        "prompt": PLAIN_TEXT,
        "max_sequence_length": WHOLE,
        "lora": STACKS,
    },
    "OvisLora": {
        "adapter": PLAIN_TEXT,
        "strength": WHOLE | FRACTIONS | {"minus one"},
        "text_factor": WHOLE | FRACTIONS | {"minus one"},
        "start": WHOLE | FRACTIONS,
        "end": WHOLE | FRACTIONS,
        "blocks": {"an empty text"},
        "hash": PLAIN_TEXT,
        "lora": STACKS,
    },
    "OvisEmptyLatent": {
        "aspect_ratio": WHOLE | FRACTIONS,
        "megapixels": WHOLE | FRACTIONS,
        "batch_size": WHOLE,
        "preset": set(),
        "width": set(),
        "height": set(),
    },
    "OvisKSampler": {
        "worker": set(),
        "seed": WHOLE,
        "steps": WHOLE,
        "cfg": WHOLE | FRACTIONS,
        "sampler_name": set(),
        "scheduler": set(),
        "positive": set(),
        "latent_image": set(),
        "denoise": WHOLE | FRACTIONS,
        "negative": set(),
        "quality": set(),
        "shift": WHOLE | FRACTIONS,
        "cache": set(),
        "lora": STACKS,
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
    "OvisKSamplerAdvanced": {
        "worker": set(),
        "positive": set(),
        "latent_image": set(),
        "add_noise": set(),
        "noise_seed": WHOLE,
        "steps": WHOLE,
        "cfg": WHOLE | FRACTIONS,
        "sampler_name": set(),
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
        "lora": STACKS,
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
    "OvisVAEDecode": {"samples": set(), "worker": set()},
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
    """The nodes by name, with a fake worker called `local`."""
    patch = pytest.MonkeyPatch()
    patch.setattr(clients, "_clients", {})
    for name in ENVIRONMENT.values():
        patch.delenv(name, raising=False)
    base, fake = tmp_path_factory.mktemp("comfyui"), FakeWorker(models=("default", "fast"))
    with fake_comfy.installed(base) as nodes, fake:
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
    """Valid values for every required input, overridden by ``changes``."""
    common = {
        "worker": "local",
        "positive": conditioning(),
        "negative": conditioning(),
        "latent": latent(),
        "latent_image": latent(),
        "samples": latent(),
        "seed": 1,
        "noise_seed": 1,
        "steps": 2,
        "cfg": 5.0,
        "denoise": 1.0,
        "shift": 0.0,
        "sampler": "euler",
        "sampler_name": "euler",
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
        "adapter": "a.safetensors",
        "strength": 1.0,
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
    """Runs a node as ComfyUI would, with valid values overridden by ``changes``."""
    given = inputs_of(node, **changes)

    async def whole() -> object:
        made = node.execute(**given)
        if asyncio.iscoroutine(made):
            made = await asyncio.wait_for(made, TIMEOUT)
        return made

    return asyncio.run(whole()).values


def says(error: WorkerError, name: str) -> None:
    """Checks that there is one sentence in each language that names the input, and a hint."""
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
    for given in ({}, {"priority": "normal"}, {"model": "default"}, {"model": ""}):
        (label,) = run(pack.nodes["OvisWorker"], **given)
        assert type(label) is str and label == "local"


@pytest.mark.parametrize("priority", ["low", "normal", "high"])
def test_a_priority_goes_with_the_label_to_every_job(pack, priority):
    (label,) = run(pack.nodes["OvisWorker"], priority=priority)
    assert label == "local" and label.encode() == b"local"
    run(pack.nodes["OvisEncode"], worker=label, prompt=f"of {priority} priority")
    assert pack.worker.submitted[-1].options.priority.name == priority.upper()


def test_a_model_goes_with_the_label_to_every_job(pack):
    worker = pack.nodes["OvisWorker"]
    (label,) = run(worker, model="fast", priority="high")
    assert label == "local" and label.encode() == b"local"
    run(pack.nodes["OvisEncode"], worker=label, prompt="for another model")
    sent = pack.worker.submitted[-1].options
    assert (sent.model, sent.priority) == ("fast", Priority.HIGH)
    (label,) = run(worker, model="default")
    run(pack.nodes["OvisEncode"], worker=label, prompt="for the default")
    assert pack.worker.submitted[-1].options.model is None


def test_a_model_that_the_worker_lacks_is_named_with_those_it_has(pack):
    with pytest.raises(WorkerError) as error:
        run(pack.nodes["OvisWorker"], model="slow")
    assert error.value.message.endswith("no model called `slow`.")
    assert error.value.hint.startswith("It has: default, fast.")


# One interrupt for a whole list


def test_an_interrupt_cancels_every_job_of_the_prompt(pack, monkeypatch):
    monkeypatch.setattr(pack.worker, "step_seconds", 0.05)
    node = pack.nodes["OvisDenoise"]
    begun, cancelled = len(pack.worker.submitted), len(pack.worker.cancelled)

    async def prompt() -> list:
        # ComfyUI maps a list over a node as concurrent tasks of one loop.
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
