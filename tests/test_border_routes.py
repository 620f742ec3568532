"""Requests of every kind to the pack's routes: an answer or one sentence, never status 500.

Also access: only a browser on this machine can start programs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from multidict import CIMultiDict

from comfy_node.routes import guard, json_body
from comfy_node.settings import lookup
from comfy_node.settings.config import ComfyFolders
from comfy_node.settings.file import SETTINGS_FILE
from comfy_node.worker import process as worker_process
from comfy_node.worker.status import query_status
from fake_worker import FakeWorker
from test_client import FAKE, free_port
from test_routes import asking, describe, get, no_environment, post, script, until

FIXTURES = (no_environment,)  # pytest finds it by name
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in binary is a shell script")

GETS = ["workers", "workers/local/status"]
POSTS = {
    "language": {"client": "a", "language": "zh"},
    "advice": {"prompt": "a"},
    "compose": {"template": "poster", "boxes": {}},
    "workers/local/start": {},
    "workers/local/stop": {},
    "workers/a/save": {"url": "gpu:1"},
    "workers/a/remove": {},
}
LOCAL = [path for path in POSTS if path.startswith("workers/")]


def ask(user, method: str, path: str, data: bytes | None = None, **headers: str) -> tuple:
    """Status, body and headers of an answer."""

    async def question(client: TestClient) -> tuple:
        sent = {"Content-Type": "application/json"} if data is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"/ovis-worker/{path}"
        async with client.request(method, url, data=data, headers=sent) as answer:
            return answer.status, await answer.text(), answer.headers

    return asking(user, question)


@pytest.fixture
def away(tmp_path, monkeypatch):
    """A worker `local` that does not run, without a binary to start it."""
    monkeypatch.setattr(lookup, "find_binary", lambda *_: None)
    describe(tmp_path, local={"url": f"127.0.0.1:{free_port()}"})
    return tmp_path


@pytest.mark.parametrize("query", ["", "?x=1", "?x", "?language=zh&language=en", "?%00"])
@pytest.mark.parametrize("path", GETS)
def test_what_answers_get_answers_head_and_ignores_queries(away, path, query):
    status, text, _ = ask(away, "GET", path + query)
    assert status == 200 and json.loads(text)
    status, text, headers = ask(away, "HEAD", path + query)
    assert (status, text) == (200, "") and headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize("path", POSTS)
def test_posts_ignore_queries(away, path):
    plain = ask(away, "POST", path, json.dumps(POSTS[path]).encode())
    describe(away, local={"url": f"127.0.0.1:{free_port()}"})
    queried = ask(away, "POST", f"{path}?x=1", json.dumps(POSTS[path]).encode())
    assert plain[0] == queried[0] < 500


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "a text": b'"x"',
    "a number": b"3",
    "NaN": b'{"cfg": NaN}',
    "infinity": b'{"cfg": Infinity, "prompt": ""}',
    "a number of 5000 digits": b'{"cfg": ' + b"9" * 5000 + b"}",
    "nested": b"[" * 500_000,
    "nested objects": b'{"prompt":' * 100_000,
    "no UTF-8": b'{"prompt": "\xff"}',
    "two megabytes": b'{"prompt": "' + b"x" * (2 << 20) + b'"}',
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", ["language", "advice", "compose", "workers/a/save"])
def test_a_body_that_is_no_object_is_refused_with_a_sentence(away, path, body):
    before = (away / SETTINGS_FILE).read_bytes()
    for language in ("en", "zh"):
        status, text, _ = ask(away, "POST", path, BODIES[body], Accept_Language=language)
        said = json.loads(text)
        assert status == 400 and len(said["error"]) < 300
        assert said["error"].isascii() == (language == "en")
    assert (away / SETTINGS_FILE).read_bytes() == before


def test_a_body_without_an_end_is_cut_off(away):
    async def endless():
        for _ in range(64):
            yield b"x" * (1 << 17)

    async def question(client: TestClient) -> int:
        sent = {"Content-Type": "application/json"}
        async with client.post("/ovis-worker/advice", data=endless(), headers=sent) as answer:
            return answer.status

    assert asking(away, question) == 400


@pytest.mark.parametrize("charset", ["utf-16", "none-such", "\u00e9"])
def test_a_strange_character_set_is_no_error_of_the_servers(away, charset):
    kind = f"application/json; charset={charset}"
    status, _, _ = ask(away, "POST", "advice", b'{"prompt": "a"}', Content_Type=kind)
    assert status == 200


ODD = [
    None,
    True,
    3,
    -1,
    1.5,
    1e308,
    10**300,
    "x",
    "",
    "\ud800",
    "x" * 60_000,
    [],
    [1],
    {},
    {"a": []},
]
FIELDS = [
    *(("language", field) for field in ("client", "language")),
    *(("advice", field) for field in ("prompt", "steps", "cfg", "language", "other")),
    *(("compose", field) for field in ("template", "boxes", "other")),
    *(("workers/a/save", field) for field in ("url", "token", "binary", "model", "args", "other")),
    *((path, "other") for path in POSTS),
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize(("path", "field"), FIELDS)
def test_a_wrong_type_is_never_an_error_of_the_servers(away, path, field, value):
    body = json.dumps(POSTS[path] | {field: value}).encode()
    status, text, _ = ask(away, "POST", path, body)
    said = json.loads(text)
    assert status in (200, 202, 400), text
    assert (status == 400) == ("error" in said)


@pytest.mark.parametrize("box", ["headline", "style", "other"])
@pytest.mark.parametrize("value", [None, 3, [], {}])
def test_boxes_are_texts(away, box, value):
    status, said = post(away, "compose", {"template": "poster", "boxes": {box: value}})
    assert status == 400 and "must contain texts" in said["error"]


LABELS = ["..", "%2e%2e", "a%2Fb", "%00", "x" * 3000, "%F0%9F%8E%A8", "%ff", "a b", "{0}"]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("action", ["start", "stop", "save", "remove"])
def test_strange_labels_are_a_sentence(away, label, action):
    content = b'{"url": "gpu:1"}' if action == "save" else b"{}"
    status, text, _ = ask(away, "POST", f"workers/{label}/{action}", content)
    assert status in (400, 404, 405), text
    assert status != 400 or len(json.loads(text)["error"]) < 400
    assert {path.name for path in away.iterdir()} == {SETTINGS_FILE}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", [*GETS, *POSTS])
def test_other_methods_are_not_allowed(away, method, path):
    assert ask(away, method, path)[0] == 405


# Who may do what

PROXIES = [
    "X-Forwarded-For",
    "x-forwarded-for",
    "X-Forwarded-Host",
    "X-Forwarded-Server",
    "X-Forwarded-Port",
    "Forwarded",
    "Via",
    "X-Real-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Original-Host",
    "X-Envoy-External-Address",
    "True-Client-IP",
    "CF-Connecting-IP",
    "CF-Ray",
    "Fly-Client-IP",
    "Tailscale-User-Login",
]


def request_from(remote: str | None, **headers: str) -> web.Request:
    """A request as ComfyUI's server would pass it to a route."""
    sent = CIMultiDict({"Host": "127.0.0.1:8188", "Content-Type": "application/json"})
    sent.update({name.replace("_", "-"): value for name, value in headers.items()})
    made = make_mocked_request("POST", "/", headers=sent)
    return made.clone(remote=remote) if remote is not None else made


HERE = [
    ("127.0.0.1", {}),
    ("127.0.0.1", {"Origin": "http://127.0.0.1:8188", "Sec_Fetch_Site": "same-origin"}),
    ("127.8.9.1", {"Host": "localhost:8188", "Origin": "http://localhost:8188"}),
    ("::1", {"Host": "[::1]:8188", "Origin": "http://[::1]:8188"}),
    ("::ffff:127.0.0.1", {}),  # 127.0.0.1 as seen by a dual-stack socket, with --listen ::
    ("127.0.0.1", {"Host": "LOCALHOST"}),
]
ELSEWHERE = [
    ("192.168.0.7", {}),
    ("192.168.0.7", {"Host": "192.168.0.2:8188", "Origin": "http://192.168.0.2:8188"}),
    ("::ffff:192.168.0.7", {}),
    ("2001:db8::1", {}),
    ("0.0.0.0", {}),
    ("", {}),
    (None, {}),
    ("127.0.0.1.evil.example", {}),
    # DNS rebinding: the name of the page's host resolves to this machine.
    ("127.0.0.1", {"Host": "evil.example", "Origin": "http://evil.example"}),
    ("127.0.0.1", {"Host": "evil.example:8188"}),
    ("127.0.0.1", {"Host": "localhost.evil.example", "Origin": "http://localhost.evil.example"}),
    ("127.0.0.1", {"Host": "127.0.0.1.nip.io"}),
    ("127.0.0.1", {"Host": ""}),
    ("127.0.0.1", {"Host": "["}),
    ("127.0.0.1", {"Host": "0.0.0.0:8188"}),
    # Another page on this machine.
    ("127.0.0.1", {"Origin": "http://evil.example"}),
    ("127.0.0.1", {"Origin": "http://127.0.0.1:9"}),
    ("127.0.0.1", {"Origin": "http://localhost:8188"}),
    ("127.0.0.1", {"Origin": "null"}),
    ("127.0.0.1", {"Origin": "http://["}),
    ("127.0.0.1", {"Origin": ""}),
    ("127.0.0.1", {"Sec_Fetch_Site": "cross-site"}),
    ("127.0.0.1", {"Sec_Fetch_Site": "same-site"}),
    ("127.0.0.1", {"Sec_Fetch_Site": ""}),
    *(("127.0.0.1", {name: "203.0.113.9"}) for name in PROXIES),
    *(("127.0.0.1", {name: "127.0.0.1"}) for name in PROXIES),
    *(("127.0.0.1", {name: ""}) for name in PROXIES),
]


@pytest.mark.parametrize(("remote", "headers"), HERE)
def test_a_browser_on_this_machine_is_local(remote, headers):
    request = request_from(remote, **headers)
    assert guard.is_local(request) and guard.refusal(request) is None


@pytest.mark.parametrize(("remote", "headers"), ELSEWHERE)
def test_nobody_else_is_local(remote, headers):
    assert not guard.is_local(request_from(remote, **headers))


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "text/json"]
)
def test_a_form_is_no_request_of_ours(kind):
    assert guard.refusal(request_from("127.0.0.1", Content_Type=kind)) is not None


@pytest.mark.parametrize("path", LOCAL)
@pytest.mark.parametrize(
    "headers", [{"X_Forwarded_For": "10.0.0.9"}, {"Origin": "http://evil.example"}]
)
def test_what_names_or_starts_programs_is_for_this_machine(tmp_path, path, headers):
    marker = tmp_path / "ran"
    program = script(tmp_path, f'touch "{marker}"')
    describe(tmp_path, local={"url": f"127.0.0.1:{free_port()}", "binary": program}, a={})
    before = (tmp_path / SETTINGS_FILE).read_bytes()
    status, text, _ = ask(tmp_path, "POST", path, json.dumps(POSTS[path]).encode(), **headers)
    assert status == 403 and json.loads(text)["error"]
    time.sleep(0.2)
    assert not marker.exists() and (tmp_path / SETTINGS_FILE).read_bytes() == before


def test_who_may_not_start_a_worker_is_not_offered_it(tmp_path):
    describe(tmp_path, local={"url": f"127.0.0.1:{free_port()}", "binary": "/opt/ovis-worker"})
    assert get(tmp_path, "workers/local/status")[1]["can_start"]
    assert not get(tmp_path, "workers/local/status", Via="1.1 proxy")[1]["can_start"]


# Secrets


def test_neither_a_token_nor_a_login_is_ever_in_an_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(lookup, "find_binary", lambda *_: None)
    port = free_port()
    describe(
        tmp_path,
        local={"url": f"ws://user:hidden@127.0.0.1:{port}", "token": "hidden"},
        bad={"url": "wss://user:hidden@gpu:0", "token": "hidden"},
        worse={"url": "hidden@", "token": "hidden"},
    )
    _, listed = get(tmp_path, "workers")
    assert [worker["label"] for worker in listed["workers"]] == ["local", "bad", "worse"]
    shown = listed["workers"][0]
    assert shown["settings"]["url"] == f"ws://***@127.0.0.1:{port}/ws" and shown["has_token"]
    assert shown["address"] == f"127.0.0.1:{port}"
    assert "problem" in listed["workers"][1] and "problem" in listed["workers"][2]
    answers = [listed]
    for label in ("local", "bad", "worse"):
        answers.append(get(tmp_path, f"workers/{label}/status"))
        answers += [post(tmp_path, f"workers/{label}/{do}") for do in ("start", "stop", "save")]
    assert "hidden" not in json.dumps(answers)


# What the worker says over HTTP

HEALTHS = {
    "long words": ({"model": "x" * 10_000}, "ready"),
    "control characters": ({"device": "\x1b[31mgpu\r\n"}, "ready"),
    "numbers for texts": ({"model": 3, "device": None, "precision": []}, "ready"),
    "a text for a number": ({"queued": "many"}, "other"),
    "nothing for a number": ({"queued": None}, "other"),
    "infinity": ({"queued": float("inf")}, "other"),
    "a list": ({"running": []}, "other"),
}


@pytest.mark.parametrize("case", HEALTHS)
def test_an_odd_health_is_shown_bounded_or_called_another_program(tmp_path, case):
    said, state = HEALTHS[case]
    with FakeWorker(health=said) as fake:
        describe(tmp_path, local={"url": fake.url})
        status = get(tmp_path, "workers/local/status")[1]
    assert status["state"] == state
    for text in (status["model"], status["device"], status["precision"]):
        assert text is None or (len(text) <= 201 and text.isprintable())


@pytest.mark.parametrize(
    ("code", "health", "metrics", "state", "problem"),
    [
        (200, "[" * 60_000, "", "other", "Another program answers"),
        (200, "3", "", "other", "Another program answers"),
        (200, '{"model": "m"', "", "other", "Another program answers"),
        (302, "", "", "other", "such as a login page"),
        (
            403,
            "The host `x` is none of this worker's.",
            "",
            "other",
            "refused the request: The host `x`",
        ),
        (200, None, "ovis_device_bytes_used nan\novis_device_bytes_total 1e999\n", "ready", ""),
        (200, None, "ovis_device_bytes_used x\novis_device_bytes_total -5\n", "ready", ""),
    ],
)
def test_what_else_may_answer_for_a_worker(tmp_path, code, health, metrics, state, problem):
    healthy = json.dumps(
        {"model": "m", "device": "d", "precision": "f32", "queued": 0, "running": 0}
    )

    async def answer(request: web.Request) -> web.Response:
        text = metrics if request.path == "/metrics" else healthy if health is None else health
        return web.Response(status=code, text=text, headers={"Location": "http://127.0.0.1:1/"})

    async def look() -> object:
        app = web.Application()
        app.router.add_route("*", "/{all:.*}", answer)
        async with TestServer(app) as server:
            describe(tmp_path, local={"url": f"127.0.0.1:{server.port}"})
            return await query_status(lookup.resolve("local", ComfyFolders(tmp_path), {}))

    status = asyncio.run(look())
    assert status.state == state and problem in (status.problem.message if status.problem else "")
    assert status.memory_used is None and status.memory_total is None


# Settings that a running worker does not have yet


def test_a_change_says_that_a_restart_is_needed_and_stop_and_start_do_it(tmp_path):
    binary = script(tmp_path, f'exec "{sys.executable}" "{FAKE}" "$@"')
    ports = free_port(), free_port()
    describe(tmp_path, local={"url": f"127.0.0.1:{ports[0]}", "binary": binary})

    async def life(client: TestClient) -> None:
        async def ask(action: str, content: dict | None = None) -> dict:
            url = f"/ovis-worker/workers/local/{action}"
            async with client.post(url, json=content or {}) as answer:
                said = await answer.json()
                assert answer.status < 300, said
                return said

        def pid() -> int:
            return json.loads((tmp_path / "ovis_worker_local.pid").read_text())["pid"]

        assert await ask("save", {"model": str(tmp_path)}) == {"restart_needed": False}
        await ask("start")
        up = await until(client, lambda status: status["state"] == "connected")
        assert up["restart_needed"] is False
        first = pid()
        # A setting that the process was not started with.
        assert await ask("save", {"model": ""}) == {"restart_needed": True}
        assert (await until(client, lambda status: True))["restart_needed"] is True
        assert await ask("save", {"model": str(tmp_path)}) == {"restart_needed": False}
        assert await ask("save", {"token": "new"}) == {"restart_needed": True}
        # The browser requests both in direct succession.
        await ask("stop")
        await ask("start")
        again = await until(client, lambda status: status["state"] == "connected")
        assert again["restart_needed"] is False and pid() != first
        # After a change of the address, the old process runs on and can be stopped.
        assert await ask("save", {"url": f"127.0.0.1:{ports[1]}"}) == {"restart_needed": True}
        moved = await until(client, lambda status: status["state"] == "away")
        assert moved["restart_needed"] and moved["can_stop"]
        await ask("stop")
        await ask("start")
        moved = await until(client, lambda status: status["state"] == "connected")
        assert not moved["restart_needed"] and moved["address"].endswith(str(ports[1]))
        await ask("stop")
        await until(client, lambda status: status["state"] == "away")

    asking(tmp_path, life)
    assert not worker_process.may_stop(lookup.resolve("local", ComfyFolders(tmp_path), {}))


def test_numbers_that_may_be_shown():
    for good in (0, 1, -3, 2.5, 1e9):
        assert json_body.is_number(good)
    for bad in (True, None, "1", float("nan"), float("inf"), 10**400, 1e10, [], {}):
        assert not json_body.is_number(bad)
