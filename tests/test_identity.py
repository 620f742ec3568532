"""The secret that jobs belong to: one for each folder, private, and shown nowhere."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from comfy_node.settings import identity as module
from comfy_node.settings import lookup
from comfy_node.settings.config import ComfyFolders, WorkerConfig
from comfy_node.settings.identity import IDENTITY_FILE, LOCK_SUFFIX, identity
from comfy_node.worker.client import WorkerClient
from fake_worker import FakeWorker
from test_client import TIMEOUT, denoise, latent

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    """Forgets what this process knows."""
    monkeypatch.setattr(module, "_known", {})


def again(folder: Path | None) -> str:
    """The secret as another process finds it."""
    module._known.clear()
    return identity(folder).reveal()


def test_a_secret_of_32_bytes_is_made_once(tmp_path):
    folder = tmp_path / "user" / "__ovis_worker"
    first = identity(folder)
    assert len(bytes.fromhex(first.reveal())) == 32
    assert again(folder) == first.reveal() == again(folder)
    assert again(tmp_path) != first.reveal()
    assert {path.name for path in folder.iterdir()} == {IDENTITY_FILE, IDENTITY_FILE + LOCK_SUFFIX}


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_the_file_is_its_owners_alone(tmp_path):
    identity(tmp_path)
    path = tmp_path / IDENTITY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    again(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\xff" * 64, b"0" * 63, b"0" * 65, b"G" * 64, b"0" * 5000]
)
def test_a_damaged_secret_is_replaced_with_one_line_in_the_log(tmp_path, caplog, content):
    (tmp_path / IDENTITY_FILE).write_bytes(content)
    found = identity(tmp_path).reveal()
    assert len(found) == 64 and again(tmp_path) == found
    (record,) = caplog.records
    assert "is damaged. A new identity replaces it" in record.getMessage()
    assert found not in caplog.text


def test_without_a_folder_each_client_has_a_secret_of_its_own():
    assert identity(None) != identity(None)


def test_a_folder_that_cannot_be_used_costs_one_line_in_the_log(tmp_path, caplog):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "user"
    assert identity(folder).reveal() == identity(folder).reveal()
    (record,) = caplog.records
    assert "cannot be used" in record.getMessage()


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_processes_that_start_at_once_have_one_secret(tmp_path, content):
    if content is not None:
        (tmp_path / IDENTITY_FILE).write_bytes(content)
    script = (
        "import sys; from pathlib import Path; from comfy_node.settings.identity import identity; "
        "sys.stdin.readline(); print(identity(Path(sys.argv[1])).reveal())"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(4)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert said == {again(tmp_path)}


def test_the_secret_is_in_no_log_settings_or_text(tmp_path, caplog):
    with FakeWorker() as fake, caplog.at_level(logging.DEBUG):
        (tmp_path / "ovis_worker.json").write_text(
            json.dumps({"workers": {"local": {"url": fake.url}}})
        )
        config = lookup.resolve("local", ComfyFolders(tmp_path), {})
        assert config.folder == tmp_path
        client = WorkerClient(config)
        client.submit(denoise(1), [latent()]).result(TIMEOUT)
        client.close()
        secret = identity(tmp_path).reveal()
        assert fake.secrets == [bytes.fromhex(secret)]
        shown = caplog.text + repr(config) + repr(fake.submitted) + repr(identity(tmp_path))
        assert secret not in shown and repr(bytes.fromhex(secret)) not in shown
        assert secret not in (tmp_path / "ovis_worker.json").read_text()


def test_a_client_without_a_folder_has_an_owner_too():
    with FakeWorker() as fake:
        client = WorkerClient(WorkerConfig(url=fake.url))
        client.connect().result(TIMEOUT)
        client.close()
        assert len(fake.secrets[0]) == 32
