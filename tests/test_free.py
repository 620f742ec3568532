"""ComfyUI's freeing of memory reaches the workers that it should, and never disturbs ComfyUI."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest

import fake_comfy
from comfy_node.settings.config import ENVIRONMENT, ComfyFolders, WorkerConfig
from comfy_node.settings.file import SETTINGS_FILE
from fake_worker import FakeWorker
from worker_binary import free_port

SECONDS = 20


@pytest.fixture
def comfyui(tmp_path, monkeypatch):
    """ComfyUI's memory management, and the names of what was called in it."""
    for name in ENVIRONMENT.values():
        monkeypatch.delenv(name, raising=False)
    with fake_comfy.installed(tmp_path):
        management = sys.modules["comfy.model_management"]
        called = []
        management.unload_all_models = lambda *given: called.append(given) or "unloaded"
        yield management, called


def describe(folder: Path, **described: dict) -> ComfyFolders:
    (folder / SETTINGS_FILE).write_text(json.dumps({"workers": described}))
    return ComfyFolders(folder)


def wait() -> None:
    """Waits until every thread that asks workers is done."""
    deadline = time.monotonic() + SECONDS
    while any(thread.name == "ovis-worker free" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_on_this_machine_is_freed_after_comfyui(comfyui, tmp_path):
    management, called = comfyui
    from comfy_node.nodes import free

    with FakeWorker() as fake, FakeWorker() as kept:
        folders = describe(tmp_path, local={"url": fake.url}, kept={"url": kept.url, "free": False})
        free.install(lambda: folders)
        free.install(lambda: folders)  # ComfyUI may load the pack twice
        assert management.unload_all_models(1) == "unloaded"
        assert called == [(1,)]
        wait()
        assert (fake.freed, kept.freed) == (1, 0)
        management.unload_all_models()
        wait()
        assert (len(called), fake.freed) == (2, 2)


def test_what_fails_in_the_worker_is_none_of_comfyuis_business(comfyui, tmp_path, caplog):
    management, called = comfyui
    from comfy_node.nodes import free

    def broken() -> ComfyFolders:
        raise RuntimeError("no folders")

    away = describe(tmp_path, local={"url": f"ws://127.0.0.1:{free_port()}"}, bad={"url": 5})
    for folders in (lambda: away, broken):
        management.unload_all_models = lambda *given: called.append(given)
        free.install(folders)
        management.unload_all_models()
        wait()
    assert len(called) == 2
    assert "no folders" in caplog.text


def test_an_error_of_comfyuis_own_stays_one(comfyui, tmp_path):
    management, _ = comfyui
    from comfy_node.nodes import free

    def fails() -> None:
        raise MemoryError

    management.unload_all_models = fails
    with FakeWorker() as fake:
        folders = describe(tmp_path, local={"url": fake.url})
        free.install(lambda: folders)
        with pytest.raises(MemoryError):
            management.unload_all_models()
        wait()
        assert fake.freed == 0


def test_a_comfyui_without_that_function_is_left_alone(comfyui):
    management, _ = comfyui
    from comfy_node.nodes import free

    del management.unload_all_models
    free.install(ComfyFolders)
    assert not hasattr(management, "unload_all_models")


@pytest.mark.parametrize(
    ("url", "free", "frees"),
    [
        ("ws://127.0.0.1:1", None, True),
        ("ws://127.0.0.1:1", False, False),
        ("ws://studio:1", None, False),
        ("ws://studio:1", True, True),
    ],
)
def test_only_workers_on_this_machine_are_freed_unless_the_settings_say_so(url, free, frees):
    assert WorkerConfig(url=url, free=free).frees is frees
