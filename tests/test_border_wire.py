"""The values of requests that the worker refuses, and at which moment."""

from __future__ import annotations

import math

import pytest
import torch

from comfy_node import wire
from comfy_node.texts import WorkerError
from real_worker import RealWorker
from reference import noise

NUMBERS_OUTSIDE = (-2.0, 3.0)


def tensors(operation: str) -> tuple[object, dict[str, torch.Tensor]]:
    """A valid request with its tensors."""
    if operation == "decode":
        return wire.DecodeRequest(), {"latent": noise(1, 1, 16, 4, 4)}
    if operation == "vae-encode":
        return wire.VaeEncodeRequest(), {"image": noise(2, 1, 16, 32, 3).sigmoid()}
    request = wire.DenoiseRequest(0, 1, 2.0, "euler", wire.AutoSchedule())
    return request, {
        "positive": noise(3, 1, 8, 64),
        "negative": noise(4, 1, 8, 64),
        "latent": noise(5, 1, 16, 4, 4),
        "noise_mask": torch.ones(1, 4, 4),
    }


PLACES = [
    (operation, name)
    for operation in ("decode", "vae-encode", "denoise")
    for name in tensors(operation)[1]
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("operation", "name"), PLACES)
def test_what_is_no_number(worker: RealWorker, operation: str, name: str, value: float) -> None:
    request, given = tensors(operation)
    given[name].view(-1)[-1] = value
    events: list[object] = []
    with pytest.raises(WorkerError) as caught:
        worker.submit(request, events, **given)
    assert caught.value.code is wire.ErrorCode.INVALID_REQUEST
    assert f"`{name}`" in caught.value.message
    assert events == []


@pytest.mark.parametrize("value", NUMBERS_OUTSIDE)
@pytest.mark.parametrize(("operation", "name"), PLACES)
def test_numbers_outside_0_to_1_are_taken(
    worker: RealWorker, operation: str, name: str, value: float
) -> None:
    request, given = tensors(operation)
    given[name].view(-1)[-1] = value
    results, _ = worker.submit(request, **given)
    assert all(tensor.isfinite().all() for tensor in results.values())


@pytest.mark.parametrize(
    ("request_", "given", "words"),
    [
        (wire.EncodeRequest(["a"], 0), {}, "max_sequence_length is 0"),
        (wire.VaeEncodeRequest(), {"image": torch.zeros(1, 56, 72, 3)}, "72 x 56"),
    ],
)
def test_refused_before_the_upload(
    worker: RealWorker, request_: object, given: dict[str, torch.Tensor], words: str
) -> None:
    events: list[object] = []
    with pytest.raises(WorkerError) as caught:
        worker.submit(request_, events, **given)
    assert words in caught.value.message
    assert events == []


@pytest.mark.parametrize("text", ["x" * 1_000_000, "a\nERROR forged\x1b[31m"])
@pytest.mark.parametrize("where", ["sampler", "solver_type", "schedule"])
def test_texts_are_bounded_and_on_one_line(worker: RealWorker, where: str, text: str) -> None:
    values = {
        "sampler": {"sampler": text, "schedule": wire.AutoSchedule()},
        "schedule": {"sampler": "euler", "schedule": wire.NamedSchedule(text)},
        "solver_type": {
            "sampler": "uni_pc",
            "schedule": wire.AutoSchedule(),
            "options": wire.SamplerOptions(solver_type=text),
        },
    }[where]
    written = worker.log.stat().st_size
    request = wire.DenoiseRequest(0, 1, 1.0, **values)
    _, given = tensors("denoise")
    with pytest.raises(WorkerError) as caught:
        worker.submit(request, positive=given["positive"], latent=given["latent"])
    assert len(caught.value.message) < 1500
    assert "\n" not in caught.value.message and "\x1b" not in caught.value.message
    log = worker.log.read_bytes()[written:].decode()
    assert len(log) < 5000
    assert not any(line.startswith("ERROR forged") for line in log.splitlines())
