"""Where settings, logs, PID files and templates are kept, and who can read them."""

from __future__ import annotations

import json
import logging
import os
import shlex
import stat
import sys
from pathlib import Path

import pytest

import fake_comfy
from comfy_node.prompts import templates
from comfy_node.settings import lookup, private_folder
from comfy_node.settings.config import PACK_ROOT, ComfyFolders, WorkerConfig
from comfy_node.settings.file import SETTINGS_FILE
from comfy_node.texts import WorkerError
from comfy_node.worker import process as worker_process
from comfy_node.worker.start_hint import Machine, how_to_start
from test_border_settings import TEXT

POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX modes")


# Where it lies


@pytest.mark.parametrize("has_system_user", [True, False])
def test_the_folder_is_the_system_users(tmp_path, has_system_user):
    made = fake_comfy.folder_paths(tmp_path, has_system_user=has_system_user)
    assert private_folder.folder_of(made) == tmp_path / "user" / "__ovis_worker"


@pytest.mark.parametrize("served", ["output", "input", "temp", "models"])
def test_the_folder_lies_in_nothing_that_is_served(tmp_path, monkeypatch, served):
    made = fake_comfy.folder_paths(tmp_path / "base")
    # The output folder is a link to ComfyUI's own base folder.
    (tmp_path / "base").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "base", target_is_directory=True)
    if served == "models":
        made.folder_names_and_paths["all"] = ([str(tmp_path / "link")], set())
    else:
        setattr(made, f"get_{served}_directory", lambda: str(tmp_path / "link"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "home"))
    folder = private_folder.folder_of(made)
    assert not folder.resolve().is_relative_to((tmp_path / "base").resolve())
    assert folder.name == "ovis_worker"


def old_and_new(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "user" / "default", tmp_path / "user" / "__ovis_worker"
    old.mkdir(parents=True)
    return old, new


@POSIX
def test_settings_move_once_with_logs_and_notes_and_only_their_owner_reads_them(tmp_path):
    old, new = old_and_new(tmp_path)
    (old / SETTINGS_FILE).write_text(TEXT)
    for name in ("ovis_worker_local.log", "ovis_worker_local.before.log", "ovis_worker_local.pid"):
        (old / name).write_text(name)
    (old / "ovis_templates").mkdir()
    private_folder.prepare(new, old)
    assert (new / SETTINGS_FILE).read_text() == TEXT
    assert [path.name for path in old.iterdir()] == ["ovis_templates"]
    assert len(list(new.iterdir())) == 4
    assert stat.S_IMODE(new.stat().st_mode) == 0o700
    for path in new.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_file_that_reappears_in_the_old_place_is_not_believed(tmp_path, caplog):
    old, new = old_and_new(tmp_path)
    private_folder.prepare(new, old)  # a ComfyUI that never had settings
    evil = json.dumps({"workers": {"local": {"binary": "/tmp/evil"}}})
    (old / SETTINGS_FILE).write_text(evil)
    with caplog.at_level(logging.WARNING):
        private_folder.prepare(new, old)
    assert "is not read" in caplog.text
    config = lookup.resolve("local", ComfyFolders(new, user=old), {"PATH": ""})
    assert config.binary != "/tmp/evil" and (old / SETTINGS_FILE).exists()


def test_settings_that_cannot_be_read_move_as_they_are(tmp_path):
    old, new = old_and_new(tmp_path)
    (old / SETTINGS_FILE).write_text("{")
    private_folder.prepare(new, old)
    with pytest.raises(WorkerError, match="cannot be read"):
        lookup.resolve("local", ComfyFolders(new), {})


def test_settings_that_cannot_be_moved_stay_and_are_said(tmp_path, caplog, monkeypatch):
    old, new = old_and_new(tmp_path)
    (old / SETTINGS_FILE).write_text(TEXT)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(private_folder, "write_atomically", refuse)
    private_folder.prepare(new, old)
    assert (old / SETTINGS_FILE).read_text() == TEXT and "No space left" in caplog.text
    monkeypatch.undo()
    private_folder.prepare(new, old)
    assert (new / SETTINGS_FILE).read_text() == TEXT and not (old / SETTINGS_FILE).exists()


# A worker's log and PID file


@POSIX
def test_a_log_and_a_note_are_their_owners_alone_and_hold_no_token(tmp_path):
    folder = tmp_path / "private"
    (tmp_path / "w").write_text("#!/bin/sh\nsleep 0\n")
    (tmp_path / "w").chmod(0o755)
    config = WorkerConfig(binary=str(tmp_path / "w"), token="s3cret", log=str(folder / "l.log"))
    worker_process.WorkerProcess(config)._process.wait(20)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in (folder / "l.log", folder / "l.pid"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and "s3cret" not in path.read_text()


NOTES = [
    "",
    "{",
    "[]",
    "null",
    '{"pid": "x"}',
    '{"pid": 1e400}',
    '{"pid": -1, "address": "a"}',
    "3",
]


@pytest.mark.parametrize("note", NOTES)
def test_a_damaged_note_is_no_process(tmp_path, note):
    config = WorkerConfig(log=str(tmp_path / "l.log"))
    (tmp_path / "l.pid").write_text(note)
    assert not worker_process.may_stop(config) and not worker_process.needs_restart(config)
    with pytest.raises(WorkerError, match="was not started by the node pack"):
        worker_process.stop(config)


# The next step on this machine


@pytest.mark.parametrize(("has_nvidia", "has_cargo"), [(True, True), (False, False)])
def test_the_next_step_is_pip_where_there_is_a_package(has_nvidia, has_cargo):
    hint = how_to_start(WorkerConfig(), Machine(has_nvidia, has_cargo, has_wheel=True))
    command = f"{shlex.quote(sys.executable)} -m pip install ovis-worker-bin"
    for text in (hint, hint.chinese.format(**hint.about)):
        assert command in text and "build" not in text and "cargo" not in text


NEXT = {
    (True, True): "worker/cuda-toolchain build",
    (False, True): "cargo build --release",
    (True, False): "Install Rust",
    (False, False): "Install Rust",
}


@pytest.mark.parametrize(("has_nvidia", "has_cargo"), NEXT)
def test_the_next_step_suits_the_machine(has_nvidia, has_cargo):
    machine = Machine(has_nvidia, has_cargo, has_wheel=False)
    hint = how_to_start(WorkerConfig(), machine)
    assert NEXT[has_nvidia, has_cargo] in hint and str(PACK_ROOT) in hint
    build = "worker/cuda-toolchain build" if has_nvidia else "cargo build --release"
    assert build in hint and build in hint.chinese.format(**hint.about)


def test_a_binary_that_is_there_is_started_from_the_sidebar():
    hint = how_to_start(WorkerConfig(binary="/opt/ovis-worker"), Machine(True, True))
    assert "sidebar" in hint and "/opt/ovis-worker" in hint and "build" not in hint


def test_of_another_machine_the_network_is_named():
    hint = how_to_start(WorkerConfig(url="gpu.example:9"), Machine(True, True))
    assert "firewall" in hint and "0.0.0.0:9" in hint and "build" not in hint


@pytest.mark.parametrize("found", [None, "/usr/bin/nvidia-smi"])
def test_a_driver_is_seen_by_its_program_or_its_files(monkeypatch, found):
    monkeypatch.setattr("shutil.which", lambda name, **_: found if "nvidia" in name else None)
    monkeypatch.setattr(os.path, "exists", lambda _: False)
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert Machine.detect() == Machine(found is not None, has_cargo=False, has_wheel=False)


# House templates lie where anyone who reaches ComfyUI can write: they are data

TEMPLATES = {
    "nested": b"[" * 60_000,
    "large": b'{"prompt": "' + b"x" * 70_000 + b'"}',
    "no text": b"\xff\xfe\xff",
    "reaching": b'{"prompt": "{__class__}"}',
    "a format": b'{"prompt": "{0.__init__}"}',
    "a path": b'{"prompt": "{headline}", "include": "../../secrets.json"}',
    "a number": b'{"prompt": 3}',
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_a_hostile_template_is_a_sentence_or_plain_text(tmp_path, case):
    (tmp_path / "odd.json").write_bytes(TEMPLATES[case])
    (tmp_path / "good.json").write_bytes(b"\xef\xbb\xbf" + b'{"prompt": "A {subject}"}')
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "._good.json").write_bytes(b"\0\5\x16\7")
    found = templates.find([tmp_path])
    assert found.named("good").compose({"subject": "{headline} {0}"}) == "A {headline} {0}"
    assert set(found.templates) == ({"good", "odd"} if case == "a path" else {"good"})
    assert len(found.problems) == (1 if case == "a path" else 2)
