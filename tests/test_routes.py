"""The pack's routes on a server like ComfyUI's: answers, and who gets them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from comfy_node.routes import adapters, language, prompts, workers
from comfy_node.settings import lookup
from comfy_node.settings.config import ENVIRONMENT, ComfyFolders
from comfy_node.settings.file import SETTINGS_FILE
from comfy_node.settings.identity import identity
from comfy_node.texts import page_language
from comfy_node.worker import client as clients
from comfy_node.worker.errors import NoWorker
from fake_worker import FakeWorker
from test_client import FAKE, denoise, free_port, latent

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in binary is a shell script")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ENVIRONMENT.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(clients, "_clients", {})


def describe(user: Path, **described: dict) -> None:
    (user / SETTINGS_FILE).write_text(json.dumps({"workers": described}))


def asking(user: Path, questions) -> object:
    """Runs ``questions(client)`` against the routes."""

    async def run() -> object:
        routes = web.RouteTableDef()
        language.add_routes(routes)
        prompts.add_routes(routes, user)
        workers.add_routes(routes, lambda: ComfyFolders(user))
        adapters.add_routes(routes, lambda: ComfyFolders(user))
        app = web.Application()
        app.add_routes(routes)
        async with TestClient(TestServer(app)) as client:
            return await questions(client)

    return asyncio.run(asyncio.wait_for(run(), 60))


def post(user: Path, path: str, content: object = None, **headers: str) -> tuple[int, dict]:
    async def question(client: TestClient) -> tuple[int, dict]:
        data = json.dumps({} if content is None else content)
        sent = {"Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.post(f"/ovis-worker/{path}", data=data, headers=sent) as answer:
            return answer.status, await answer.json()

    return asking(user, question)


def get(user: Path, path: str, **headers: str) -> tuple[int, dict]:
    async def question(client: TestClient) -> tuple[int, dict]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.get(f"/ovis-worker/{path}", headers=sent) as answer:
            return answer.status, await answer.json()

    return asking(user, question)


STRANGERS = {
    "a form": {"Content_Type": "text/plain"},
    "another origin": {"Origin": "http://evil.example"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "no origin at all": {"Origin": "null"},
    "another site": {"Sec_Fetch_Site": "cross-site"},
    "another port's page": {"Sec_Fetch_Site": "same-site"},
    "a name made to point here": {"Host": "evil.example", "Origin": "http://evil.example"},
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS.keys())
@pytest.mark.parametrize("action", ["start", "stop", "save", "remove"])
def test_another_page_changes_nothing(tmp_path, headers, action):
    marker = tmp_path / "ran"
    program = script(tmp_path, f'touch "{marker}"')
    describe(tmp_path, local={"url": f"ws://127.0.0.1:{free_port()}", "binary": program})
    before = (tmp_path / SETTINGS_FILE).read_text()
    status, said = post(tmp_path, f"workers/local/{action}", **headers)
    assert status == 403 and said["error"]
    assert not marker.exists() and (tmp_path / SETTINGS_FILE).read_text() == before


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"Via": "1.1 proxy"},
        {"X_Forwarded_Proto": "https"},
    ],
)
def test_settings_are_neither_shown_nor_changed_through_a_proxy(tmp_path, headers):
    describe(tmp_path, local={"binary": "/opt/ovis-worker", "token": "secret"})
    status, said = post(tmp_path, "workers/local/save", {"url": "ws://a:1"}, **headers)
    assert status == 403 and "on the machine that ComfyUI runs on" in said["error"]
    _, listed = get(tmp_path, "workers", **headers)
    assert listed["may_edit"] is False
    assert set(listed["workers"][0]) == {"label", "address", "here"}


def test_a_token_is_saved_and_never_shown(tmp_path):
    status, _ = post(tmp_path, "workers/studio/save", {"url": "ws://a:1", "token": "secret"})
    assert status == 200
    assert "secret" in (tmp_path / SETTINGS_FILE).read_text()
    _, listed = get(tmp_path, "workers")
    assert "secret" not in json.dumps(listed)
    studio = listed["workers"][1]
    assert studio["has_token"] and studio["settings"]["url"] == "ws://a:1" and not studio["here"]
    status, said = post(tmp_path, "workers/studio/save", {"url": "ftp://a"})
    assert status == 400 and "is not a worker's address" in said["error"]


def test_a_fingerprint_is_saved_and_shown_but_the_identity_never(tmp_path):
    digits = "0f" * 32
    settings = {"url": "wss://127.0.0.1:1", "fingerprint": digits}
    assert post(tmp_path, "workers/studio/save", settings)[0] == 200
    secret = identity(tmp_path).reveal()
    _, listed = get(tmp_path, "workers")
    assert listed["workers"][1]["settings"]["fingerprint"] == ":".join(["0F"] * 32)
    _, status = get(tmp_path, "workers/studio/status")
    assert secret not in json.dumps([listed, status])
    status, said = post(tmp_path, "workers/studio/save", {"fingerprint": "sha256"})
    assert status == 400 and "is not the fingerprint of a certificate" in said["error"]


def test_a_worker_that_is_described_wrongly_can_be_put_right(tmp_path):
    describe(tmp_path, odd={"url": "ftp://a", "token": "secret"}, worse={"url": 3}, worst=[])
    _, listed = get(tmp_path, "workers")
    by_label = {worker["label"]: worker for worker in listed["workers"]}
    assert not by_label["local"]["described"] and "problem" not in by_label["local"]
    assert "is not a worker's address" in by_label["odd"]["problem"]
    assert by_label["odd"]["settings"]["url"] == "ftp://a" and by_label["odd"]["has_token"]
    for label in ("odd", "worse", "worst"):
        assert by_label[label]["described"] and by_label[label]["problem"]
    assert post(tmp_path, "workers/odd/save", {"url": "ws://a:1"})[0] == 200
    assert post(tmp_path, "workers/worse/remove")[0] == 200
    assert post(tmp_path, "workers/worst/save", {"url": "ws://b:2"})[0] == 200
    _, listed = get(tmp_path, "workers")
    assert [worker["label"] for worker in listed["workers"]] == ["local", "odd", "worst"]
    assert not any("problem" in worker for worker in listed["workers"])
    (tmp_path / SETTINGS_FILE).write_text("{")
    _, listed = get(tmp_path, "workers")
    assert "cannot be read" in listed["workers"][0]["problem"]


def test_what_the_environment_decides_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("OVIS_WORKER_URL", "ws://127.0.0.1:1234")
    _, listed = get(tmp_path, "workers")
    assert listed["workers"][0]["overridden"] == ["url"]
    assert listed["workers"][0]["address"] == "127.0.0.1:1234"


def test_a_worker_that_is_elsewhere_or_has_no_binary_is_not_started(tmp_path):
    describe(tmp_path, studio={"url": "ws://worker.invalid:7867", "binary": "/bin/true"})
    status, said = post(tmp_path, "workers/studio/start")
    assert status == 400 and "cannot be started from here" in said["error"]
    status, said = post(tmp_path, "workers/nobody/start")
    assert status == 400 and "is not set up here" in said["error"]


def script(folder: Path, line: str) -> str:
    path = folder / "ovis-worker"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


async def until(client: TestClient, condition) -> dict:
    deadline = time.monotonic() + 20
    while True:
        async with client.get("/ovis-worker/workers/local/status") as answer:
            status = await answer.json()
        if condition(status):
            return status
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.05)


def test_start_status_stop(tmp_path):
    binary = script(tmp_path, f'exec "{sys.executable}" "{FAKE}" "$@"')
    describe(tmp_path, local={"url": f"ws://127.0.0.1:{free_port()}", "binary": binary})

    async def whole_life(client: TestClient) -> None:
        async def ask(action: str) -> int:
            async with client.post(f"/ovis-worker/workers/local/{action}", json={}) as answer:
                return answer.status

        away = await until(client, lambda status: True)
        assert (away["state"], away["can_start"], away["can_stop"]) == ("away", True, False)
        assert await ask("stop") == 400
        assert await ask("start") == 202
        up = await until(client, lambda status: status["state"] == "connected")
        assert (up["can_start"], up["can_stop"]) == (False, True)
        assert up["model"] and up["device"] and up["queued"] == 0
        assert (up["memory_used"], up["memory_total"]) == (6e9, 24e9)
        # After a restart of ComfyUI, only the PID file identifies the process.
        workers.worker_process._children.clear()
        again = await until(client, lambda status: True)
        assert again["can_stop"]
        assert await ask("stop") == 202
        await until(client, lambda status: status["state"] == "away")

    asking(tmp_path, whole_life)


def test_a_worker_that_someone_else_started_is_not_stopped(tmp_path):
    with FakeWorker() as worker:
        describe(tmp_path, local={"url": worker.url})
        # A PID file whose process id belongs to another program by now.
        note = {"pid": os.getpid(), "address": f"127.0.0.1:{worker.port}"}
        (tmp_path / "ovis_worker_local.pid").write_text(json.dumps(note))
        status = get(tmp_path, "workers/local/status")[1]
        assert (status["state"], status["can_stop"]) == ("ready", False)
        assert post(tmp_path, "workers/local/stop")[0] == 400


def test_a_binary_that_ends_at_once_is_told_by_the_status(tmp_path):
    binary = script(tmp_path, 'echo "no weights here"; exit 3')
    describe(tmp_path, local={"url": f"ws://127.0.0.1:{free_port()}", "binary": binary})

    async def question(client: TestClient) -> dict:
        async with client.post("/ovis-worker/workers/local/start", json={}) as answer:
            assert answer.status == 202
        return await until(client, lambda status: status["problem"])

    status = asking(tmp_path, question)
    assert "exited with status 3" in status["problem"] and "no weights here" in status["problem"]
    assert status["state"] == "away" and status["can_start"]


def test_a_running_job_is_seen_step_by_step(tmp_path):
    with FakeWorker(step_seconds=0.1) as worker:
        describe(tmp_path, local={"url": worker.url})
        config = workers.lookup.resolve("local", ComfyFolders(tmp_path))
        job = clients.client_for(config).submit(denoise(30), [latent()])

        async def question(client: TestClient) -> dict:
            return await until(client, lambda status: (status["step"] or 0) >= 3)

        status = asking(tmp_path, question)
        assert status["steps"] == 30
        assert 0.05 < status["seconds_per_step"] < 0.5
        job.cancel()
        clients.client_for(config).close()


def test_something_that_is_no_worker_is_called_that(tmp_path):
    async def question(client: TestClient) -> dict:
        port = client.server.port
        describe(tmp_path, local={"url": f"ws://127.0.0.1:{port}"})
        return await until(client, lambda status: True)

    status = asking(tmp_path, question)
    assert status["state"] == "other" and "There is no ovis-worker at" in status["problem"]


def test_advice_comes_in_the_language_that_is_asked_for(tmp_path):
    asked = {"prompt": "costs $5", "cfg": 9, "steps": 20, "language": "zh"}
    _, said = post(tmp_path, "advice", asked)
    assert [one["rule"] for one in said["advice"]] == ["dollar", "guidance"]
    assert said["advice"][0]["fixed"] == "costs ＄5"
    assert "全角" in said["advice"][0]["sentence"]
    assert post(tmp_path, "advice", {"prompt": 3})[0] == 400
    assert post(tmp_path, "advice", [])[0] == 400


def test_a_prompt_is_composed_and_bad_files_are_named(tmp_path):
    folder = tmp_path / "ovis_templates"
    folder.mkdir()
    (folder / "house.json").write_text('{"prompt": "Sign: {headline}", "about": "A sign."}')
    (folder / "odd.json").write_text("{")
    _, said = post(tmp_path, "compose", {"template": "house", "boxes": {"headline": "HI"}})
    assert (said["prompt"], said["about"]) == ('Sign: "HI"', "A sign.")
    assert "`odd`" in said["problems"][0]
    status, said = post(tmp_path, "compose", {"template": "none", "boxes": {}})
    assert status == 400 and "There is no house template `none`" in said["error"]


def test_a_sentence_is_in_the_language_of_the_page_that_asks(tmp_path):
    (tmp_path / "ovis_templates").mkdir()
    (tmp_path / "ovis_templates" / "odd.json").write_text("[]")
    describe(tmp_path, local={"url": "ftp://a"})
    composed = {"template": "poster", "boxes": {}}

    def all_said(**headers: str) -> list[str]:
        _, listed = get(tmp_path, "workers", **headers)
        refused = post(tmp_path, "advice", [], **headers)[1]
        strange = post(tmp_path, "workers/local/stop", Origin="http://evil.example", **headers)[1]
        problems = post(tmp_path, "compose", composed, **headers)[1]["problems"]
        status = get(tmp_path, "workers/local/status", **headers)[1]
        told = [refused["error"], strange["error"], status["error"], status["hint"]]
        return [listed["workers"][0]["problem"], *told, *problems]

    english, chinese = all_said(), all_said(Accept_Language="zh")
    assert len(english) == len(chinese) == 6
    for one, other in zip(english, chinese, strict=True):
        assert one.isascii() and re.search("[\u4e00-\u9fff]", other)
    assert all_said(Accept_Language="fr") == english
    assert all_said(Accept_Language="zh-TW") == english


def test_a_status_says_its_problem_in_the_language_of_the_page(tmp_path, monkeypatch):
    # A binary that was built in this clone would be started.
    monkeypatch.setattr(lookup, "find_binary", lambda *_: None)
    describe(tmp_path, local={"url": f"ws://127.0.0.1:{free_port()}"})

    async def question(client: TestClient) -> list[str]:
        config = workers.lookup.resolve("local", ComfyFolders(tmp_path))
        with pytest.raises(NoWorker):
            await asyncio.wrap_future(clients.client_for(config).connect())
        problems = []
        for spoken in ("en", "zh"):
            headers = {"Accept-Language": spoken}
            async with client.get("/ovis-worker/workers/local/status", headers=headers) as answer:
                problems.append((await answer.json())["problem"])
        return problems

    english, chinese = asking(tmp_path, question)
    assert english.startswith("No ovis-worker answers at") and "没有 ovis-worker 应答" in chinese


@pytest.mark.parametrize("told", [{"client": "", "language": "zh"}, {"client": "a"}, {}])
def test_a_page_without_number_or_language_is_refused(tmp_path, told):
    assert post(tmp_path, "language", told)[0] == 400


def test_a_page_tells_its_language(tmp_path, monkeypatch):
    monkeypatch.setattr(page_language, "_languages", {})
    assert post(tmp_path, "language", {"client": "a", "language": "zh"}) == (200, {})
    assert page_language._languages == {"a": "zh"}
    assert post(tmp_path, "language", {"client": "a", "language": "en"}, Origin="null")[0] == 403
    assert page_language._languages == {"a": "zh"}
