"""Every kind of content of the settings file and the environment: read, or one sentence."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import tempfile
from pathlib import Path

import pytest

from comfy_node.settings import lookup, store
from comfy_node.settings.config import DEFAULT_URL, ENVIRONMENT, ComfyFolders, WorkerConfig
from comfy_node.settings.file import BACKUP_SUFFIX, SETTINGS_FILE, read_entries
from comfy_node.settings.secret import Secret
from comfy_node.texts import WorkerError
from comfy_node.worker.client import WorkerClient

POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX modes")

# Secrets


def test_a_secret_has_no_printable_form():
    secret = Secret("s3cret")
    config = WorkerConfig(url="ws://user:s3cret@gpu", token="s3cret")
    for one in (secret, config, config.endpoint):
        for shown in (repr(one), str(one), f"{one} {one!r}"):
            assert "s3cret" not in shown
    for write in (json.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            write(secret)
    assert copy.deepcopy(config) == config
    assert secret.reveal() == "s3cret" and secret == Secret("s3cret") != Secret("other")
    assert (Secret.of(" "), Secret.of(""), Secret.of(None)) == (None, None, None)


def test_a_fingerprint_changes_with_the_settings_and_tells_nothing():
    one = WorkerConfig(token="s3cret")
    prints = {
        lookup.fingerprint(config)
        for config in (
            one,
            WorkerConfig(token="other"),
            WorkerConfig(url="user:a@127.0.0.1"),
            WorkerConfig(url="user:b@127.0.0.1"),
        )
    }
    assert len(prints) == 4 and lookup.fingerprint(WorkerConfig(token="s3cret")) in prints


# The environment

BLANK = ["", " ", "\t\n"]


@pytest.mark.parametrize("blank", BLANK)
def test_a_blank_variable_counts_as_unset(tmp_path, blank):
    entry = {"url": "gpu:1", "token": "t", "binary": "/b", "model": "/m"}
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"workers": {"local": entry}}))
    environ = dict.fromkeys(ENVIRONMENT.values(), blank)
    config = lookup.resolve("local", ComfyFolders(tmp_path), environ)
    assert (config.url, config.token.reveal()) == ("ws://gpu:1/ws", "t")
    assert (config.binary, config.model) == ("/b", "/m")
    assert lookup.overridden("local", environ) == []
    bare = lookup.resolve("local", ComfyFolders(), environ)
    assert bare.token is None and bare.model is None


@pytest.mark.parametrize("blank", BLANK)
def test_a_blank_setting_counts_as_unset(tmp_path, blank):
    entry = dict.fromkeys(("url", "token", "binary", "model"), blank)
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"workers": {"local": entry}}))
    config = lookup.resolve("local", ComfyFolders(tmp_path), {})
    assert (config.url, config.token, config.model) == (DEFAULT_URL, None, None)


CLEAN = {
    "{}": "plain",
    " {} ": "blanks",
    "{}\r\n": "a line end of Windows",
    "{}\n": "a line end",
    '"{}"': "quotes",
    "'{}'": "single quotes",
    '"{}"\r\n': "quotes and a line end",
    "“{}”": "quotes of a text processor",
    "\u202a{}\u202c": "marks of direction",
    "\ufeff{}": "a byte-order mark",
}


@pytest.mark.parametrize("frame", CLEAN, ids=CLEAN.values())
@pytest.mark.parametrize("source", ["environment", "file", "browser"])
def test_a_value_is_read_without_what_was_copied_with_it(tmp_path, frame, source):
    (tmp_path / "w").write_text("#!/bin/sh\n")
    (tmp_path / "w").chmod(0o755)
    meant = {"url": "gpu:1", "token": "s3 cret", "model": str(tmp_path)}
    meant["binary"] = str(tmp_path / "w")
    typed = {key: frame.format(value) for key, value in meant.items()}
    environ = {}
    if source == "environment":
        environ = {ENVIRONMENT[key]: value for key, value in typed.items()}
    elif source == "file":
        (tmp_path / SETTINGS_FILE).write_text(json.dumps({"workers": {"local": typed}}))
    else:
        store.save(tmp_path, "local", typed)
    config = lookup.resolve("local", ComfyFolders(tmp_path), environ)
    assert (config.address, config.token.reveal()) == ("gpu:1", "s3 cret")
    assert (config.binary, config.model) == (meant["binary"], meant["model"])


@pytest.mark.parametrize("blank", ['""', "''", '" "', '"\r'])
def test_quotes_around_nothing_are_unset_and_a_lone_one_stays(blank):
    config = lookup.resolve("local", ComfyFolders(), {"OVIS_WORKER_TOKEN": blank})
    assert (config.token and config.token.reveal()) == ('"' if "\r" in blank else None)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    environ = {"OVIS_WORKER_BIN": "~/bin/w", "OVIS_WORKER_MODEL": '"~"'}
    config = lookup.resolve("local", ComfyFolders(), environ)
    assert (config.binary, config.model) == (os.path.join(tmp_path, "bin/w"), str(tmp_path))
    odd = lookup.resolve("local", ComfyFolders(), {"OVIS_WORKER_MODEL": "~root/x\0"})
    assert odd.model == "~root/x\0"
    store.save(tmp_path, "a", {"model": "~"})
    assert read_entries(tmp_path)["a"]["model"] == str(tmp_path)


TOKEN_ARGS = {
    "two words": ["--token", "s3cret"],
    "one word": ["--token=s3cret"],
    "one word with a space": ["--token s3cret"],
    "a line end": ["--token", "s3cret\r\n"],
    "twice": ["--token", "s3cret-not", "--token=s3cret"],
}


@pytest.mark.parametrize("case", TOKEN_ARGS)
def test_a_token_among_the_arguments_is_a_secret_like_any_other(tmp_path, caplog, case):
    (tmp_path / "w").write_text("#!/bin/sh\nsleep 0\n")
    (tmp_path / "w").chmod(0o755)
    entry = {
        "binary": str(tmp_path / "w"),
        "model": "/m",
        "args": ["--device", "cpu", *TOKEN_ARGS[case], "--precision=f32"],
    }
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"workers": {"local": entry}}))
    config = lookup.resolve("local", ComfyFolders(tmp_path), {})
    assert config.token.reveal() == "s3cret"
    assert config.args == ("--device", "cpu", "--precision=f32")
    assert "s3cret" not in repr(config)
    client = WorkerClient(config)
    with caplog.at_level(logging.DEBUG):
        process = client._link._start()
    process._process.wait(20)
    client.close()
    assert "Started" in caplog.text and "--precision=f32" in caplog.text
    assert "s3cret" not in caplog.text + " ".join(process.command)


def test_a_token_of_its_own_goes_before_one_among_the_arguments():
    config = WorkerConfig(token="own", args=("--token", "other"))
    assert (config.token.reveal(), config.args) == ("own", ())
    assert WorkerConfig(args=("--token",)).args == ()


# The file

GOOD = {"workers": {"local": {"url": "gpu:1", "token": "密"}}}
TEXT = json.dumps(GOOD, ensure_ascii=False)
READABLE = {
    "UTF-8": TEXT.encode(),
    "with a byte-order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16, the other way round": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "UTF-16 without a mark": TEXT.encode("utf-16-le"),
    "UTF-32": TEXT.encode("utf-32"),
    "lines of Windows": json.dumps(GOOD, indent=1).replace("\n", "\r\n").encode(),
    "more beside the workers": json.dumps({**GOOD, "more": [1]}).encode(),
}
UNREADABLE = {
    "nothing": b"",
    "half written": TEXT.encode()[:20],
    "no JSON": b"workers: local",
    "a list": b"[]",
    "null": b"null",
    "a number": b"3",
    "a list of workers": b'{"workers": []}',
    "a text for workers": b'{"workers": "local"}',
    "bytes of no encoding": b"\xff\x80\x00\xd8{",
    "nested a thousand times": b'{"workers":' + b"[" * 100_000,
    "larger than a megabyte": b'{"workers": {"a": {"url": "' + b"x" * (1 << 20) + b'"}}}',
}


@pytest.mark.parametrize("case", READABLE)
def test_a_file_in_any_encoding_is_read(tmp_path, case):
    (tmp_path / SETTINGS_FILE).write_bytes(READABLE[case])
    config = lookup.resolve("local", ComfyFolders(tmp_path), {})
    assert config.url == "ws://gpu:1/ws" and config.token
    store.save(tmp_path, "b", {"url": "gpu:2"})
    assert lookup.labels(ComfyFolders(tmp_path)) == ["local", "b"]


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_read_is_a_sentence_and_stays(tmp_path, case):
    path = tmp_path / SETTINGS_FILE
    path.write_bytes(UNREADABLE[case])
    for act in (
        lambda: lookup.resolve("local", ComfyFolders(tmp_path), {}),
        lambda: store.save(tmp_path, "a", {"url": "gpu:1"}),
        lambda: store.remove(tmp_path, "a"),
    ):
        with pytest.raises(WorkerError, match="cannot be read") as caught:
            act()
        assert BACKUP_SUFFIX in caught.value.hint and len(caught.value.message) < 900
    assert path.read_bytes() == UNREADABLE[case]
    assert lookup.labels(ComfyFolders(tmp_path)) == ["local"]


def test_a_folder_in_the_files_place_is_a_sentence(tmp_path):
    (tmp_path / SETTINGS_FILE).mkdir()
    with pytest.raises(WorkerError, match="it is not a file"):
        store.save(tmp_path, "a", {"url": "gpu:1"})
    with pytest.raises(WorkerError, match="it is not a file"):
        lookup.resolve("local", ComfyFolders(tmp_path), {})


@POSIX
def test_a_pipe_in_the_files_place_is_a_sentence(tmp_path):
    os.mkfifo(tmp_path / SETTINGS_FILE)
    with pytest.raises(WorkerError, match="it is not a file"):
        lookup.resolve("local", ComfyFolders(tmp_path), {})


def test_a_file_that_may_not_be_read_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / SETTINGS_FILE).write_text(TEXT)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WorkerError, match=r"cannot be read: .*Permission denied"):
        lookup.resolve("local", ComfyFolders(tmp_path), {})


@pytest.mark.parametrize("broken", ["mkstemp", "replace", "fsync"])
def test_a_change_that_cannot_be_written_changes_nothing(tmp_path, monkeypatch, broken):
    (tmp_path / SETTINGS_FILE).write_text(TEXT)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    owner = tempfile if broken == "mkstemp" else os
    monkeypatch.setattr(owner, broken, refuse)
    with pytest.raises(WorkerError, match=r"cannot be written: .*Read-only"):
        store.save(tmp_path, "b", {"url": "gpu:2"})
    monkeypatch.undo()
    assert (tmp_path / SETTINGS_FILE).read_text() == TEXT
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS_FILE], "nothing is left over"


def test_the_settings_before_a_change_are_kept(tmp_path):
    store.save(tmp_path, "a", {"url": "gpu:1"})
    before = (tmp_path / SETTINGS_FILE).read_bytes()
    store.save(tmp_path, "a", {"url": "gpu:2"})
    assert (tmp_path / (SETTINGS_FILE + BACKUP_SUFFIX)).read_bytes() == before


@POSIX
def test_a_file_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "dotfiles").mkdir()
    kept, link = tmp_path / "dotfiles" / "ovis.json", tmp_path / "private" / SETTINGS_FILE
    kept.write_text(TEXT)
    link.parent.mkdir()
    link.symlink_to(Path("..") / "dotfiles" / "ovis.json")
    store.save(link.parent, "b", {"url": "gpu:2"})
    assert link.is_symlink() and set(json.loads(kept.read_text())["workers"]) == {"local", "b"}
    assert [path.name for path in kept.parent.iterdir()] == ["ovis.json"]
    assert (link.parent / (SETTINGS_FILE + BACKUP_SUFFIX)).read_text() == TEXT


WRONG_ENTRIES = [
    None,
    3,
    "gpu",
    [],
    True,
    {"url": 3},
    {"token": {}},
    {"args": "--x"},
    {"url": "a b"},
]


@pytest.mark.parametrize("wrong", WRONG_ENTRIES, ids=str)
def test_one_bad_entry_hides_no_other(tmp_path, wrong):
    workers = {"bad": wrong, "good": {"url": "gpu:1"}}
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"workers": workers}))
    places = ComfyFolders(tmp_path)
    assert set(lookup.labels(places)) == {"local", "bad", "good"}
    assert lookup.resolve("good", places, {}).address == "gpu:1"
    with pytest.raises(WorkerError):
        lookup.resolve("bad", places, {})
    store.save(tmp_path, "bad", {"url": "gpu:2", "token": ""})
    entry = read_entries(tmp_path)["bad"]
    assert entry["url"] == "gpu:2" and entry.get("token") != 3


def test_odd_labels_neither_hide_nor_double_another(tmp_path):
    labels = {"": {}, "  ": {}, "local ": {}, "a/b": {}, "x" * 500: {}, "è": {}}
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"workers": labels}))
    listed = lookup.labels(ComfyFolders(tmp_path))
    assert listed.count("local") == 1 and "" not in listed and "è" in listed
    log = lookup.resolve("x" * 500, ComfyFolders(tmp_path), {}).log
    assert len(Path(log).name) < 100


@pytest.mark.parametrize("field", ["binary", "model"])
@pytest.mark.parametrize("path", ["\0", "x\0y", "x" * 10_000, "/nowhere", "."])
def test_paths_that_are_none(tmp_path, field, path):
    if (field, path) == ("model", "."):
        return store.save(tmp_path, "a", {field: path})
    with pytest.raises(WorkerError, match=r"There is no program|does not exist"):
        store.save(tmp_path, "a", {field: path})


def test_a_budget_of_gpu_memory_reaches_the_workers_command_line(tmp_path):
    store.save(tmp_path, "a", {"vram": " 12 GiB\n"})
    folders = ComfyFolders(tmp_path)
    assert lookup.resolve("a", folders, {}).args == ("--vram", "12 GiB")
    store.save(tmp_path, "a", {"vram": ""})
    assert lookup.resolve("a", folders, {}).args == ()
    set_outside = lookup.resolve("local", folders, {"OVIS_WORKER_VRAM": "8G"})
    assert set_outside.args == ("--vram", "8G")
    entry = {"vram": "6G", "args": ["--vram=4G"]}
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"workers": {"a": entry}}))
    assert lookup.resolve("a", folders, {}).args == ("--vram=4G",)


@pytest.mark.parametrize("vram", ["much", "-1G", "12 apples", "1..5G", "G", "0x10"])
def test_what_is_no_amount_of_memory_is_refused(tmp_path, vram):
    with pytest.raises(WorkerError, match="is not an amount of GPU memory"):
        store.save(tmp_path, "a", {"vram": vram})
    assert lookup.labels(ComfyFolders(tmp_path)) == ["local"]


def test_a_hidden_login_comes_back_unchanged_and_goes_to_no_other_host(tmp_path):
    store.save(tmp_path, "a", {"url": "wss://user:secret@gpu.example/ovis"})
    shown = lookup.resolve("a", ComfyFolders(tmp_path), {}).endpoint.display_url
    assert shown == "wss://***@gpu.example:443/ovis"
    store.save(tmp_path, "a", {"url": shown})
    where = lookup.resolve("a", ComfyFolders(tmp_path), {}).endpoint
    assert (where.url, where.login_text()) == ("wss://gpu.example:443/ovis", "user:secret")
    with pytest.raises(WorkerError, match="belongs to another host"):
        store.save(tmp_path, "a", {"url": shown.replace("gpu.", "evil.")})


def test_a_hidden_query_comes_back_unchanged_and_goes_to_no_other_host(tmp_path):
    typed = "wss://user:secret@gpu.example/ws?token=k3y"
    store.save(tmp_path, "a", {"url": typed})
    shown = lookup.resolve("a", ComfyFolders(tmp_path), {}).endpoint.display_url
    assert shown == "wss://***@gpu.example:443/ws?***"
    store.save(tmp_path, "a", {"url": shown})
    where = lookup.resolve("a", ComfyFolders(tmp_path), {}).endpoint
    assert where.socket_url == "wss://gpu.example:443/ws?token=k3y"
    assert where.login_text() == "user:secret"
    with pytest.raises(WorkerError, match="belongs to another host"):
        store.save(tmp_path, "a", {"url": "wss://evil.example/ws?***"})
