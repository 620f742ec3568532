"""Changes to the settings that the browser asks for."""

from __future__ import annotations

import json
import os
import stat

import pytest

from comfy_node.settings import lookup, store
from comfy_node.settings.config import ComfyFolders
from comfy_node.settings.file import BACKUP_SUFFIX, SETTINGS_FILE
from comfy_node.texts import WorkerError


def written(user) -> dict:
    return json.loads((user / SETTINGS_FILE).read_text(encoding="utf-8"))


def test_fields_change_one_by_one_and_the_rest_stays(tmp_path):
    entry = {"url": "ws://a:1", "token": "secret", "args": ["--device", "cuda"]}
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"workers": {"a": entry}, "more": 1}))
    store.save(tmp_path, "a", {"url": " ws://b:2 ", "model": str(tmp_path)})
    changed = {**entry, "url": "ws://b:2", "model": str(tmp_path)}
    assert written(tmp_path) == {"workers": {"a": changed}, "more": 1}
    store.save(tmp_path, "a", {"token": "", "model": ""})
    assert set(written(tmp_path)["workers"]["a"]) == {"url", "args"}
    assert lookup.labels(ComfyFolders(tmp_path)) == ["local", "a"]
    store.remove(tmp_path, "a")
    assert lookup.labels(ComfyFolders(tmp_path)) == ["local"]
    kept = {SETTINGS_FILE, SETTINGS_FILE + BACKUP_SUFFIX}
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_a_file_that_may_hold_a_token_is_its_owners_alone(tmp_path):
    store.save(tmp_path / "user", "local", {"token": "secret"})
    mode = (tmp_path / "user" / SETTINGS_FILE).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    ("label", "changes", "said"),
    [
        ("../x", {}, "not a valid label"),
        ("", {}, "not a valid label"),
        ("a", {"url": "ftp://x"}, "is not a worker's address"),
        ("a", {"binary": "/nowhere/ovis-worker"}, "There is no program"),
        ("a", {"binary": __file__}, "There is no program"),
        ("a", {"model": "/nowhere"}, "does not exist"),
        ("a", {"args": "x"}, "settings are the texts"),
        ("a", {"url": 1}, "settings are the texts"),
    ],
)
def test_what_would_not_work_is_refused_and_changes_nothing(tmp_path, label, changes, said):
    with pytest.raises(WorkerError, match=said):
        store.save(tmp_path, label, changes)
    assert not (tmp_path / SETTINGS_FILE).exists()


def test_an_unreadable_file_is_not_overwritten(tmp_path):
    (tmp_path / SETTINGS_FILE).write_text("{")
    with pytest.raises(WorkerError, match="cannot be read"):
        store.save(tmp_path, "a", {"url": "ws://a:1"})
    assert (tmp_path / SETTINGS_FILE).read_text() == "{"


def test_what_is_not_there_cannot_be_removed(tmp_path):
    with pytest.raises(WorkerError, match="no settings for a worker called `a`"):
        store.remove(tmp_path, "a")
