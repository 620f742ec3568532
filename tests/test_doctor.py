"""`doctor` says what `serve` would do on this machine, and what to do about each fault."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from real_worker import RealWorker, command, free_port


def doctor(**arguments: object) -> tuple[int, dict[str, list[dict]]]:
    """The exit status, and the findings by subject."""
    arguments = {"listen": f"127.0.0.1:{free_port()}", "device": "cpu", **arguments}
    result = command("doctor", json=True, **arguments)
    report = json.loads(result.stdout)
    found: dict[str, list[dict]] = {}
    for finding in report["findings"]:
        assert set(finding) == {"subject", "verdict", "text", "remedy"}
        found.setdefault(finding["subject"], []).append(finding)
    faults = [f for all in found.values() for f in all if f["verdict"] == "fault"]
    assert report["faults"] == len(faults)
    assert bool(faults) == (result.returncode == 1) == ("serve would fail" in result.stderr)
    return result.returncode, found


def fault(found: dict[str, list[dict]], subject: str) -> dict:
    (only,) = [finding for finding in found[subject] if finding["verdict"] == "fault"]
    return only


def test_a_machine_that_can_serve(tiny: Path) -> None:
    status, found = doctor(model=tiny / "diffusers", device=None)
    assert status == 0
    assert "for protocol" in found["program"][0]["text"]
    assert " as " in found["device"][0]["text"]
    parts = " ".join(finding["text"] for finding in found["weights"])
    assert all(f"{part}: " in parts for part in ("transformer", "text encoder", "VAE", "tokenizer"))
    (chosen,) = [f for f in found["precision"] if "(chosen)" in f["text"]]
    assert chosen["verdict"] == "ok"
    assert found["address"][0]["text"].endswith("is free")


def test_without_arguments_it_speaks_of_the_demo_model() -> None:
    status, found = doctor()
    assert status == 0
    assert "because no argument names another" in found["weights"][0]["text"]


def test_the_report_for_people(tiny: Path) -> None:
    result = command("doctor", model=tiny / "nothing", device="cpu", listen="nonsense")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    for subject in ("weights", "address"):
        place = next(i for i, line in enumerate(lines) if line.startswith(f"fault  {subject}: "))
        assert lines[place + 1].startswith("       "), lines
    assert "error: serve would fail for the 2 faults above" in result.stderr


@pytest.mark.parametrize(("part", "name"), [("vae", "VAE"), ("text_encoder", "text encoder")])
def test_weights_that_lack_a_part(tiny: Path, tmp_path: Path, part: str, name: str) -> None:
    for each in {"transformer", "text_encoder", "vae"} - {part}:
        (tmp_path / each).symlink_to(tiny / "diffusers" / each)
    status, found = doctor(model=tmp_path)
    assert status == 1
    assert name in fault(found, "weights")["text"]


def test_an_address_of_others_needs_a_token() -> None:
    port = free_port()
    status, found = doctor(listen=f"0.0.0.0:{port}")
    assert status == 1
    assert "no token" in fault(found, "address")["text"]
    assert "OVIS_WORKER_TOKEN" in fault(found, "address")["remedy"]
    status, found = doctor(listen=f"0.0.0.0:{port}", token="generate")
    assert status == 0
    assert "is made when the worker starts" in found["token"][0]["text"]
    status, found = doctor(token="two words\n")
    assert status == 1
    assert fault(found, "token")["remedy"]


def test_a_worker_that_runs_is_no_fault(tiny: Path, tmp_path: Path) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu") as worker:
        status, found = doctor(model=tiny / "diffusers", listen=worker.address)
    assert status == 0
    assert "a worker (ovis-worker" in found["address"][0]["text"]
    assert "is ok at" in found["address"][0]["text"]


def test_a_worker_with_a_token_is_no_fault(tiny: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with RealWorker(tiny / "diffusers", log, token="secret-secret", device="cpu") as worker:
        status, found = doctor(model=tiny / "diffusers", listen=worker.address)
    assert status == 0
    assert "wants a token" in found["address"][0]["text"]


@contextmanager
def other_program(status: int, body: bytes) -> Iterator[str]:
    """A web server that is no worker; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"no"), (200, b"<html>"), (200, b"{}"), (200, b"{" * 200_000)]
)
def test_another_program_at_the_address(status: int, body: bytes) -> None:
    with other_program(status, body) as address:
        code, found = doctor(listen=address)
    assert code == 1
    assert "another program has the address" in fault(found, "address")["text"]


def test_a_worker_of_another_protocol() -> None:
    told = {
        "worker": "ovis-worker 9.9",
        "protocol": 99,
        "status": "ok",
        "model": "m",
        "device": "d",
    }
    with other_program(200, json.dumps(told).encode()) as address:
        code, found = doctor(listen=address)
    assert code == 0
    assert found["address"][0]["verdict"] == "note"
    assert "it speaks protocol 99" in found["address"][0]["text"]


def test_a_gpu_that_is_asked_for_and_not_there() -> None:
    code, found = doctor(device="cuda:63")
    assert code == 1
    assert fault(found, "device")["remedy"]
    assert found["memory"] and found["weights"] and found["address"]


def test_plans_for_the_cards_that_people_have(tiny: Path) -> None:
    status, found = doctor(model=tiny / "diffusers", vram="12GiB")
    assert status == 0
    assert "no effect on a CPU" in found["budget"][0]["text"]
    texts = [finding["text"] for finding in found["plan"]]
    cards = [text for text in texts if text.startswith("a card of ")]
    assert [text.split()[3] for text in cards] == ["24", "16", "12", "8", "6"]
    for text in cards:
        for precision in ("bf16", "fp8", "q8_0", "q4_k"):
            assert f"; {precision}: all weights stay on the GPU" in text
