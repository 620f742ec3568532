"""How much memory a job may make the worker allocate, for every kind of job and any size.

A worker with a small memory budget (`--memory`) refuses a job at `Submit` by its numbers; admitted
jobs stay within the budget.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from comfy_node import wire
from comfy_node.texts import WorkerError
from comfy_node.wire import WireTensor
from comfy_node.worker.client import WorkerClient
from real_worker import RealWorker, command, generate, to_wire
from reference import noise
from soak.wire_client import JobFailed, WireClient

WIDTH = 64
"""The tiny checkpoint's text width."""

UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
GIB = UNITS["GiB"]
TIMEOUT = 120


class Announced(WireTensor):
    """A tensor of zeros that is announced but never sent.

    A refusal must come before its bytes.
    """

    def __init__(self, name: str, *shape: int) -> None:
        super().__init__(wire.TensorHeader(name, wire.DType.F32, list(shape)), b"")


def request(name: str, **values: object) -> object:
    """A request by the name of its operation."""
    if name == "denoise":
        fields = {"cfg": 1.0, "steps": 1, **values}
        return wire.DenoiseRequest(
            0, fields.pop("steps"), fields.pop("cfg"), "euler", wire.AutoSchedule(), **fields
        )
    if name == "encode":
        return wire.EncodeRequest(values["prompts"], values["length"])
    return {"decode": wire.DecodeRequest, "vae-encode": wire.VaeEncodeRequest}[name]()


MONSTERS = {
    "262,144 tiny latents with one conditioning": (
        request("denoise"),
        {"positive": (1, 256, WIDTH), "latent": (262_144, 16, 2, 2)},
    ),
    "4,096 latents with a long conditioning": (
        request("denoise"),
        {"positive": (1, 60_000, WIDTH), "latent": (4096, 16, 2, 2)},
    ),
    "both branches of guidance": (
        request("denoise", cfg=5.0),
        {
            "positive": (1, 256, WIDTH),
            "negative": (1, 60_000, WIDTH),
            "latent": (64, 16, 64, 64),
        },
    ),
    "a long conditioning alone": (
        request("denoise"),
        {"positive": (1, 1_000_000, WIDTH), "latent": (1, 16, 2, 2)},
    ),
    "262,144 latents of one position to decode": (
        request("decode"),
        {"latent": (262_144, 16, 1, 1)},
    ),
    "one enormous latent to decode": (request("decode"), {"latent": (1, 16, 1024, 1024)}),
    "a large batch to decode": (request("decode"), {"latent": (64, 16, 128, 128)}),
    "one enormous image to encode": (request("vae-encode"), {"image": (1, 8192, 8192, 3)}),
    "a large batch to encode": (request("vae-encode"), {"image": (64, 1024, 1024, 3)}),
    "63 short prompts and one of 49,152 digits": (
        request("encode", prompts=["7"] * 63 + ["7" * 49_152], length=1 << 20),
        {},
    ),
    "one prompt of 49,152 digits": (request("encode", prompts=["7" * 49_152], length=300), {}),
}


@pytest.fixture(scope="module")
def small(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWorker]:
    """A worker that may use 64 MiB for its jobs."""
    log = tmp_path_factory.mktemp("small") / "worker.log"
    with RealWorker(tiny / "diffusers", log, device="cpu", memory="64MiB") as running:
        yield running


def refused(worker: RealWorker, job: object, shapes: dict[str, tuple[int, ...]]) -> WorkerError:
    sent = [Announced(name, *shape) for name, shape in shapes.items()]
    with pytest.raises(WorkerError) as caught:
        worker.client.submit(job, sent, lambda _: None).result(30)
    return caught.value


def numbers(text: str) -> list[float]:
    """The sizes that a sentence contains, in bytes."""
    found = re.findall(r"([\d.]+) (bytes|[KMGT]iB)", text)
    return [float(number) * UNITS[unit] for number, unit in found]


@pytest.mark.parametrize("name", MONSTERS)
def test_a_monster_is_refused_before_its_bytes_come(small: RealWorker, name: str) -> None:
    job, shapes = MONSTERS[name]
    begun = time.monotonic()
    error = refused(small, job, shapes)
    assert time.monotonic() - begun < 10
    assert error.code in (wire.ErrorCode.OUT_OF_MEMORY, wire.ErrorCode.INVALID_REQUEST), error
    text = str(error)
    sizes = numbers(text)
    if error.code == wire.ErrorCode.OUT_OF_MEMORY:
        needed, there = sizes[0], sizes[1]
        assert needed > there == 64 << 20, text
    else:
        # Jobs that no worker accepts: they exceed what one message may announce or return.
        assert sizes or re.search(r"the most is [\d,]+", text), text
    # The worker still answers.
    assert small.encode(["a fox"], 16).shape == (1, 16, WIDTH)


def test_what_is_advised_is_let_in(small: RealWorker) -> None:
    error = refused(small, request("decode"), {"latent": (1024, 16, 16, 16)})
    advised = re.search(r"A batch of (\d+) at this size would fit", str(error) + error.hint)
    assert advised, (str(error), error.hint)
    batch = int(advised[1])
    # Its bytes never arrive, so a job that was admitted waits for them.
    waiting = small.client.submit(
        request("decode"), [Announced("latent", batch, 16, 16, 16)], lambda _: None
    )
    with pytest.raises(TimeoutError):
        waiting.result(1)
    waiting.cancel()
    refused(small, request("decode"), {"latent": (batch + 1, 16, 16, 16)})


def resident(worker: RealWorker, what: str) -> int:
    """Resident memory of the worker in bytes: `VmRSS` is the current value, `VmHWM` the peak."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) << 10


LARGE = {
    "decode": (request("decode"), {"latent": (1, 16, 40, 40)}),
    "decode of a batch": (request("decode"), {"latent": (4, 16, 24, 24)}),
    "vae-encode": (request("vae-encode"), {"image": (1, 384, 384, 3)}),
    "denoise": (request("denoise"), {"positive": (1, 256, WIDTH), "latent": (16, 16, 16, 16)}),
    "denoise of a long text": (
        request("denoise"),
        {"positive": (1, 3000, WIDTH), "latent": (1, 16, 8, 8)},
    ),
    "encode": (request("encode", prompts=["7" * 3000], length=1 << 20), {}),
    "encode of a batch": (request("encode", prompts=["7" * 200] * 64, length=256), {}),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_job_stays_within_what_it_was_let_in_with(
    tiny: Path, tmp_path: Path, small: RealWorker, name: str
) -> None:
    """With exactly the memory that the refusal names, the job runs and uses no more."""
    job, shapes = LARGE[name]
    with RealWorker(tiny / "diffusers", tmp_path / "none.log", device="cpu", memory="1KiB") as none:
        needed = numbers(str(refused(none, job, shapes)))[0]
    memory = int(needed * 1.05)
    tensors = {name: torch.rand(*shape) for name, shape in shapes.items()}
    with RealWorker(
        tiny / "diffusers", tmp_path / "worker.log", device="cpu", memory=str(memory)
    ) as worker:
        before = resident(worker, "VmRSS")
        worker.submit(job, **tensors)
        # Allowance for thread stacks, socket buffers and code that is used for the first time.
        grown = resident(worker, "VmHWM") - before - (64 << 20)
    assert grown <= memory, f"{grown / 2**20:.0f} MiB of {memory / 2**20:.0f}"


def test_jobs_that_wait_are_counted_together(small: RealWorker) -> None:
    """Each job fits alone. One that does not fit beside the others may be sent again."""
    header = wire.TensorHeader("latent", wire.DType.F32, [1, 16, 32, 32])

    async def refusals() -> list[wire.WireError]:
        found = []
        async with WireClient(f"ws://{small.address}/", "a test") as client:
            for _ in range(48):
                # Admitted jobs wait for bytes that never arrive.
                await client.send(wire.Submit(uuid.uuid4().bytes, request("decode"), [header]))
            await client.send(wire.StatusRequest())
            while True:
                try:
                    if isinstance(await client.receive(), wire.Status):
                        return found
                except JobFailed as failed:
                    found.append(failed.error)

    refused = asyncio.run(refusals())
    assert 0 < len(refused) < 48
    assert {error.code for error in refused} == {wire.ErrorCode.QUEUE_FULL}
    assert "other jobs hold" in refused[0].message
    assert 1 <= refused[0].retry_after <= 60
    small.decode(torch.zeros(1, 16, 4, 4))


def test_a_decode_in_parts_is_the_same_picture(tiny: Path, tmp_path: Path, small) -> None:
    """An image that exceeds `--memory` is decoded in bands, with the same values."""
    latent = noise(7, 1, 16, 40, 40)
    job, shapes = LARGE["decode"]
    needed = numbers(str(refused(small, job, shapes)))[0] if not fits(small, latent) else 64 << 20
    with RealWorker(tiny / "diffusers", tmp_path / "a.log", device="cpu", memory="8GiB") as whole:
        wanted = whole.decode(latent)
    with RealWorker(
        tiny / "diffusers", tmp_path / "b.log", device="cpu", memory=str(int(needed * 1.02))
    ) as parts:
        found = parts.decode(latent)
        assert "in parts" in parts.log.read_text()
    assert (found - wanted).abs().max() < 1e-4


def fits(worker: RealWorker, latent: torch.Tensor) -> bool:
    try:
        worker.decode(latent)
    except WorkerError:
        return False
    return True


class TestCancel:
    """A cancel is answered within a second, whatever the device is doing."""

    @pytest.mark.parametrize(
        "job, shapes",
        [
            (request("decode"), {"latent": (1, 16, 128, 128)}),
            (request("vae-encode"), {"image": (1, 1024, 1024, 3)}),
            (request("denoise"), {"positive": (1, 256, WIDTH), "latent": (1, 16, 128, 128)}),
            (
                request("denoise", batch_index=[4095]),
                {"positive": (1, 16, WIDTH), "latent": (1, 16, 256, 256)},
            ),
            (request("encode", prompts=["7" * 20_000], length=1 << 20), {}),
        ],
        ids=["decode", "vae-encode", "step", "noise", "encode"],
    )
    def test_within_an_operation(self, worker: RealWorker, job: object, shapes: dict) -> None:
        sent = [to_wire(name, torch.rand(*shape)) for name, shape in shapes.items()]
        events = []
        client = WorkerClient(worker.config)
        try:
            running = client.submit(job, sent, events.append)
            deadline = time.monotonic() + TIMEOUT
            while not any(isinstance(event, wire.Started) for event in events):
                assert time.monotonic() < deadline and not running.done()
                time.sleep(0.01)
            time.sleep(0.2)
            begun = time.monotonic()
            running.cancel()
            small = WorkerClient(worker.config)
            try:
                # The device is free again soon, so the next job does not wait for this one.
                small.submit(
                    request("encode", prompts=["a fox"], length=16), [], lambda _: None
                ).result(TIMEOUT)
            finally:
                small.close()
            assert time.monotonic() - begun < 15
        finally:
            client.close()


def test_skipped_noise_is_cheap(worker: RealWorker) -> None:
    """The 4,096th draw of a batch takes little longer than the first."""
    latent, positive = torch.zeros(1, 16, 32, 32), noise(1, 1, 8, WIDTH)
    begun = time.monotonic()
    worker.denoise(latent, positive, batch_index=[4095])
    assert time.monotonic() - begun < 10


def test_memory_does_not_grow_with_steps(tiny: Path, tmp_path: Path) -> None:
    """The modulations of 1,000 steps with two evaluations each are not all computed in advance."""
    grown = {}
    for steps in (20, 1000):
        with RealWorker(tiny / "diffusers", tmp_path / f"{steps}.log", device="cpu") as worker:
            positive = noise(1, 1, 8, WIDTH)
            worker.denoise(torch.zeros(1, 16, 2, 2), positive, sampler="heun", steps=2)
            before = resident(worker, "VmRSS")
            worker.denoise(torch.zeros(1, 16, 2, 2), positive, sampler="heun", steps=steps)
            grown[steps] = resident(worker, "VmHWM") - before
    assert grown[1000] < grown[20] + (16 << 20), grown


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"batch": 64}, "denoising images of this size and batch needs"),
        ({"max_sequence_length": 100_000, "prompt": "7" * 40_000}, "encoding these prompts needs"),
    ],
    ids=["batch", "prompt"],
)
def test_generate_tells_before_the_first_step(
    tiny: Path, tmp_path: Path, values: dict[str, object], sentence: str
) -> None:
    result = command(
        "generate",
        **{
            "model": tiny / "diffusers",
            "device": "cpu",
            "memory": "40MiB",
            "prompt": "a fox",
            "width": 256,
            "height": 256,
            "steps": 1,
            "out": tmp_path / "image.png",
            **values,
        },
    )
    assert result.returncode == 1
    assert sentence in result.stderr and "is free" in result.stderr
    assert "step 1/1" not in result.stderr and not (tmp_path / "image.png").exists()


@pytest.mark.parametrize("memory", ["0", "-1G", "lots", "1e9", "12 parsecs", "\uff11GiB"])
def test_a_memory_that_is_none(tiny: Path, tmp_path: Path, memory: str) -> None:
    result = command("generate", prompt="x", out=tmp_path / "x.png", memory=memory)
    assert result.returncode == 2
    assert "it is not a number of bytes, such as 12GiB or 800MiB" in result.stderr


def test_generate_in_little_memory_draws_the_same_picture(tiny: Path, tmp_path: Path) -> None:
    common = {
        "model": tiny / "diffusers",
        "device": "cpu",
        "prompt": "a fox",
        "width": 320,
        "height": 320,
        "steps": 1,
        "cfg": 1,
    }
    for name, memory in (("whole", "8GiB"), ("parts", "100MiB")):
        generate(**common, memory=memory, out=tmp_path / f"{name}.png")
    whole, parts = (Image.open(tmp_path / f"{name}.png") for name in ("whole", "parts"))
    assert whole.size == parts.size == (320, 320)
    differing = sum(a != b for a, b in zip(whole.tobytes(), parts.tobytes(), strict=True))
    assert differing < 320 * 320 * 3 / 1000
