"""Errors at a node's inputs, with lists, on the network and at ComfyUI's routes, in a real ComfyUI.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest

from comfy_server import WIDGETS
from real_comfyui import SETTINGS, comfy, graph, latents_of, link, undecoded
from real_worker import RealWorker
from silent_proxy import SilentProxy
from test_comfyui_older_graphs import PLACES

FIXTURES = (comfy,)  # pytest finds it by name

# Any value into any input

KINDS = ("none", "int", "list", "dict", "tensor")
SOCKETS = {
    "OvisWorker": "",
    "OvisLora": "lora",
    "OvisPromptTemplate": "",
    "OvisEncode": "worker lora",
    "OvisEmptyLatent": "",
    "OvisKSampler": "worker positive negative latent_image lora",
    "OvisKSamplerAdvanced": "worker positive negative latent_image custom_sampler sigmas lora",
    "OvisVAEDecode": "worker samples",
    "OvisDenoise": "worker positive negative latent",
    "OvisDenoiseAdvanced": "worker positive negative latent custom_sampler sigmas",
    "OvisDecode": "worker latent",
    "OvisVAEEncode": "worker image",
    "OvisContactSheet": "worker positive negative latent",
    "OvisCompare": "before after",
}
"""The inputs that are no widgets, by node; the others are those of ``PLACES``."""
BORDERS = [(node, name) for node in SOCKETS for name in f"{SOCKETS[node]} {PLACES[node]}".split()]
FEEDS = {
    "OVIS_WORKER": link("worker"),
    "CONDITIONING": link("positive"),
    "LATENT": link("empty"),
    "IMAGE": link("picture"),
}
SMALL = {"seeds": "1", "steps": 1, "cfg": 5, "megapixels": 0.05, "end_at_step": 1}


def inputs_of(info: dict) -> dict[str, tuple[str, object, dict, bool]]:
    """A node's inputs: type, options of a combo, settings, and whether the input is required."""
    found = {}
    for group in ("required", "optional"):
        for name, (kind, *settings) in info["input"].get(group, {}).items():
            told = settings[0] if settings else {}
            options = kind if isinstance(kind, list) else told.get("options")
            found[name] = ("COMBO" if options else kind, options, told, group == "required")
    return found


def test_the_table_has_every_input_of_every_node(comfy):
    assert set(SOCKETS) == set(comfy.ours)
    for name, info in comfy.ours.items():
        assert set(f"{SOCKETS[name]} {PLACES[name]}".split()) == set(inputs_of(info)), name


def with_any(comfy, node: str, name: str, kind: str) -> dict:
    """A valid graph with an arbitrary value in one input of the node."""
    inputs = {}
    for other, (type_, options, told, required) in inputs_of(comfy.info[node]).items():
        if type_ in WIDGETS:
            default = told.get("default", options[0] if options else "")
            inputs[other] = SMALL.get(other, default)
        elif required or other == "negative":
            inputs[other] = FEEDS[type_]
    if node == "OvisContactSheet":
        inputs |= {"steps": "1", "cfg": "5"}
    if node == "OvisWorker":
        inputs["worker"] = "local"
    common = graph()
    return {
        **{one: common[one] for one in ("worker", "positive", "empty")},
        "picture": {"class_type": "EmptyImage", "inputs": PICTURE},
        "any": {"class_type": "AnyValue", "inputs": {"kind": kind}},
        "tried": {"class_type": node, "inputs": inputs | {name: link("any")}},
        "end": {"class_type": "EndOfAnything", "inputs": {"value": link("tried")}},
    }


PICTURE = {"width": 64, "height": 64, "batch_size": 1, "color": 0x808080}


def may_be_taken(comfy, node: str, name: str, kind: str) -> bool:
    """Whether the value can be valid for the input."""
    type_, _, _, required = inputs_of(comfy.info[node])[name]
    if kind == "int":
        return type_ in ("INT", "FLOAT")
    # An optional input without a link gets no value.
    return kind == "none" and not required


@pytest.mark.parametrize(("node", "name"), BORDERS, ids=lambda part: part)
def test_whatever_comes_into_an_input_the_prompt_ends_and_the_queue_goes_on(comfy, node, name):
    for kind in KINDS:
        run = comfy.run(with_any(comfy, node, name, kind))
        if run.of("execution_success"):
            assert may_be_taken(comfy, node, name, kind), f"{kind} was taken"
            continue
        (error,) = run.of("execution_error")
        assert error["node_type"] == node, (kind, run.error)
        assert error["exception_type"].startswith("ovis_worker."), (kind, error)
        sentence, *hint = run.error.strip().split("\n")
        assert sentence.endswith(".") and len(hint) <= 1, (kind, run.error)
        assert len(run.error) < 600, (kind, run.error)
        assert not re.search(r"Traceback|\w+Error\b|object at 0x|NoneType", run.error), run.error
    assert comfy.run(undecoded(graph())).of("execution_success")


def test_a_value_from_a_node_is_taken_where_it_fits(comfy):
    # Proves that the table above tells a refused value from a refused link.
    for node, name in (("OvisEmptyLatent", "batch_size"), ("OvisKSampler", "steps")):
        run = comfy.run(with_any(comfy, node, name, "int"))
        assert run.of("execution_success"), run.error


# A list of jobs


def health(comfy) -> dict:
    with urllib.request.urlopen(f"http://127.0.0.1:{comfy.worker_port}/health", timeout=30) as said:
        return json.loads(said.read())


@pytest.mark.parametrize("node", ["OvisKSampler", "OvisKSamplerAdvanced"])
def test_a_cancel_ends_every_job_of_a_list(comfy, node):
    assert comfy.run(graph(denoise__seed=300)).of("execution_success")
    made = undecoded(graph(denoise__steps=100, empty__width=512, empty__height=512))
    made["seeds"] = {"class_type": "ListOfSeeds", "inputs": {"first": 301, "count": 4}}
    made["denoise"]["inputs"]["seed"] = link("seeds")
    if node == "OvisKSamplerAdvanced":
        inputs = made["denoise"]["inputs"]
        del inputs["denoise"]
        inputs |= {
            "noise_seed": inputs.pop("seed"), "add_noise": "enable",
            "start_at_step": 0, "end_at_step": 10_000,
            "return_with_leftover_noise": "disable",
        }  # fmt: skip
        made["denoise"]["class_type"] = node
    seen: dict = {}

    def once_all_four_are_there(message: dict) -> str | None:
        if message["type"] != "progress" or "before" in seen:
            return None
        now = health(comfy)
        if now["running"] + now["queued"] < 4:
            return None
        seen["before"] = now
        seen["at"] = time.monotonic()
        return "/interrupt"

    run = comfy.run(made, once_all_four_are_there)
    assert "before" in seen, "the four were never there at once"
    assert run.of("execution_interrupted"), run.error
    deadline = time.monotonic() + 10
    while (now := health(comfy))["running"] + now["queued"]:
        assert time.monotonic() < deadline, f"still at work: {now}"
        time.sleep(0.1)
    assert time.monotonic() - seen["at"] < 15
    assert comfy.run(graph(denoise__seed=305)).of("execution_success")
    # The cancellation does not affect later prompts.
    again = {**made, "denoise": {**made["denoise"], "inputs": {**made["denoise"]["inputs"]}}}
    again["denoise"]["inputs"]["steps"] = 2
    assert comfy.run(again).of("execution_success")


# A silent network


@pytest.fixture
def far(comfy, tiny, tmp_path):
    """A worker behind a network that can be cut, with the label `far`."""
    log = tmp_path / "worker.log"
    worker = RealWorker(tiny / "diffusers", log, device="cpu", precision="f32")
    with worker:
        proxy = SilentProxy(int(worker.address.rpartition(":")[2]))
        comfy.post("/ovis-worker/workers/far/save", {"url": f"ws://127.0.0.1:{proxy.port}"})
        try:
            yield proxy
        finally:
            comfy.post("/ovis-worker/workers/far/remove", {})
            proxy.close()


# The second silence is longer than both sides' timeouts.
@pytest.mark.parametrize("seconds", [60, 110])
def test_the_graph_finishes_after_the_network_was_silent(comfy, far, seconds):
    size = {"empty__width": 256, "empty__height": 256, "denoise__steps": 100}
    made = undecoded(graph(worker__worker="far", denoise__seed=310 + seconds, **size))
    undisturbed = latents_of(comfy, comfy.run(made))
    # The same result without ComfyUI's cache: it has none for this equivalent empty latent.
    made["empty"]["class_type"] = "EmptyLatentImage"
    cut: list[float] = []

    def in_the_middle(message: dict) -> None:
        if message["type"] == "progress" and message["data"]["value"] > 10 and not cut:
            cut.append(time.monotonic())
            far.cut()
            threading.Timer(seconds, far.restore).start()

    run = comfy.run(made, in_the_middle)
    assert cut, "the job was done before the network could be cut"
    assert time.monotonic() - cut[0] >= seconds - 1, "it did not need the network"
    assert np.array_equal(latents_of(comfy, run), undisturbed)
    assert not run.texts or not run.texts[-1].strip(), "it is still said to be lost"
    assert comfy.run(undecoded(graph(worker__worker="far"))).of("execution_success")


# ComfyUI's own routes

TOKEN = "a-token-that-no-route-may-tell"


def ask(comfy, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    """The body of an answer, whatever its status."""
    address = f"http://127.0.0.1:{comfy.port}{path}"
    request = urllib.request.Request(address, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        return error.read()


@pytest.fixture
def secret(comfy):
    """A worker with a token, with the label `secret`."""
    saved = {"url": "ws://127.0.0.1:9", "token": TOKEN}
    comfy.post("/ovis-worker/workers/secret/save", saved)
    yield comfy.base / SETTINGS
    comfy.post("/ovis-worker/workers/secret/remove", {})


def ways_to(comfy, settings) -> list[str]:
    """Paths by which the file might be reached from a user's folder."""
    names = [
        "ovis_worker.json",
        "../__ovis_worker/ovis_worker.json",
        "__ovis_worker/ovis_worker.json",
        "../../user/__ovis_worker/ovis_worker.json",
        "workflows/../../__ovis_worker/ovis_worker.json",
        str(settings),
    ]
    names += [name.replace("/", "\\") for name in names]
    return names + [f"{name}.bak" for name in names]


@pytest.mark.parametrize("user", [None, "default", "__ovis_worker", "../__ovis_worker"])
def test_no_route_of_comfyui_reads_or_writes_the_settings(comfy, secret, user):
    # The backup of the settings is kept in the same folder.
    comfy.post("/ovis-worker/workers/secret/save", {"url": "ws://127.0.0.1:8"})
    before = secret.read_bytes()
    assert TOKEN.encode() in secret.with_name(f"{secret.name}.bak").read_bytes()
    assert TOKEN.encode() in before
    headers = {"comfy-user": user} if user else {}
    evil = json.dumps({"workers": {"local": {"binary": "/bin/false", "token": "x"}}}).encode()
    told = []
    for name in ways_to(comfy, secret):
        for quoted in (urllib.parse.quote(name, safe=""), urllib.parse.quote(name)):
            for prefix in ("", "/api"):
                path = f"{prefix}/userdata/{quoted}"
                told.append(ask(comfy, "GET", path, **headers))
                told.append(ask(comfy, "POST", f"{path}?overwrite=true", evil, **headers))
                told.append(ask(comfy, "POST", f"{path}/move/taken.json", b"", **headers))
                told.append(ask(comfy, "GET", f"{prefix}/userdata/taken.json", **headers))
                told.append(ask(comfy, "DELETE", path, **headers))
        quoted = urllib.parse.quote(name.rpartition("/")[0], safe="")
        told.append(ask(comfy, "GET", f"/userdata?dir={quoted}&recurse=true&full_info=true"))
        told.append(ask(comfy, "GET", f"/v2/userdata?path={quoted}", **headers))
        for kind in ("input", "output", "temp"):
            for folder in ("", "../user/__ovis_worker", "../__ovis_worker", secret.parent):
                asked = {"filename": name, "type": kind, "subfolder": str(folder)}
                told.append(ask(comfy, "GET", f"/view?{urllib.parse.urlencode(asked)}"))
    assert not any(TOKEN.encode() in answer for answer in told)
    assert secret.read_bytes() == before
    assert oct(secret.stat().st_mode & 0o777) == "0o600" or os.name == "nt"
    # Files that these routes can write are not read as settings.
    workers = comfy.get("/ovis-worker/workers")["workers"]
    (local,) = (one for one in workers if one["label"] == "local")
    assert local["settings"]["binary"] == "" and not local["described"]


def test_the_packs_own_routes_tell_no_token(comfy, secret):
    for path in ("", "/secret/status"):
        assert TOKEN.encode() not in ask(comfy, "GET", f"/ovis-worker/workers{path}")
