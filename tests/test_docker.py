"""The containers: what they run, as whom, and how their health is asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from comfy_node.settings.config import ENVIRONMENT
from real_worker import ROOT, binary, command, free_port
from worker_binary import stop

DOCKER = ROOT / "packaging/docker"
WORKER, COMFYUI = DOCKER / "Dockerfile", DOCKER / "comfyui.Dockerfile"


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its arguments on one line."""
    text = re.sub(r"\\\n", " ", path.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.strip().split(maxsplit=1)) for line in lines]


def argument(path: Path, name: str) -> str:
    (found,) = [value for kind, value in instructions(path) if kind == name]
    return found


def compose() -> dict:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [WORKER, COMFYUI], ids=["worker", "comfyui"])
def test_a_container_runs_as_a_user_of_its_own_and_tells_its_health(path):
    user, group = argument(path, "USER").split(":")
    assert user == group and int(user) >= 10_000
    assert f"--uid {user}" in path.read_text(encoding="utf-8")
    assert "CMD" in argument(path, "HEALTHCHECK")
    assert json.loads(argument(path, "ENTRYPOINT"))


def test_everything_that_is_copied_exists_and_is_in_the_context():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for path, context in ((WORKER, DOCKER), (COMFYUI, ROOT)):
        for kind, value in instructions(path):
            if kind == "COPY":
                *sources, _ = [word for word in value.split() if not word.startswith("--")]
                for source in sources:
                    assert (context / source).exists(), source
                    assert context != ROOT or source in kept, source


def test_the_two_containers_agree():
    worker, comfyui = compose()["services"]["worker"], compose()["services"]["comfyui"]
    url = comfyui["environment"][ENVIRONMENT["url"]]
    options = worker["command"]
    name = options[options.index("--allowed-host") + 1]
    assert url == f"ws://{name}:{argument(WORKER, 'EXPOSE')}" and name in compose()["services"]
    assert options[options.index("--tls") + 1] == "off"
    token = ENVIRONMENT["token"]
    assert worker["environment"][token] == comfyui["environment"][token]
    assert token in worker["environment"][token]
    # Nobody but this machine reaches ComfyUI, and nobody but ComfyUI the worker.
    assert all(port.startswith("127.0.0.1:") for port in comfyui["ports"])
    assert "ports" not in worker and compose()["networks"]["private"]["internal"]
    assert worker["read_only"] and worker["cap_drop"] == comfyui["cap_drop"] == ["ALL"]
    gpu = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text(encoding="utf-8"))
    assert gpu["services"].keys() <= compose()["services"].keys()


def arguments(folder: Path, port: int, options: list[str]) -> list[str]:
    """A container's command line, with paths and port of this machine."""
    line = [*json.loads(argument(WORKER, "ENTRYPOINT"))[1:], *options]
    places = {"/state": str(folder / "state"), "/models": str(folder / "models")}
    return [places.get(word, word).replace(":7867", f":{port}") for word in line]


def asked(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DOCKER / "healthcheck", str(port)],
        capture_output=True,
        text=True,
        timeout=30,
    )


def default_options() -> list[str]:
    return json.loads(argument(WORKER, "CMD"))


@pytest.mark.parametrize("kind", ["alone, with TLS", "in compose"])
def test_the_container_serves_the_demo_model_and_says_so_to_the_health_check(tmp_path, kind):
    (tmp_path / "models").mkdir()
    (tmp_path / "state").mkdir(mode=0o700)
    alone = kind.startswith("alone")
    options = default_options() if alone else compose()["services"]["worker"]["command"]
    port = free_port()
    line = [str(binary()), *arguments(tmp_path, port, options)]
    assert asked(port).returncode == 1
    environ = {**os.environ, "OVIS_WORKER_TOKEN": "a-token-of-some-length"}
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(line, stdout=log, stderr=log, env=environ)
    try:
        deadline = time.monotonic() + 90
        while (answer := asked(port)).returncode:
            text = (tmp_path / "log").read_text()
            assert started.poll() is None and time.monotonic() < deadline, text
            time.sleep(0.2)
        assert answer.stdout == "ready\n"
        assert ("fingerprint" in (tmp_path / "log").read_text()) == alone
    finally:
        stop(started)
    gone = asked(port)
    assert gone.returncode == 1 and "Refused" in gone.stdout


def test_a_container_without_a_token_does_not_serve(tmp_path):
    (tmp_path / "models").mkdir()
    line = [str(binary()), *arguments(tmp_path, free_port(), default_options())]
    environ = {name: text for name, text in os.environ.items() if name != "OVIS_WORKER_TOKEN"}
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environ)
    assert ended.returncode == 1 and "there is no token" in ended.stderr


def test_every_option_of_the_containers_exists():
    known = command("serve", help=True).stdout
    used = [
        *json.loads(argument(WORKER, "ENTRYPOINT")),
        *default_options(),
        *compose()["services"]["worker"]["command"],
    ]
    assert all(word in known for word in used if word.startswith("--"))
