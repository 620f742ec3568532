"""The worker as the tests run it: its binary, its commands, and a client."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.wire import WireTensor
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.errors import NoWorker
from comfy_node.worker.job import JobEvent
from worker_binary import ROOT as ROOT
from worker_binary import binary as binary
from worker_binary import free_port as free_port
from worker_binary import stop

START_SECONDS = 60
JOB_SECONDS = 300


def flags(**values: object) -> list[str]:
    """Converts keyword arguments to flags; ``None`` is left out.

    `max_sequence_length=64` becomes `--max-sequence-length 64`, and `json=True` becomes `--json`. A
    list repeats its flag.
    """
    given = [
        (f"--{name.replace('_', '-')}", one)
        for name, value in values.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]
    return [
        text for name, value in given for text in ([name] if value is True else [name, str(value)])
    ]


def command(name: str, /, **values: object) -> subprocess.CompletedProcess[str]:
    """Runs one of the worker's commands until it exits, with any status."""
    arguments = [str(binary()), name, *flags(**values)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=JOB_SECONDS)


def generate(**values: object) -> subprocess.CompletedProcess[str]:
    """`ovis-worker generate`, which must succeed."""
    result = command("generate", **values)
    assert result.returncode == 0, f"{result.args} failed:\n{result.stdout}{result.stderr}"
    return result


def guided_latents(out: Path, **model: object) -> torch.Tensor:
    """The latents after two guided steps on a CPU.

    They depend on every part of the model but the VAE's decoder.
    """
    generate(
        **model,
        prompt="a red fox",
        width=64,
        height=48,
        steps=2,
        cfg=3,
        device="cpu",
        out=out / "image.png",
        latents_out=out / "latents.safetensors",
    )
    return load_file(out / "latents.safetensors")["latents"]


class RealWorker:
    """`ovis-worker serve` with a connected client; use it as a context manager.

    The worker gets its token by flag or environment variable.
    """

    def __init__(
        self,
        model: Path | None,
        log: Path,
        *,
        token: str | None = None,
        token_by_flag: bool = True,
        **values: object,
    ) -> None:
        self.log = log
        self.seconds_running = 0.0
        """Seconds that all jobs so far had the device, by the worker's own clock."""
        self.is_durable = "state_dir" in values
        """Whether the worker's jobs outlive its process."""
        self.address = f"127.0.0.1:{free_port()}"
        self.config = WorkerConfig(url=f"ws://{self.address}/ws", token=token)
        self._environment = {**os.environ}
        if token is not None and not token_by_flag:
            self._environment["OVIS_WORKER_TOKEN"] = token
            token = None
        self._command = [
            str(binary()),
            "serve",
            *flags(model=model, listen=self.address, token=token, **values),
        ]

    def __enter__(self) -> RealWorker:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, env=self._environment
            )
        self.client = WorkerClient(self.config)
        self._reach()
        return self

    def _reach(self) -> None:
        """Waits until the worker answers, and kills it if it does not."""
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.client.close()
        stop(self.process)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.client.connect().result(JOB_SECONDS)
                return
            except NoWorker:
                assert self.process.poll() is None, f"the worker ended:\n{self.log.read_text()}"
                assert time.monotonic() < deadline, f"no answer:\n{self.log.read_text()}"
                time.sleep(0.05)

    def get(self, path: str) -> tuple[int, str]:
        """Requests a page of the worker and returns status and body."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """A value of `/metrics`; 0 for a label that is not there yet."""
        lines = self.get("/metrics")[1].splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return float(values.get(f"ovis_{name}", 0))

    def submit(
        self, request: object, events: list[JobEvent] | None = None, **tensors: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], wire.Outcome]:
        """Runs a job and returns its tensors and its outcome."""
        sent = [to_wire(name, tensor) for name, tensor in tensors.items()]
        report = events.append if events is not None else lambda _: None
        result = self.client.submit(request, sent, report).result(JOB_SECONDS)
        self.seconds_running += result.outcome.seconds_running
        return {name: from_wire(t) for name, t in result.tensors.items()}, result.outcome

    def encode(self, prompts: Sequence[str], max_sequence_length: int = 256) -> torch.Tensor:
        return self.submit(wire.EncodeRequest(list(prompts), max_sequence_length))[0][
            "conditioning"
        ]

    def denoise(
        self,
        latent: torch.Tensor,
        positive: torch.Tensor,
        negative: torch.Tensor | None = None,
        *,
        seed: int = 0,
        steps: int = 1,
        cfg: float = 1.0,
        sampler: str = "euler",
        schedule: object | None = None,
        noise_mask: torch.Tensor | None = None,
        events: list[JobEvent] | None = None,
        **fields: object,
    ) -> torch.Tensor:
        """A denoise job; ``fields`` are those of :class:`wire.DenoiseRequest`."""
        request = wire.DenoiseRequest(
            seed, steps, cfg, sampler, schedule or wire.AutoSchedule(), **fields
        )
        tensors = {"positive": positive, "latent": latent}
        if negative is not None:
            tensors["negative"] = negative
        if noise_mask is not None:
            tensors["noise_mask"] = noise_mask
        return self.submit(request, events, **tensors)[0]["latent"]

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.submit(wire.DecodeRequest(), latent=latent)[0]["image"]

    def vae_encode(self, image: torch.Tensor) -> torch.Tensor:
        return self.submit(wire.VaeEncodeRequest(), image=image)[0]["latent"]


def to_wire(name: str, tensor: torch.Tensor) -> WireTensor:
    """A tensor as a job sends it."""
    header = wire.TensorHeader(name, wire.DType.F32, list(tensor.shape))
    return WireTensor(header, tensor.float().contiguous().numpy().tobytes())


def from_wire(tensor: WireTensor) -> torch.Tensor:
    """A tensor as a job returns it."""
    assert tensor.header.dtype == wire.DType.F32
    return torch.frombuffer(tensor.data, dtype=torch.float32).reshape(tensor.header.shape)
