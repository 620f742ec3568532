"""The second training stage: text encoder and transformer together."""

import copy
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import data
import evaluate
import tokenizer as tokenizers
from graphs import Replayed
from models import Models, encode_prompts, image_ids, pack, text_ids
from optimizer import Average, Optimizer
from reader import UNKNOWN, Reader
from run import Clock, Log, rate_at, save, wait
from vae_stage import encode

READ_AFTER = 2
"""The reader sees the image tokens after this many single-stream blocks."""


class Pool:
    """A ring buffer on the device: latents of posters of one size, with their prompts and labels.
    New entries replace the oldest."""

    def __init__(self, capacity: int, height: int, width: int, positions: int, device):
        tokens = height * width // 256
        self.capacity, self.tokens = capacity, tokens
        self.grid = (height // 16, width // 16)
        self.latents = torch.empty(capacity, tokens, 64, dtype=torch.bfloat16, device=device)
        self.lettering = torch.empty(capacity, tokens, dtype=torch.float16, device=device)
        self.cells = torch.empty(capacity, tokens, 2, 2, dtype=torch.int16, device=device)
        self.ids = torch.empty(
            capacity, tokenizers.PREFIX_POSITIONS + positions, dtype=torch.int16, device=device
        )
        self.lengths = torch.empty(capacity, dtype=torch.int16, device=device)
        self.filled = self.next = 0
        # A copy on the device, because a recorded step cannot read a Python number.
        self.count = torch.zeros((), device=device)

    def add(self, latents: torch.Tensor, batch: dict) -> None:
        """Adds the posters of a batch, with their latents."""
        count = len(latents)
        if self.next + count > self.capacity:
            self.next = 0
        place = slice(self.next, self.next + count)
        self.latents[place] = pack(latents)
        # Share of each token's 16 x 16 pixels that letters cover, times 4, at most 1.
        share = F.avg_pool2d(batch["coverage"][:, None].float() / 255, 16)
        self.lettering[place] = (share * 4).clamp(max=1).flatten(1).half()
        self.cells[place] = batch["cells"]
        self.ids[place] = batch["ids"]
        self.lengths[place] = batch["lengths"]
        self.next += count
        self.filled = max(self.filled, self.next)
        self.count.fill_(self.filled)

    def draw(self, count: int) -> tuple[torch.Tensor, ...]:
        """Random entries: latents, letter coverage, cells, ids and lengths."""
        place = torch.rand(count, device=self.ids.device, dtype=torch.float64)
        index = (place * self.count).long()
        return (
            self.latents[index].float(),
            self.lettering[index].float(),
            self.cells[index].long(),
            self.ids[index].long(),
            self.lengths[index].long(),
        )


def predict(
    transformer: nn.Module,
    latents: torch.Tensor,
    text: torch.Tensor,
    sigma: torch.Tensor,
    rope: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """`OvisImageTransformer2DModel.forward` for training.

    It computes the same with two differences: RoPE is computed once per shape and passed in, and
    the timestep stays in float32 (the original rounds it to bf16 in a bf16 model). Returns the
    velocity, and the image tokens after `READ_AFTER` single-stream blocks.
    """
    device_type = latents.device.type
    with torch.autocast(device_type, enabled=False):
        time = transformer.timestep_embedder(transformer.time_proj(sigma * 1000))
        text = transformer.context_embedder_norm(text.float())
    with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
        image = transformer.x_embedder(latents)
        text = transformer.context_embedder(text)
        for block in transformer.transformer_blocks:
            text, image = block(image, text, time, rope)
        for number, block in enumerate(transformer.single_transformer_blocks, 1):
            text, image = block(image, text, time, rope)
            if number == min(READ_AFTER, len(transformer.single_transformer_blocks)):
                middle = image
        return transformer.proj_out(transformer.norm_out(image, time)).float(), middle


class Joint:
    """The state of the stage: models, optimizer, data and the number of the next step."""

    def __init__(
        self,
        models: Models,
        config: dict,
        assets: Path,
        device: torch.device,
        seed: int,
        graphs: bool = True,
        compiled: bool = True,
    ):
        self.models, self.config, self.device = models, config, device
        self.stage = stage = config["joint_stage"]
        self.positions = stage["text_tokens"]
        # A copy that holds the averaged weights, for evaluation and export. It is not compiled.
        self.shown = copy.deepcopy(models)
        self.reader = Reader(models.transformer.inner_dim).to(device)
        self.reading_weight = torch.zeros((), device=device)
        self.trained = [models.transformer, models.text_encoder]
        self.optimizer = Optimizer([*self.trained, self.reader], device)
        self.average = Average(self.trained)
        self.step = 0
        self.graphs = graphs and device.type == "cuda"
        self.steps: dict[tuple, Replayed] = {}
        sizes = [(s["width"], s["height"], s["share"]) for s in config["posters"]["sizes"]]
        self.shares = np.array([share for *_, share in sizes])
        refresh = stage["refresh"]
        self.pools = {
            (w, h): Pool(max(int(stage["pool"] * share), refresh), h, w, self.positions, device)
            for w, h, share in sizes
        }
        self.encoders = {(w, h): self._encoder(refresh, h, w, self.graphs) for w, h, _ in sizes}
        self.ropes: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}
        self.rng = np.random.default_rng(seed)
        posters = data.Posters(config["posters"], assets, refresh, self.positions, sizes, seed + 2)
        self.source = data.batches(posters, config["posters"]["workers"], device)
        ids, length = tokenizers.Encoder(models.tokenizer, self.positions)("")
        self.empty = (torch.from_numpy(ids).to(device).long(), torch.tensor(length, device=device))
        if device.type == "cuda" and compiled:
            transformer = models.transformer
            for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
                block.compile(dynamic=False)
            for layer in models.text_encoder.layers:
                layer.compile(dynamic=False)

    def fill(self, count: int) -> None:
        """Adds at least `count` posters, and goes on until every size has some."""
        while count > 0 or any(pool.filled == 0 for pool in self.pools.values()):
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

    def _encoder(
        self, count: int, height: int, width: int, graphs: bool
    ) -> tuple[torch.Tensor, Replayed]:
        """An input buffer for pictures of one size, and a step that encodes it to latents."""
        shape = (count, height, width, 3)
        pictures = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        return pictures, Replayed(lambda: encode(self.models.vae, pictures), graphs)

    def rope(self, positions: int, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The RoPE tables for a number of text positions and a grid of image tokens; cached."""
        if (positions, grid) not in self.ropes:
            places = (text_ids(positions, self.device), image_ids(*grid, self.device))
            with torch.no_grad():
                rope = self.models.transformer.pos_embed(torch.cat(places))
            self.ropes[positions, grid] = rope
        return self.ropes[positions, grid]

    def choose(self, progress: float) -> tuple[tuple[int, int], int]:
        """Chooses the size and the number of text positions of the next step at random."""
        sizes = list(self.pools)
        size = sizes[self.rng.choice(len(sizes), p=self.shares / self.shares.sum())]
        full = progress >= self.stage["full_text_from"]
        full = full or self.rng.random() < self.stage["full_text_share"]
        square = size == (256, 256)
        return size, tokenizers.FULL_POSITIONS if full and square else self.positions

    def loss(self, size: tuple[int, int], positions: int) -> tuple[torch.Tensor, ...]:
        """For a random batch: the weighted loss, the unweighted loss on letters, the reader's."""
        stage, pool = self.stage, self.pools[size]
        # With all text positions a step takes twice the time and memory: halve the batch.
        share = 1 if positions == self.positions else 2
        latents, lettering, cells, ids, lengths = pool.draw(max(stage["batch"] // share, 1))
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
        if shape not in self.steps:
            self.steps[shape] = Replayed(partial(self._step, *shape), self.graphs)
        rate = rate_at(
            self.step, progress, stage["learning_rate"], stage["warmup_steps"], stage["decay_from"]
        )
        self.optimizer.set_rate(rate, self.step)
        self.reading_weight.fill_(stage["reading_weight"] * rate / stage["learning_rate"])
        result = self.steps[shape]()
        self.average.update(min(stage["ema"], (1 + self.step) / (10 + self.step)))
        if self.step % stage["refresh_every"] == 0:
            self.refresh()
        self.step += 1
        return result

    def _step(self, size: tuple[int, int], positions: int) -> torch.Tensor:
        loss, plain, reading = self.loss(size, positions)
        (loss + self.reading_weight * reading).backward()
        return torch.stack([loss.detach(), plain, reading.detach(), self.optimizer.step()])

    def averaged(self) -> Models:
        """The models with the averaged weights."""
        self.average.copy_to([self.shown.transformer, self.shown.text_encoder])
        return self.shown

    def state(self, seconds: float) -> dict:
        """All that `restore` needs to continue the stage, after `seconds` of it."""
        return {
            "weights": [m.state_dict() for m in (*self.trained, self.reader)],
            "average": self.average.values,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": seconds,
        }

    def restore(self, state: dict) -> None:
        """Continues from a saved state."""
        modules = (*self.trained, self.reader)
        for module, weights in zip(modules, state["weights"], strict=True):
            module.load_state_dict(weights)
        torch._foreach_copy_(self.average.values, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def sigmas(count: int, tokens: int, device: torch.device) -> torch.Tensor:
    """Random noise levels: nine of ten logit-normal, the others uniform, then shifted for the
    number of image tokens like the scheduler's sigmas."""
    levels = torch.sigmoid(torch.randn(count, device=device))
    uniform = torch.rand(count, device=device)
    levels = torch.where(torch.rand(count, device=device) < 0.1, uniform, levels)
    slope = (1.15 - 0.5) / (4096 - 256)
    shift = math.exp(0.5 + slope * (tokens - 256))
    return shift * levels / (1 + (shift - 1) * levels)


def train(joint: Joint, clock: Clock, state: Path, log: Log) -> None:
    """Trains until the clock runs out. Saves the state every two minutes and at the end."""
    stage = joint.stage
    joint.fill(stage["pool_start"])
    log(stage="joint", event="filled", seconds=round(clock.seconds, 1))
    recent: deque[torch.Tensor] = deque(maxlen=100)
    pool = ThreadPoolExecutor(1)
    eyes: Future | None = None
    saved = looked = clock.seconds
    start, since = joint.step, clock.seconds
    while not clock.over:
        recent.append(joint.advance(clock.progress))
        wait(joint.step)
        if joint.step % 100 == 0 or joint.step == 1:
            loss, plain, reading, norm = torch.stack(list(recent)).mean(0).tolist()
            now = clock.seconds
            log(
                stage="joint", step=joint.step, seconds=round(now, 1), loss=loss,
                text_loss=plain, reading=reading, gradient=norm,
                steps_per_second=(joint.step - start) / max(now - since, 1e-3),
                pool=sum(p.filled for p in joint.pools.values()),
            )  # fmt: skip
            start, since = joint.step, now
        if eyes and eyes.done():
            log(**eyes.result())
            eyes = None
        if clock.seconds - looked > stage["eval_seconds"] and not eyes:
            looked = clock.seconds
            pictures = evaluate.sample_some(joint.averaged(), joint.config, stage["eval_prompts"])
            eyes = pool.submit(evaluate.read_some, pictures, joint.step, looked)
        if clock.seconds - saved > 120:
            saved = clock.seconds
            save(state / "joint.pt", joint.state(saved))
    if eyes:
        log(**eyes.result())
    save(state / "joint.pt", joint.state(clock.seconds))
    pictures = evaluate.sample_some(joint.averaged(), joint.config, stage["eval_prompts"])
    log(**evaluate.read_some(pictures, joint.step, clock.seconds))
