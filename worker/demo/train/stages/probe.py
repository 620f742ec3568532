"""Measures the speed of each part of the training on this machine, before a timed run."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from prompts import tokenizer as tokenizers
from stages import autoencoder, pretraining
from training import data
from training.graphs import Replayed
from training.models import Models
from training.ranks import Ranks


def measure(device: torch.device, function: Callable[[], object], times: int = 20) -> tuple:
    """Seconds of the first call, including compilation, and the median of later calls."""

    def once() -> float:
        start = time.monotonic()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - start

    first = once()
    once()
    return first, sorted(once() for _ in range(times))[times // 2]


def run(models: Models, config: dict, assets: Path, ranks: Ranks) -> None:
    """Runs and times rendering and every kind of training step, and prints the results."""
    device, began = ranks.device, time.monotonic()
    times = 20 if device.type == "cuda" else 1

    def tell(name: str, first: float, median: float, images: int) -> None:
        print(
            f"{time.monotonic() - began:6.1f} s  {name:34} first {first:6.2f} s  "
            f"then {1000 * median:8.2f} ms  {images / median:9.0f} pictures/s",
            flush=True,
        )

    print("torch", torch.__version__, "cores", os.cpu_count())
    if device.type == "cuda":
        print(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory >> 20)
    stage = config["autoencoder"]
    vae = models.vae.to(memory_format=torch.channels_last)

    crops = autoencoder.posters_for(config, assets, stage["crop_batch"], 7, stage["crop"])
    source = data.batches(crops, config["posters"]["workers"], device)
    start = time.monotonic()
    batch = next(source)
    first = time.monotonic() - start
    count = 40 * times // 20 or 1
    start = time.monotonic()
    for _ in range(count):
        batch = next(source)
    tell("render crops", first, (time.monotonic() - start) / count, stage["crop_batch"])
    del source
    for both in (True, False):
        if not both:
            vae.encoder.requires_grad_(False)
            whole = autoencoder.posters_for(config, assets, stage["whole_batch"], 7, None)
            batch = next(data.batches(whole, config["posters"]["workers"], device))
        trainee = autoencoder.Trainee(vae, both, stage, batch, graphs=True)
        trainee.optimizer.set_rate(1e-3, 100)
        losses = []

        def step(trainee=trainee, batch=batch, losses=losses) -> None:
            losses.append(trainee.step(batch)[0])

        name = "both" if both else "decoder"
        tell(f"autoencoder, {name}", *measure(device, step, times), len(batch["pictures"]))
        print("  losses", [round(x.item(), 4) for x in losses[:: max(1, len(losses) // 6)]])
    vae.requires_grad_(False)

    stage = pretraining.Pretraining(models, config, assets, ranks, 7)
    start = time.monotonic()
    stage.fill(1, 0.0)
    stage.fill(1, 1.0)
    print(f"{time.monotonic() - began:6.1f} s  first posters in {time.monotonic() - start:.1f} s")
    refresh = config["pretraining"]["refresh"]
    tell("render, encode, store", *measure(device, stage.refresh, 4 * times), refresh)
    full, other = list(stage.full_shares)[:2]
    stage.optimizer.set_rate(1e-3, 100)
    norms = []
    for shape, positions in (
        (stage.low, stage.positions),
        (full, stage.positions),
        (full, tokenizers.FULL_POSITIONS),
        (other, stage.positions),
    ):
        replayed = Replayed(partial(stage.differentiate, shape, positions), stage.graphs)
        losses = []

        def step(replayed=replayed, losses=losses) -> None:
            losses.append(replayed()[0])
            norms.append(stage.update())

        tell(f"{shape} {positions}", *measure(device, step, times), config["pretraining"]["batch"])
        print("  losses", [round(x.item(), 3) for x in losses[:: max(1, len(losses) // 6)]])
    finite = all(torch.isfinite(n).item() for n in norms)
    print("gradients finite:", finite, "last norm", round(norms[-1].item(), 3))
    if device.type == "cuda":
        print("most memory", torch.cuda.max_memory_allocated() >> 20, "MiB")
