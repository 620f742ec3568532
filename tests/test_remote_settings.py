"""Worker settings from a page on another machine: addresses and tokens, never a program."""

from __future__ import annotations

import asyncio
import json
import types

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from browser_modules import play
from comfy_node.routes import remote, workers
from comfy_node.settings.config import ENVIRONMENT, ComfyFolders
from comfy_node.settings.file import SETTINGS_FILE
from comfy_node.worker import client as clients
from test_workers_in_the_browser import PAGE, entry

ELSEWHERE = {"X-Forwarded-For": "192.0.2.7"}
"""A header that only a proxy adds, so that the request comes from another machine."""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ENVIRONMENT.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(clients, "_clients", {})


def asked(folder, path, content=None, *, headers=ELSEWHERE, allowed=True) -> tuple[int, dict]:
    """The status and answer of a request; a POST if it has a content."""

    async def run() -> tuple[int, dict]:
        routes = web.RouteTableDef()
        workers.add_routes(routes, lambda: ComfyFolders(folder), remote_settings=allowed)
        app = web.Application()
        app.add_routes(routes)
        async with TestClient(TestServer(app)) as client:
            method = "GET" if content is None else "POST"
            sent = client.request(method, f"/ovis-worker/{path}", json=content, headers=headers)
            async with sent as answer:
                return answer.status, await answer.json()

    return asyncio.run(asyncio.wait_for(run(), 30))


def stored(folder) -> dict:
    path = folder / SETTINGS_FILE
    return json.loads(path.read_text())["workers"] if path.exists() else {}


def describe(folder, **described: dict) -> None:
    (folder / SETTINGS_FILE).write_text(json.dumps({"workers": described}))


@pytest.mark.parametrize(
    ("listen", "multi_user", "allowed"),
    [
        ("127.0.0.1", False, False),
        ("localhost", False, False),
        ("::1", False, False),
        ("127.0.0.1,::1", False, False),
        (None, False, False),
        ("0.0.0.0,::", False, True),
        ("0.0.0.0", False, True),
        ("192.168.0.2", False, True),
        ("127.0.0.1,192.168.0.2", False, True),
        ("0.0.0.0", True, False),
        ("127.0.0.1", True, False),
    ],
)
def test_comfyuis_own_rules_decide(listen, multi_user, allowed):
    told = types.SimpleNamespace(listen=listen, multi_user=multi_user)
    assert remote.may_edit(told) is allowed


def test_an_unknown_command_line_allows_nothing():
    assert remote.may_edit(types.SimpleNamespace()) is False


def test_another_machines_page_names_a_worker_and_gets_no_token_back(tmp_path):
    new = {"url": "ws://gpu:7867", "token": "secret"}
    assert asked(tmp_path, "workers/studio/save", new)[0] == 200
    assert stored(tmp_path) == {"studio": new}
    _, listed = asked(tmp_path, "workers")
    assert "secret" not in json.dumps(listed)
    assert (listed["may_edit"], listed["may_act"]) == (True, False)
    assert listed["fields"] == ["url", "token", "fingerprint"]
    studio = listed["workers"][1]
    assert studio["has_token"] and studio["settings"] == {"url": "ws://gpu:7867", "fingerprint": ""}
    assert asked(tmp_path, "workers/studio/remove", {})[0] == 200
    assert stored(tmp_path) == {}


def test_a_page_of_this_machine_may_do_all(tmp_path):
    model = {"model": str(tmp_path)}
    assert asked(tmp_path, "workers/local/save", model, headers={})[0] == 200
    _, listed = asked(tmp_path, "workers", headers={})
    assert listed["may_act"] and "binary" in listed["fields"]
    assert listed["workers"][0]["settings"]["model"] == str(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"binary": "/bin/sh"},
        {"model": "/etc"},
        {"url": "ws://gpu:7867", "binary": "/bin/sh"},
        {"url": "ws://gpu:7867", "args": "--device cuda"},
        {"url": "ws://gpu:7867", "log": "/tmp/x"},
        {"url": "ws://127.0.0.1:7867"},
        {"url": "localhost:9"},
        {"url": "[::1]:9"},
        {"url": ""},
        {"token": "x"},
        {"url": 3},
        {"url": "ftp://gpu"},
    ],
)
@pytest.mark.parametrize("label", ["local", "studio"])
def test_another_machines_page_names_no_program_no_path_and_not_this_machine(
    tmp_path, changes, label
):
    status, said = asked(tmp_path, f"workers/{label}/save", changes)
    assert status == 400 and said["error"].endswith(".") and said["hint"]
    assert stored(tmp_path) == {}


@pytest.mark.parametrize("action", ["start", "stop"])
def test_another_machines_page_starts_and_stops_nothing(tmp_path, action):
    assert asked(tmp_path, f"workers/local/{action}", {})[0] == 403


@pytest.mark.parametrize("more", [{"binary": "/x"}, {"model": "/x"}, {"args": ["--token", "t"]}])
def test_an_entry_with_a_program_is_changed_only_on_its_machine(tmp_path, more):
    before = {"studio": {"url": "ws://gpu:1", "token": "secret", **more}}
    describe(tmp_path, **before)
    for action, content in (("save", {"url": "ws://evil:1"}), ("remove", {})):
        status, said = asked(tmp_path, f"workers/studio/{action}", content)
        assert status == 400 and "name a program" in said["error"]
    assert stored(tmp_path) == before
    _, listed = asked(tmp_path, "workers")
    assert "/x" not in json.dumps(listed)


@pytest.mark.parametrize("url", ["ws://evil:1", "wss://gpu:1", "ws://gpu:2"])
def test_a_stored_token_never_goes_to_another_address(tmp_path, url):
    describe(tmp_path, studio={"url": "ws://gpu:1", "token": "secret", "patience": 5})
    assert asked(tmp_path, "workers/studio/save", {"url": url})[0] == 200
    assert stored(tmp_path) == {"studio": {"url": url, "patience": 5}}
    assert asked(tmp_path, "workers/studio/save", {"url": url, "token": "new"})[0] == 200
    assert asked(tmp_path, "workers/studio/save", {"fingerprint": ""})[0] == 200
    assert stored(tmp_path)["studio"]["token"] == "new"


def test_what_environment_variables_set_is_not_changed_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("OVIS_WORKER_TOKEN", "secret")
    status, said = asked(tmp_path, "workers/local/save", {"url": "ws://evil:1"})
    assert status == 400 and "environment variables" in said["error"]
    assert asked(tmp_path, "workers/studio/save", {"url": "ws://gpu:1"})[0] == 200


def test_where_comfyui_is_not_open_to_others_nothing_is_shown_or_changed(tmp_path):
    new = {"url": "ws://gpu:7867"}
    assert asked(tmp_path, "workers/studio/save", new, allowed=False)[0] == 403
    describe(tmp_path, studio=new)
    _, listed = asked(tmp_path, "workers", allowed=False)
    assert (listed["may_edit"], listed["fields"], listed["may_act"]) == (False, [], False)
    assert set(listed["workers"][1]) == {"label", "address", "here"}


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_page_of_another_site_changes_and_sees_nothing(tmp_path, headers):
    describe(tmp_path, studio={"url": "ws://gpu:7867"})
    for more in ({}, ELSEWHERE):
        status, _ = asked(tmp_path, "workers/a/save", {"url": "ws://b:1"}, headers=headers | more)
        assert status == 403
        _, listed = asked(tmp_path, "workers", headers=headers | more)
        assert listed["may_edit"] is False and "settings" not in listed["workers"][1]


@pytest.mark.parametrize(
    ("locale", "says"), [("en", "workers on other machines"), ("zh", "其他机器")]
)
def test_the_settings_page_shows_the_fields_that_may_be_changed(locale, says):
    server = {"list": [entry()], "statuses": {"local": {"state": "away"}}}
    server |= {"fields": ["url", "token", "fingerprint"], "mayAct": False}
    story = "return seen(await settings());"
    seen = play(PAGE + story, locale=locale, server=server)
    assert any(says in words for words in seen)
    binary = {"en": "Worker binary", "zh": "程序文件"}[locale]
    assert binary not in seen and {"en": "Token", "zh": "令牌"}[locale] in seen
    assert binary in play(
        PAGE + story,
        locale=locale,
        server={**server, "fields": ["url", "token", "fingerprint", "binary", "model"]},
    )
