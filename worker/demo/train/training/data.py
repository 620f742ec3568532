"""Batches of posters, drawn by worker processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from posters import random_posters
from posters.painter import Painter
from prompts import tokenizer
from prompts.defaults import simplified
from prompts.describe import Describer
from prompts.mistakes import mistaken


class Posters(IterableDataset):
    """An endless sequence of batches: pictures uint8 [B, H, W, 3], coverage of the letters uint8
    [B, H, W], cells int16 [B, H/16 * W/16, 2, 3] as from `Painter.cells`, token ids int16
    [B, 28 + T] and the prompts' lengths without padding.

    `sizes` are (width, height, share); all posters of a batch have the same size. The tensor
    `shares` can be changed while the processes that draw are running. With `crop`,
    pictures are square crops of that size, most of them with letters. A share `wrong_prompts` of
    `config` describes a picture that differs from the one shown.
    """

    def __init__(
        self,
        config: dict,
        assets: Path,
        batch: int,
        text_tokens: int,
        sizes: list[tuple[int, int, float]],
        seed: int,
        crop: int | None = None,
    ):
        self.config, self.assets, self.batch = config, assets, batch
        self.text_tokens, self.seed, self.crop = text_tokens, seed, crop
        self.sizes = [(width, height) for width, height, _ in sizes]
        self.shares = torch.tensor([share for *_, share in sizes]).share_memory_()

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        worker = get_worker_info()
        number = worker.id if worker else 0
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, number))
        table = {**self.config, "assets": str(self.assets)}
        painter, describe = Painter(self.assets), Describer(self.assets)
        encode = tokenizer.Encoder(tokenizer.build(), self.text_tokens)
        while True:
            shares = self.shares.double().numpy()
            width, height = self.sizes[rng.choice(len(self.sizes), p=shares / shares.sum())]
            rows = []
            while len(rows) < self.batch:
                poster = simplified(rng, random_posters.sample(rng, table, (width, height)))
                wrong = rng.random() < self.config["wrong_prompts"]
                told = mistaken(rng, poster) if wrong else poster
                if (encoded := encode(describe(rng, told))) is None:
                    continue
                picture, coverage = painter.paint(poster)
                if self.crop:
                    picture, coverage = self._cut(rng, picture, coverage)
                rows.append((picture, coverage, painter.cells(poster), *encoded))
            pictures, coverages, cells, ids, lengths = zip(*rows, strict=True)
            yield {
                "pictures": torch.from_numpy(np.stack(pictures)),
                "coverage": torch.from_numpy(np.stack(coverages)),
                "cells": torch.from_numpy(np.stack(cells)),
                "ids": torch.from_numpy(np.stack(ids)),
                "lengths": torch.tensor(lengths, dtype=torch.int16),
            }

    def _cut(
        self, rng: np.random.Generator, picture: np.ndarray, coverage: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """A square crop, aligned to the 8-pixel grid of the latent space. Four of five are centred
        on a row with letters."""
        size = self.crop
        height, width = coverage.shape
        y, x = (int(rng.integers(0, (n - size) // 8 + 1)) * 8 for n in (height, width))
        lettered = np.flatnonzero(coverage.any(1))
        if rng.random() < 0.8 and len(lettered):
            middle = int(lettered[rng.integers(len(lettered))])
            y = min(max((middle - size // 2) // 8 * 8, 0), height - size)
        part = (slice(y, y + size), slice(x, x + size))
        return np.ascontiguousarray(picture[part]), np.ascontiguousarray(coverage[part])


def batches(dataset: Posters, workers: int, device: torch.device) -> Iterator[dict]:
    """The dataset's batches on `device`, prefetched by `workers` processes."""
    # One core is left to the process that feeds the GPU.
    workers = max(1, min(workers, (os.cpu_count() or 2) - 1))
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4,
        pin_memory=device.type == "cuda",
        multiprocessing_context="fork",  # the workers never touch the GPU
    )
    for batch in loader:
        yield {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def to_unit(pictures: torch.Tensor) -> torch.Tensor:
    """Converts uint8 [B, H, W, 3] to float [B, 3, H, W] in -1..1, channels last in memory."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
