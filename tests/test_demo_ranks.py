"""Pre-training on several ranks: one process each, here on the CPU."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

import tiny_demo
from stages import pretraining
from training import data
from training.ranks import Gradient, Ranks
from training.run import Clock


def made_up(posters: data.Posters, workers: int, device: torch.device) -> Iterator[dict]:
    """Batches of noise instead of posters, of all sizes in turn."""
    random = torch.Generator().manual_seed(posters.seed)

    def integers(below: int, *shape: int) -> torch.Tensor:
        return torch.randint(below, (posters.batch, *shape), generator=random)

    while True:
        for width, height in posters.sizes:
            yield {
                "pictures": integers(256, height, width, 3).to(torch.uint8),
                "coverage": integers(256, height, width).to(torch.uint8),
                "cells": integers(2, height * width // 256, 2, 3).short(),
                "ids": integers(400, 28 + posters.text_tokens).short(),
                "lengths": torch.full((posters.batch,), 60, dtype=torch.int16),
            }


def train_on(rank: int, count: int, port: int, folder: Path) -> None:
    """One rank: a few steps, after which weights and gradients are written to `folder`."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    data.batches = made_up
    config, lines = tiny_demo.configuration(), []
    config["posters"]["sizes"] = [{"width": 128, "height": 128, "share": 1.0}]
    config["posters"] |= {"rare_sizes": [[160, 128]], "rare_share": 0.3}
    config["pretraining"] |= {"batch": 4, "low_resolution": {
        "width": 96, "height": 96, "until": 0.5, "share": 0.5, "pool": 0.5,
    }}  # fmt: skip
    models = tiny_demo.initial()
    ranks = Ranks()
    if rank:
        for parameter in models.transformer.parameters():
            torch.nn.init.normal_(parameter)
    stage = pretraining.Pretraining(models, config, Path(), ranks, 1)
    looks: list[int] = []
    # Only the first rank's clock counts.
    clock = Clock(0.05 if rank == 0 else 1000, 0.05 if rank == 0 else 1000)
    pretraining.train(
        stage, clock, folder, lambda **v: lines.append(v), lambda shown: looks.append(1)
    )
    before = [p.detach().clone() for p in stage.optimizer.parameters]
    shape = ((128, 128), stage.positions)
    stage.differentiate(*shape)
    own = stage.gradient.values.clone()
    ranks.mean(stage.gradient.values)
    torch.save(
        {
            "weights": before, "own": own, "mean": stage.gradient.values, "steps": stage.step,
            "looks": len(looks), "shown": list(stage.averaged().transformer.parameters()),
        },
        folder / f"{rank}.pt",
    )  # fmt: skip
    ranks.close()


def test_ranks_train_one_model_on_different_posters(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(train_on, (2, port, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["steps"] == second["steps"] > 1
    for name in ("weights", "shown"):
        assert all(map(torch.equal, first[name], second[name])), name
    assert not torch.allclose(first["own"], second["own"])
    assert torch.equal(first["mean"], second["mean"])
    assert torch.allclose(first["mean"], (first["own"] + second["own"]) / 2)
    assert (first["looks"], second["looks"]) == (1, 0)
    assert (tmp_path / "pretraining.pt").exists()


def test_one_rank_needs_nobody(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks()
    assert (ranks.first, ranks.part(7), ranks.agree([0.5, True])) == (True, 7, [0.5, True])
    values = torch.ones(2)
    ranks.mean(values)
    assert values.tolist() == [1, 1]


def test_the_gradient_in_one_tensor():
    layer = torch.nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    expected = [p.grad.clone() for p in layer.parameters()]
    gradient = Gradient(list(layer.parameters()), torch.device("cpu"))
    gradient.take()
    assert all(p.grad is None for p in layer.parameters())
    gradient.give()
    assert all(map(torch.equal, expected, [p.grad for p in layer.parameters()]))


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_divide_a_batch(monkeypatch, count):
    ranks = Ranks()
    ranks.count = count
    assert ranks.part(768) * count == 768
