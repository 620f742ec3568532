"""TLS to a worker: pinned certificates, those of an authority, and sentences for all others."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from comfy_node import wire
from comfy_node.settings import lookup, store
from comfy_node.settings.certificate import display_fingerprint, read_fingerprint
from comfy_node.settings.config import ComfyFolders, WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.status import query_status
from fake_worker import FakeWorker
from test_client import TIMEOUT, denoise, latent

OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificates")
DIGITS = hashlib.sha256(b"a certificate").hexdigest()
ENCODE = wire.EncodeRequest(["a"], 8)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> list[Path]:
    """Two self-made certificates, each with its key in one file."""
    folder = tmp_path_factory.mktemp("tls")
    made = []
    for name in ("one", "other"):
        key, certificate, both = (folder / f"{name}.{kind}" for kind in ("key", "crt", "pem"))
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=ovis-worker", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        made.append(both)
    return made


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def fingerprint_of(certificate: Path) -> str:
    text = certificate.read_text()
    begin = text.index("-----BEGIN CERTIFICATE-----")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[begin:])).hexdigest()


def failure(config: WorkerConfig) -> WorkerError:
    client = WorkerClient(config)
    try:
        with pytest.raises(WorkerError) as caught:
            client.submit(ENCODE).result(TIMEOUT)
        return caught.value
    finally:
        client.close()


@OPENSSL
def test_a_pinned_certificate_is_trusted_whoever_made_it(certificates):
    with FakeWorker(tls=serving(certificates[0])) as fake:
        config = WorkerConfig(url=fake.url, fingerprint=fingerprint_of(certificates[0]))
        client = WorkerClient(config)
        assert client.submit(denoise(1), [latent()]).result(TIMEOUT)
        assert asyncio.run(query_status(config)).state == "connected" or client.connected
        client.close()


@OPENSSL
def test_an_unknown_certificate_is_shown_by_its_fingerprint(certificates):
    with FakeWorker(tls=serving(certificates[0])) as fake:
        error = failure(WorkerConfig(url=fake.url))
        seen = display_fingerprint(fingerprint_of(certificates[0]))
        assert "is not trusted on this machine" in error.message
        assert f"compare the fingerprint {seen} with the one in the worker's log" in error.hint
        assert seen in error.text("zh")
        status = asyncio.run(query_status(WorkerConfig(url=fake.url)))
        assert status.state == "other" and seen in status.problem.hint
        assert fake.connections == 0
        # What the hint shows can be put into the settings as it is.
        client = WorkerClient(WorkerConfig(url=fake.url, fingerprint=seen))
        assert client.submit(ENCODE).result(TIMEOUT)
        client.close()


@OPENSSL
def test_another_certificate_than_the_pinned_one_gets_nothing(certificates):
    with FakeWorker(tls=serving(certificates[1])) as fake:
        expected = fingerprint_of(certificates[0])
        config = WorkerConfig(url=fake.url, fingerprint=expected, token="s3cret")
        error = failure(config)
        seen = fingerprint_of(certificates[1])
        assert error.message == (
            f"The certificate of 127.0.0.1:{fake.port} has the fingerprint "
            f"{display_fingerprint(seen)}, but the settings expect {display_fingerprint(expected)}."
        )
        assert "Nothing was sent" in error.hint
        assert fake.connections == 0 and fake.secrets == []
        status = asyncio.run(query_status(config))
        assert status.state == "other" and display_fingerprint(seen) in status.problem.message


@OPENSSL
def test_plain_text_to_tls_and_tls_to_plain_text_are_told_apart(certificates):
    with FakeWorker(tls=serving(certificates[0])) as fake:
        assert (
            "accepts only TLS connections"
            in failure(WorkerConfig(url=f"ws://127.0.0.1:{fake.port}")).message
        )
    with FakeWorker() as fake:
        for pinned in (None, DIGITS):
            config = WorkerConfig(url=f"wss://127.0.0.1:{fake.port}", fingerprint=pinned)
            assert "does not use TLS" in failure(config).message


# Settings


@pytest.mark.parametrize(
    "text",
    [
        DIGITS,
        DIGITS.upper(),
        display_fingerprint(DIGITS),
        f"SHA256:{display_fingerprint(DIGITS)}",
        f" sha-256={DIGITS}\n",
        " ".join(DIGITS[n : n + 8] for n in range(0, 64, 8)),
    ],
)
def test_a_fingerprint_is_read_as_people_copy_it(text):
    assert read_fingerprint(text) == DIGITS
    assert WorkerConfig(url="wss://gpu:1", fingerprint=text).fingerprint == DIGITS


@pytest.mark.parametrize("text", [DIGITS[:-1], DIGITS + "0", "g" * 64, "SHA256:", "\u0661" * 64])
def test_what_is_no_fingerprint_is_refused(tmp_path, text):
    with pytest.raises(WorkerError, match="is not the fingerprint of a certificate"):
        WorkerConfig(url="wss://gpu:1", fingerprint=text)
    with pytest.raises(WorkerError, match="is not the fingerprint of a certificate"):
        store.save(tmp_path, "a", {"fingerprint": text})
    assert not (tmp_path / "ovis_worker.json").exists()


def test_a_fingerprint_for_an_address_without_tls_is_refused():
    with pytest.raises(WorkerError, match="does not use TLS") as caught:
        WorkerConfig("studio", url="ws://gpu:1", fingerprint=DIGITS)
    assert "wss://" in caught.value.hint


def test_a_fingerprint_comes_from_the_file_or_the_environment(tmp_path):
    store.save(tmp_path, "studio", {"url": "wss://gpu:1", "fingerprint": DIGITS})
    written = json.loads((tmp_path / "ovis_worker.json").read_text())["workers"]["studio"]
    assert written["fingerprint"] == display_fingerprint(DIGITS)
    assert lookup.resolve("studio", ComfyFolders(tmp_path), {}).fingerprint == DIGITS
    environ = {"OVIS_WORKER_URL": "wss://gpu:1", "OVIS_WORKER_FINGERPRINT": DIGITS}
    assert lookup.resolve("local", ComfyFolders(tmp_path), environ).fingerprint == DIGITS
    store.save(tmp_path, "studio", {"fingerprint": ""})
    assert lookup.resolve("studio", ComfyFolders(tmp_path), {}).fingerprint is None


@pytest.mark.parametrize("value", [0, 1, 600, 30.5])
def test_the_patience_is_a_number_of_seconds(tmp_path, value):
    (tmp_path / "ovis_worker.json").write_text(
        json.dumps({"workers": {"local": {"patience": value}}})
    )
    assert lookup.resolve("local", ComfyFolders(tmp_path), {}).patience == value


@pytest.mark.parametrize("value", [-1, "600", True, None, [], 1e300, float("nan")])
def test_another_patience_is_refused(tmp_path, value):
    (tmp_path / "ovis_worker.json").write_text(
        json.dumps({"workers": {"local": {"patience": value}}})
    )
    with pytest.raises(WorkerError, match="is invalid"):
        lookup.resolve("local", ComfyFolders(tmp_path), {})
