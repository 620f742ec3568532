"""The environment of the worker's process: tokens, streams, variables, signals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from border_cli import parameters, refusal, small, wait_for, worker_command
from real_worker import RealWorker, binary, flags

# Tokens


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
@pytest.mark.parametrize("token", [None, "", " \t"])
def test_other_machines_need_a_token(tiny: Path, address: str, token: str | None) -> None:
    if address.startswith("[") and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    result = worker_command(
        "serve", model=tiny / "diffusers", listen=address, device="cpu",
        env={"OVIS_WORKER_TOKEN": token} if token is not None else None,
    )  # fmt: skip
    assert result.returncode == 1
    error, hint = result.stderr.splitlines()[-2:]
    assert error.startswith("error: other machines can reach ")
    assert "head -c 24 /dev/urandom | base64" in hint and "--insecure" in hint
    assert len(token or "") == 0 or "is blank, which is no token" in result.stderr


def test_the_command_of_the_hint_makes_a_token(tiny: Path) -> None:
    text = worker_command("serve", model=tiny / "diffusers", listen="0.0.0.0:0").stderr
    line = text.partition("export ")[2].partition(";")[0]
    made = subprocess.run(
        ["sh", "-c", f'export {line}; printf %s "$OVIS_WORKER_TOKEN"'],
        capture_output=True, text=True,
    )  # fmt: skip
    assert len(made.stdout) == 32 and made.stdout.isascii()


@pytest.mark.parametrize("name", ["environment", "flag"])
@pytest.mark.parametrize(
    "token", ["s3cret\n", " s3cret", "s3\x1bcret", "s3\u202ecret", "s3cret" * 200, b"s3cret\xff"]
)
def test_a_token_that_cannot_travel(tiny: Path, name: str, token: str | bytes) -> None:
    by = {"environment": ([], {"OVIS_WORKER_TOKEN": token}), "flag": (["--token", token], {})}
    raw, env = by[name]
    result = subprocess.run(
        [binary(), "serve", *raw, *flags(model=tiny / "diffusers", listen="127.0.0.1:0")],
        capture_output=True, timeout=60, env={**os.environ, **env},
    )  # fmt: skip
    assert result.returncode == 1
    text = result.stderr.decode()
    assert text.startswith("error: the token ") and "hint: Make another" in text
    assert "s3" not in text and "cret" not in text.replace("secret", "")


@pytest.mark.parametrize("by_flag", [True, False])
@pytest.mark.parametrize("token", ["", "  "])
def test_a_blank_token_is_none_and_is_said(
    tiny: Path, tmp_path: Path, token: str, by_flag: bool
) -> None:
    with RealWorker(
        tiny / "diffusers", tmp_path / "log", token=token, token_by_flag=by_flag, device="cpu"
    ) as worker:
        assert worker.encode(["a"], 8).shape == (1, 8, 64)
    assert (tmp_path / "log").read_text().count("is blank, which is no token") == 1


def test_insecure_is_said(tiny: Path, tmp_path: Path) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu", insecure=True) as worker:
        assert worker.encode(["a"], 8).shape == (1, 8, 64)
    process = subprocess.Popen(
        [binary(), "serve", *flags(model=tiny / "diffusers", listen="0.0.0.0:0", insecure=True)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(process.stderr, "other machines can use this worker")
    wait_for(process.stderr, "ready")
    process.terminate()
    process.stderr.close()
    assert process.wait(60) == 0


def test_help_does_not_show_the_token() -> None:
    text = worker_command("serve", "--help", env={"OVIS_WORKER_TOKEN": "s3cret"}).stdout
    assert "OVIS_WORKER_TOKEN" in text and "s3cret" not in text


# The process around it


@pytest.mark.parametrize("backtrace", ["0", "1", "full"])
@pytest.mark.parametrize("wrong", ["device", "weights", "value"])
def test_no_error_has_a_backtrace(tiny: Path, tmp_path: Path, backtrace: str, wrong: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny / "diffusers", model)
    values = small(tiny, tmp_path / "x.png") | {"model": model}
    if wrong == "device":
        values["device"] = "cuda:99"
    if wrong == "value":
        values["sampler"] = "none"
    if wrong == "weights":
        (file,) = (model / "vae").glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:-100])
    variables = {"RUST_BACKTRACE": backtrace, "RUST_LIB_BACKTRACE": backtrace}
    result = worker_command("generate", **values, env=variables)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) <= 2, result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "MODEL"],
        ["inspect", "MODEL", "--json"],
        ["--help"],
        ["serve", "--help"],
        ["--version"],
    ],
)
def test_a_reader_that_is_gone_is_no_error(tiny: Path, arguments: list[str]) -> None:
    arguments = [str(tiny / "diffusers") if a == "MODEL" else a for a in arguments]
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [binary(), *arguments], stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["inspect", "MODEL"], ["--help"]])
def test_an_output_without_room_is_told(tiny: Path, arguments: list[str]) -> None:
    arguments = [str(tiny / "diffusers") if a == "MODEL" else a for a in arguments]
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run([binary(), *arguments], stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert result.stderr.startswith(b"error: standard output cannot be written: ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams(tiny: Path, tmp_path: Path, closed: str) -> None:
    out = tmp_path / "x.png"
    line = [str(binary()), "generate", *flags(**small(tiny, out))]
    result = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *line], capture_output=True, timeout=120
    )
    assert result.returncode == 0 and b"panicked" not in result.stderr
    assert parameters(out)["prompt"] == "a"


def test_a_bare_environment(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    result = subprocess.run(
        [binary(), "generate", *flags(**small(tiny, out, prompt="雪"))],
        capture_output=True, timeout=120,
        env={"LC_ALL": "C", "TMPDIR": "/no/where", "HOME": "/no/where"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert parameters(out)["prompt"] == "雪"


def test_a_working_folder_that_was_removed(tiny: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = [str(binary()), "generate", *flags(**small(tiny, "x.png"))]
    result = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *line],
        capture_output=True, text=True, timeout=120, cwd=gone,
    )  # fmt: skip
    assert "x.png cannot be written" in refusal(result)
    out = tmp_path / "x.png"
    gone.mkdir()
    line = [str(binary()), "generate", *flags(**small(tiny, out))]
    result = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *line],
        capture_output=True, text=True, timeout=120, cwd=gone,
    )  # fmt: skip
    assert result.returncode == 0 and out.is_file()


# Signals


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", ["loading", "step "])
def test_generate_ends_at_once_when_asked(
    tiny: Path, tmp_path: Path, sent: signal.Signals, when: str
) -> None:
    out = tmp_path / "x.png"
    out.write_bytes(b"precious")
    values = small(tiny, out, steps=1000, width=512, height=512)
    process = subprocess.Popen(
        [binary(), "generate", *flags(**values)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(process.stderr, when)
    begun = time.monotonic()
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 1
    assert process.returncode == 128 + sent
    assert err.splitlines()[-1].startswith("error: stopped by ") and sent.name in err
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("x.png", b"precious")]


def test_a_hangup_that_is_ignored_stays_ignored(tiny: Path, tmp_path: Path) -> None:
    """`nohup` starts a process with SIGHUP ignored."""
    values = small(tiny, tmp_path / "x.png", steps=200)
    process = subprocess.Popen(
        [binary(), "generate", *flags(**values)],
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    wait_for(process.stderr, "step ")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_a_hangup_ends_a_server_as_sigterm_does(tiny: Path, tmp_path: Path) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu") as worker:
        worker.process.send_signal(signal.SIGHUP)
        assert worker.process.wait(30) == 0
    assert "signal=SIGHUP" in (tmp_path / "log").read_text()
