"""Pre-training: text encoder and transformer together, from a low resolution to the full one."""

import copy
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from prompts import tokenizer as tokenizers
from stages.autoencoder import encode
from training import data
from training.flow import predict, sigmas
from training.graphs import Replayed
from training.models import Models, compile_blocks, encode_prompts, image_ids, text_ids
from training.optimizer import Average, Optimizer
from training.pool import Pool
from training.ranks import Gradient, Ranks
from training.reader import UNKNOWN, Reader
from training.run import Clock, Log, rate_at, save, wait

Size = tuple[int, int]
"""Width and height in pixels."""

ALIGN_EVERY = 100
"""Steps between two alignments of the ranks' weights, which differences of rounding would part."""


class Pretraining:
    """The state of the stage: models, optimizer, data and the number of the next step."""

    def __init__(
        self,
        models: Models,
        config: dict,
        assets: Path,
        ranks: Ranks,
        seed: int,
        graphs: bool = True,
        compiled: bool = True,
    ):
        self.models, self.config, self.ranks = models, config, ranks
        self.device = device = ranks.device
        self.stage = stage = config["pretraining"]
        self.positions = config["posters"]["text_tokens"]
        # A copy that holds the averaged weights, for evaluation and export. It is not compiled.
        self.shown = copy.deepcopy(models)
        self.reader = Reader(models.transformer.inner_dim).to(device)
        self.reading_weight = torch.zeros((), device=device)
        self.trained = [models.transformer, models.text_encoder]
        ranks.align(self._all())
        self.optimizer = Optimizer(
            [*self.trained, self.reader], device, decay=stage["weight_decay"]
        )
        self.gradient = Gradient(self.optimizer.parameters, device)
        self.average = Average(self.trained)
        self.step = 0
        self.graphs = graphs and device.type == "cuda"
        self.gradients: dict[tuple, Replayed] = {}
        self.update = Replayed(self._update, self.graphs)
        posters = config["posters"]
        self.rare: set[Size] = {(w, h) for w, h in posters["rare_sizes"]}
        sizes = [(s["width"], s["height"], s["share"]) for s in posters["sizes"]]
        sizes += [(w, h, posters["rare_share"]) for w, h in sorted(self.rare)]
        self.full_shares = {(w, h): share for w, h, share in sizes}
        low = stage["low_resolution"]
        self.low: Size = (low["width"], low["height"])
        refresh = stage["refresh"]
        self.pools = {
            (w, h): Pool(max(int(stage["pool"] * share), refresh), h, w, self.positions, device)
            for w, h, share in [*sizes, (*self.low, low["pool"])]
        }
        self.encoders = {(w, h): self._encoder(refresh, h, w) for w, h in self.pools}
        self.ropes: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}
        # The ranks draw the same numbers here, so that all train on one size at a time.
        self.rng = np.random.default_rng(seed)
        # No rank sees the posters or the noise of another.
        own = seed + 7919 * ranks.rank
        torch.manual_seed(own)
        # The last share is the low resolution's.
        self.posters = data.Posters(
            config["posters"], assets, refresh, self.positions, [*sizes, (*self.low, 0.0)], own + 2
        )
        self.source = data.batches(self.posters, config["posters"]["workers"], device)
        ids, length = tokenizers.Encoder(models.tokenizer, self.positions)("")
        self.empty = (torch.from_numpy(ids).to(device).long(), torch.tensor(length, device=device))
        if device.type == "cuda" and compiled:
            compile_blocks(models)

    def low_share(self, progress: float) -> float:
        """The share of steps at the low resolution."""
        low = self.stage["low_resolution"]
        return low["share"] if progress < low["until"] else 0.0

    def render(self, progress: float) -> None:
        """Tells the processes that render posters which sizes are wanted now."""
        # Some time before the low resolution ends, only the full one is rendered.
        low = self.low_share(progress + 0.02)
        self.posters.shares[:-1] = (1 - low) * torch.tensor(list(self.full_shares.values()))
        self.posters.shares[-1] = low

    def fill(self, count: int, progress: float) -> None:
        """Adds at least `count` posters, and goes on until every size that is wanted has some,
        except the rare ones."""
        self.render(progress)
        wanted = [size for size in self.full_shares if size not in self.rare]
        wanted += [self.low] * (self.low_share(progress) > 0)
        while count > 0 or any(self.pools[size].filled == 0 for size in wanted):
            count -= self.refresh()

    def refresh(self) -> int:
        """Encodes the next batch and adds it to the pool of its size. Returns its length."""
        batch = next(self.source)
        height, width = batch["coverage"].shape[1:]
        pictures, encoder = self.encoders[width, height]
        pictures.copy_(batch["pictures"])
        latents = encoder()
        self.pools[width, height].add(latents, batch)
        return len(latents)

    def _encoder(self, count: int, height: int, width: int) -> tuple[torch.Tensor, Replayed]:
        """An input buffer for pictures of one size, and a step that encodes it to latents."""
        shape = (count, height, width, 3)
        pictures = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        return pictures, Replayed(lambda: encode(self.models.vae, pictures), self.graphs)

    def rope(self, positions: int, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The RoPE tables for a number of text positions and a grid of image tokens; cached."""
        if (positions, grid) not in self.ropes:
            places = (text_ids(positions, self.device), image_ids(*grid, self.device))
            with torch.no_grad():
                rope = self.models.transformer.pos_embed(torch.cat(places))
            self.ropes[positions, grid] = rope
        return self.ropes[positions, grid]

    def choose(self, progress: float) -> tuple[Size, int]:
        """Chooses the size and the number of text positions of the next step at random."""
        if self.rng.random() < self.low_share(progress):
            return self.low, self.positions
        shares = np.array(list(self.full_shares.values()))
        size = list(self.full_shares)[self.rng.choice(len(shares), p=shares / shares.sum())]
        full = progress >= self.stage["full_text_from"]
        full = full or self.rng.random() < self.stage["full_text_share"]
        square = size == (256, 256)
        return size, tokenizers.FULL_POSITIONS if full and square else self.positions

    def loss(self, size: Size, positions: int) -> tuple[torch.Tensor, ...]:
        """For a random batch: the weighted loss, the unweighted loss on letters, the reader's."""
        stage, pool = self.stage, self.pools[size]
        # With all text positions a step takes half more time and memory: use a smaller batch.
        share = 1.0 if positions == self.positions else 0.75
        part = self.ranks.part(int(stage["batch"] * share))
        latents, lettering, cells, ids, lengths = pool.draw(part)
        count = len(latents)
        drop = torch.rand(count, device=self.device) < stage["drop_prompt"]
        ids = torch.where(drop[:, None], self.empty[0], ids)
        lengths = torch.where(drop, self.empty[1], lengths)
        sigma = sigmas(count, pool.tokens, self.device)
        noise = torch.randn_like(latents)
        noisy = torch.lerp(latents, noise, sigma[:, None, None])
        device_type = self.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
            text = encode_prompts(self.models.text_encoder, ids, lengths)
        text = F.pad(text, (0, 0, 0, positions - text.shape[1]))
        rope = self.rope(positions, pool.grid)
        velocity, middle = predict(self.models.transformer, noisy, text, sigma, rope)
        error = (velocity - (noise - latents)).square().mean(-1)
        weights = 1 + stage["text_weight"] * lettering
        plain = (error * lettering).sum() / lettering.sum()
        # A picture whose prompt was dropped has letters that cannot be predicted.
        known = torch.where(drop[:, None, None, None], UNKNOWN, cells)
        reading = self.reader.loss(middle, known)
        return (error * weights).sum() / weights.sum(), plain.detach(), reading

    def advance(self, progress: float) -> torch.Tensor:
        """Runs one step. Returns losses and gradient norm as a tensor on the device."""
        stage, shape = self.stage, self.choose(progress)
        if not self.pools[shape[0]].filled:  # a rare size, of which this rank has no picture yet
            shape = (max(self.full_shares, key=self.full_shares.get), shape[1])
        if shape not in self.gradients:
            self.gradients[shape] = Replayed(partial(self.differentiate, *shape), self.graphs)
        if self.step % ALIGN_EVERY == 0:
            self.ranks.align(self._all())
        rate = rate_at(
            self.step, progress, stage["learning_rate"], stage["warmup_steps"], stage["decay_from"]
        )
        self.optimizer.set_rate(rate, self.step)
        self.reading_weight.fill_(stage["reading_weight"] * rate / stage["learning_rate"])
        # Compiling for a rare size would take longer than all of its steps.
        rare = shape[0] in self.rare
        with torch.compiler.set_stance("force_eager") if rare else nullcontext():
            losses = self.gradients[shape]()
        self.ranks.mean(self.gradient.values)
        norm = self.update()
        self.average.update(min(stage["ema"], (1 + self.step) / (10 + self.step)))
        if self.step % stage["refresh_every"] == 0:
            self.render(progress)
            self.refresh()
        self.step += 1
        return torch.cat([losses, norm[None]])

    def differentiate(self, size: Size, positions: int) -> torch.Tensor:
        """Computes this rank's gradient of a random batch. Returns the losses."""
        loss, plain, reading = self.loss(size, positions)
        (loss + self.reading_weight * reading).backward()
        self.gradient.take()
        return torch.stack([loss.detach(), plain, reading.detach()])

    def _update(self) -> torch.Tensor:
        """Applies the gradient. Returns its norm."""
        self.gradient.give()
        return self.optimizer.step()

    def _all(self) -> tuple[torch.nn.Module, ...]:
        return (*self.trained, self.reader)

    def averaged(self) -> Models:
        """The models with the averaged weights."""
        self.average.copy_to([self.shown.transformer, self.shown.text_encoder])
        return self.shown

    def state(self, seconds: float) -> dict:
        """All that `restore` needs to continue the stage, after `seconds` of it."""
        return {
            "weights": [m.state_dict() for m in self._all()],
            "average": self.average.values,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": seconds,
        }

    def restore(self, state: dict) -> None:
        """Continues from a saved state."""
        for module, weights in zip(self._all(), state["weights"], strict=True):
            module.load_state_dict(weights)
        torch._foreach_copy_(self.average.values, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def train(
    stage: Pretraining, clock: Clock, state: Path, log: Log, look: Callable[[Models], None]
) -> None:
    """Trains until the clock of the first rank runs out. That rank saves the state every two
    minutes and at the end, and lets `look` see the averaged models now and then and at the end."""
    config, first = stage.stage, stage.ranks.first
    stage.fill(config["pool_start"], clock.progress)
    log(stage="pretraining", event="filled", seconds=round(clock.seconds, 1))
    recent: deque[torch.Tensor] = deque(maxlen=100)
    saved = looked = clock.seconds
    start, since = stage.step, clock.seconds
    while True:
        progress, over = stage.ranks.agree([clock.progress, clock.over])
        if over:
            break
        recent.append(stage.advance(progress))
        wait(stage.step)
        if not first:
            continue
        if stage.step % 100 == 0 or stage.step == 1:
            loss, plain, reading, norm = torch.stack(list(recent)).mean(0).tolist()
            now = clock.seconds
            log(
                stage="pretraining", step=stage.step, seconds=round(now, 1), loss=loss,
                text_loss=plain, reading=reading, gradient=norm,
                steps_per_second=(stage.step - start) / max(now - since, 1e-3),
                pool=sum(p.filled for p in stage.pools.values()) * stage.ranks.count,
            )  # fmt: skip
            start, since = stage.step, now
        if clock.seconds - looked > config["eval_seconds"]:
            looked = clock.seconds
            look(stage.averaged())
        if clock.seconds - saved > 120:
            saved = clock.seconds
            save(state / "pretraining.pt", stage.state(saved))
    # The processes that render end here, before the last look, and not with the interpreter.
    stage.source.close()
    if first:
        save(state / "pretraining.pt", stage.state(clock.seconds))
        look(stage.averaged())
