"""The node Ovis LoRA, the inputs that take its stack, and the routes behind its chooser."""

from __future__ import annotations

import asyncio
import json
import types

import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import fake_comfy
from comfy_node import wire
from comfy_node.routes import adapters as routes
from comfy_node.settings import lookup
from comfy_node.settings.config import ENVIRONMENT, ComfyFolders
from comfy_node.texts import WorkerError
from comfy_node.worker import adapters as known
from comfy_node.worker import client as clients
from fake_worker import WIDTH, FakeWorker

PNG = b"\x89PNG\r\n\x1a\n"
HASH = bytes(range(32))


def info(name: str, **fields: object) -> wire.AdapterInfo:
    usual = {
        "bytes": 7,
        "hash": HASH,
        "kind": "lora",
        "rank": 4,
        "title": None,
        "triggers": [],
        "parts": ["transformer"],
    }
    return wire.AdapterInfo(name, **usual | fields)


LISTED = [
    info("b.safetensors"),
    info("styles/a.safetensors", title="A", triggers=["neon"], preview=PNG),
]


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """The nodes by name, with a fake worker called `local`."""
    monkeypatch.setattr(clients, "_clients", {})
    monkeypatch.setattr(known, "_lists", {})
    for name in ENVIRONMENT.values():
        monkeypatch.delenv(name, raising=False)
    with fake_comfy.installed(tmp_path) as nodes, FakeWorker() as fake:
        fake.adapters = list(LISTED)
        monkeypatch.setenv("OVIS_WORKER_URL", fake.url)
        listed = asyncio.run(nodes.OvisExtension().get_node_list())
        by_name = {node.define_schema().node_id: node for node in listed}
        yield types.SimpleNamespace(nodes=by_name, worker=fake)
        for client in clients._clients.values():
            client.close()


def run(node: type, **values: object) -> object:
    made = node.execute(**values)
    if asyncio.iscoroutine(made):
        made = asyncio.run(asyncio.wait_for(made, 20))
    return made.values[0]


def ask(path: str) -> tuple[int, str, bytes]:
    """Status, type and body of an answer of the routes."""

    async def question() -> tuple[int, str, bytes]:
        table = web.RouteTableDef()
        routes.add_routes(table, ComfyFolders)
        app = web.Application()
        app.add_routes(table)
        async with (
            TestClient(TestServer(app)) as client,
            client.get(f"/ovis-worker/workers/{path}") as answer,
        ):
            return answer.status, answer.content_type, await answer.read()

    return asyncio.run(asyncio.wait_for(question(), 20))


def test_nodes_are_chained_to_a_stack(pack) -> None:
    node = pack.nodes["OvisLora"]
    first = run(node, adapter="b.safetensors", strength=0.5, hash=HASH.hex().upper())
    assert first == [wire.AdapterUse("b.safetensors", HASH, 0.5, 0.5)]
    second = run(
        node, adapter="styles/a.safetensors", strength=-2.0, text_factor=0.25, start=0.9, end=0.1,
        blocks="1, 0.5;0", hash="not a hash", lora=first,
    )  # fmt: skip
    interval = wire.SigmaInterval(0.9, 0.1)
    added = wire.AdapterUse("styles/a.safetensors", None, -2.0, -0.5, interval, [1.0, 0.5, 0.0])
    assert second == [*first, added]
    assert len(first) == 1, "a stack is not changed by the node after it"
    for off in ({"adapter": "", "strength": 1.0}, {"adapter": "b.safetensors", "strength": 0.0}):
        assert run(node, **off, lora=first) == first
    assert run(node, adapter="", strength=1.0) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"adapter": "../x"}, "not the name of an adapter"),
        ({"strength": 2.5}, "strength"),
        ({"start": 0.1, "end": 0.5}, "below end"),
        ({"blocks": "1, x"}, "blocks"),
        ({"blocks": "101"}, "blocks"),
        ({"lora": "x"}, "lora"),
        ({"lora": [wire.AdapterUse("x")] * wire.MAX_ADAPTERS}, "at most 16 adapters"),
    ],
)
def test_values_out_of_range_are_refused(pack, values: dict, words: str) -> None:
    with pytest.raises(WorkerError, match=words) as raised:
        run(pack.nodes["OvisLora"], **{"adapter": "b.safetensors", "strength": 1.0} | values)
    assert raised.value.hint


def test_the_output_goes_where_the_input_comes_from(pack) -> None:
    """A bypassed node passes the input of its output's type on."""
    schema = pack.nodes["OvisLora"].define_schema()
    (output,) = schema.outputs
    last = schema.inputs[-1]
    assert (last.id, last.kind, last.optional) == ("lora", output.kind, True)
    for name in ("OvisEncode", "OvisKSampler", "OvisKSamplerAdvanced"):
        last = pack.nodes[name].define_schema().inputs[-1]
        assert (last.id, last.kind, last.optional) == ("lora", output.kind, True)


def test_jobs_carry_the_stack(pack) -> None:
    stack = [wire.AdapterUse("b.safetensors", HASH, 0.5, 0.5)]
    conditioning = run(
        pack.nodes["OvisEncode"], worker="local", prompt="a", max_sequence_length=16, lora=stack
    )
    common = {
        "worker": "local",
        "positive": conditioning,
        "latent_image": {"samples": torch.zeros(1, 16, 4, 4)},
        "steps": 1,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "flux",
        "lora": stack,
    }
    assert conditioning[0][0].shape[2] == WIDTH
    run(pack.nodes["OvisKSampler"], **common, seed=1, denoise=1.0)
    part = {"add_noise": "enable", "noise_seed": 2, "start_at_step": 0, "end_at_step": 9}
    run(pack.nodes["OvisKSamplerAdvanced"], **common, **part, return_with_leftover_noise="disable")
    requests = [submit.request for submit in pack.worker.submitted]
    assert [request.adapters for request in requests] == [stack] * 3
    run(pack.nodes["OvisEncode"], worker="local", prompt="b", max_sequence_length=16)
    assert pack.worker.submitted[-1].request.adapters == []


def test_the_chooser_is_filled_from_the_worker(pack) -> None:
    def options() -> list[str]:
        return pack.nodes["OvisLora"].define_schema().inputs[0].settings["options"]

    assert options() == [""]
    clients.client_for(lookup.resolve("local", ComfyFolders())).connect().result(20)
    status, kind, body = ask("local/adapters")
    assert (status, kind) == (200, "application/json")
    listed = json.loads(body)["adapters"]
    assert [one["name"] for one in listed] == ["b.safetensors", "styles/a.safetensors"]
    assert listed[1] == {
        "name": "styles/a.safetensors",
        "hash": HASH.hex(),
        "kind": "lora",
        "rank": 4,
        "bytes": 7,
        "title": "A",
        "triggers": ["neon"],
        "parts": ["transformer"],
        "has_picture": True,
    }
    assert ask("local/adapters/picture?name=styles/a.safetensors") == (200, "image/png", PNG)
    assert ask("local/adapters/picture?name=b.safetensors")[0] == 400
    assert options() == ["", "b.safetensors", "styles/a.safetensors"]


def test_a_worker_that_does_not_run_is_not_started(pack, monkeypatch) -> None:
    monkeypatch.setenv("OVIS_WORKER_URL", "ws://127.0.0.1:9")
    status, _, body = ask("local/adapters")
    assert status == 400 and b"error" in body
    assert ask("elsewhere/adapters")[0] == 400
