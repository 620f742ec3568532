"""The second stage: supervised fine-tuning on clean instruction prompts.

Pre-training learns from captions of which some are wrong about their picture, and mostly from 128
text positions. Here every prompt is right, all 256 positions of the pipeline are used at every
size, the learning rate is a tenth, and the weights are averaged. The loss is flow matching:
mean((v - (e - x0))^2) at x = (1 - sigma) x0 + sigma e, with a higher weight on letters.
"""

from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from prompts.tokenizer import FULL_POSITIONS
from stages.autoencoder import encode
from stages.common import Reads, Trained, reader_of
from stages.measuring import measure
from stages.sampling import Sampler, autocast
from training import data
from training.flow import predict, sigmas
from training.graphs import Replayed
from training.models import Models, encode_prompts
from training.pool import Pool
from training.run import Clock, Log

Size = tuple[int, int]
"""Width and height in pixels."""


class Finetuning:
    """The state of the stage: the models and a pool of posters of each size."""

    def __init__(
        self,
        models: Models,
        config: dict,
        device: torch.device,
        trained: Trained,
        source: Iterator[dict],
    ):
        self.models, self.device, self.trained, self.source = models, device, trained, source
        self.stage = stage = config["finetuning"]
        self.graphs = stage["graphs"] and device.type == "cuda"
        # Only its tables of RoPE and its encoder of prompts are used.
        self.sampler = Sampler(models, 1, 1.0, stage["batch"])
        ids, length = self.sampler.encoder("")
        self.empty = (torch.from_numpy(ids).to(device).long(), torch.tensor(length, device=device))
        self.shares = {(s["width"], s["height"]): s["share"] for s in config["posters"]["sizes"]}
        self.pools: dict[Size, Pool] = {}
        self.steps: dict[Size, Replayed] = {}

    def refresh(self) -> int:
        """Encodes the next posters and adds them to the pool of their size. Returns how many."""
        batch = next(self.source)
        height, width = batch["coverage"].shape[1:]
        count = len(batch["pictures"])
        if (width, height) not in self.pools:
            capacity = max(int(self.stage["pool"] * self.shares[width, height]), count)
            self.pools[width, height] = Pool(capacity, height, width, FULL_POSITIONS, self.device)
        self.pools[width, height].add(encode(self.models.vae, batch["pictures"]), batch)
        return count

    def fill(self) -> None:
        """Adds the posters that the first step needs."""
        count = self.stage["pool_start"]
        while count > 0:
            count -= self.refresh()

    def loss(self, size: Size) -> tuple[torch.Tensor, torch.Tensor]:
        """For random posters of a size: the weighted loss, and the loss on letters alone."""
        stage, pool = self.stage, self.pools[size]
        latents, lettering, _, ids, lengths = pool.draw(stage["batch"])
        count = len(latents)
        drop = torch.rand(count, device=self.device) < stage["drop_prompt"]
        ids = torch.where(drop[:, None], self.empty[0], ids)
        lengths = torch.where(drop, self.empty[1], lengths)
        sigma = sigmas(count, pool.tokens, self.device)
        noise = torch.randn_like(latents)
        noisy = torch.lerp(latents, noise, sigma[:, None, None])
        with autocast(self.device):
            text = encode_prompts(self.models.text_encoder, ids, lengths)
        rope = self.sampler.rope(pool.grid)
        velocity, _ = predict(self.models.transformer, noisy, text, sigma, rope)
        error = (velocity - (noise - latents)).square().mean(-1)
        weights = 1 + stage["text_weight"] * lettering
        plain = (error * lettering).sum() / lettering.sum().clamp(min=1)
        return (error * weights).sum() / weights.sum(), plain.detach()

    def _step(self, size: Size) -> torch.Tensor:
        loss, plain = self.loss(size)
        loss.backward()
        return torch.stack([loss.detach(), plain, self.trained.optimizer.step()])

    def advance(self, progress: float) -> torch.Tensor:
        """Runs one step. Returns the losses and the norm of the gradient."""
        sizes = list(self.pools)
        shares = np.array([self.shares[size] for size in sizes])
        size = sizes[self.trained.rng.choice(len(sizes), p=shares / shares.sum())]
        if size not in self.steps:
            self.steps[size] = Replayed(partial(self._step, size), self.graphs)
        result = self.trained.advance(self.steps[size], progress)
        if self.trained.step % self.stage["refresh_every"] == 0:
            self.refresh()
        return result


def clean_posters(
    config: dict, assets: Path, device: torch.device, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of posters of all sizes, none of whose prompts is wrong."""
    stage = config["finetuning"]
    table = config["posters"] | stage["posters"]
    sizes = [(s["width"], s["height"], s["share"]) for s in table["sizes"]]
    posters = data.Posters(table, assets, stage["refresh"], FULL_POSITIONS, sizes, seed)
    return data.batches(posters, table["workers"], device)


def run(
    models: Models,
    config: dict,
    assets: Path,
    device: torch.device,
    clock: Clock,
    state: Path,
    log: Log,
    source: Iterator[dict] | None = None,
    scorer: Reads | None = None,
) -> Models:
    """Runs the stage until the clock runs out, from the state in `state/finetuning.pt` if there is
    one, and saves it there at the end. A resumed run continues with the same weights, averages and
    random numbers, and draws new posters. The lists that the table names are measured before and
    after. `source` and `scorer` replace the makers of posters and of scores. Returns the models
    with averaged weights."""
    stage, file = config["finetuning"], state / "finetuning.pt"
    trained = Trained(models, ("transformer", "text_encoder"), stage, device, config["seed"])
    trained.resume(file, clock)
    with reader_of(stage, scorer) as reader:
        if trained.step == 0:
            measure(models, config, stage, "pretraining", clock, log, reader)
        if source is None:
            source = clean_posters(config, assets, device, config["seed"] + 1000 + trained.step)
        work = Finetuning(models, config, device, trained, source)
        work.fill()
        recent: deque[torch.Tensor] = deque(maxlen=100)
        start, since = trained.step, clock.seconds
        while not clock.over:
            recent.append(work.advance(clock.progress))
            if trained.step % 100 == 0 or trained.step == 1:
                loss, plain, norm = torch.stack(list(recent)).mean(0).tolist()
                now = clock.seconds
                log(
                    stage="finetuning", step=trained.step, seconds=round(now, 1), loss=loss,
                    text_loss=plain, gradient=norm,
                    steps_per_second=(trained.step - start) / max(now - since, 1e-3),
                    pool=sum(pool.filled for pool in work.pools.values()),
                )  # fmt: skip
                start, since = trained.step, now
        trained.save(file, clock)
        measure(trained.averaged(), config, stage, "finetuning", clock, log, reader)
    return trained.averaged()
