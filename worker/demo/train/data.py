"""Batches of posters, drawn by worker processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import designs
import headlines
import tokenizer
from painter import Painter


class Posters(IterableDataset):
    """An endless sequence of batches: pictures uint8 [B, H, W, 3], coverage of the letters uint8
    [B, H, W], cells int16 [B, H/16 * W/16, 2, 2] as from `Painter.cells`, token ids int16
    [B, 28 + T] and the prompts' lengths without padding.

    `sizes` are (width, height, share); all posters of a batch have the same size. With `crop`,
    pictures are square crops of that size, most of them with letters.
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
        self.text_tokens, self.sizes, self.seed, self.crop = text_tokens, sizes, seed, crop

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        worker = get_worker_info()
        number = worker.id if worker else 0
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, number))
        words = headlines.word_list(self.assets / "words.txt")
        painter = Painter(self.assets)
        encode = tokenizer.Encoder(tokenizer.build(), self.text_tokens)
        shares = np.array([share for *_, share in self.sizes])
        while True:
            width, height, _ = self.sizes[rng.choice(len(self.sizes), p=shares / shares.sum())]
            rows = []
            while len(rows) < self.batch:
                poster = designs.sample(rng, self.config, words, (width, height))
                if (encoded := encode(poster.prompt)) is None:
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
