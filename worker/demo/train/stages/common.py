"""What the stages after pre-training share: the state of a training run, prompts without
pictures, the total of a picture's scores, and rounds that overlap reading with computing."""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from judging.scorer import Scorer, Scores
from posters import random_posters
from posters.poster import Poster
from prompts.defaults import simplified
from prompts.describe import Describer
from prompts.tokenizer import Encoder
from stages.sampling import Sampler
from training.models import Models, compile_blocks
from training.optimizer import Average, Optimizer
from training.run import Clock, rate_at, save, wait

Round = TypeVar("Round")


class Trained:
    """Models in training: the parts that learn, their averaged weights, the optimizer, random
    numbers and the number of the next step. The other parts are frozen."""

    def __init__(
        self, models: Models, parts: Sequence[str], stage: dict, device: torch.device, seed: int
    ):
        self.models, self.parts, self.stage, self.device = models, parts, stage, device
        for name in ("transformer", "text_encoder", "vae"):
            getattr(models, name).requires_grad_(name in parts)
        # A copy that holds the averaged weights, for evaluation and export.
        self.shown = copy.deepcopy(models)
        if stage["compiled"] and device.type == "cuda":
            compile_blocks(models)
        self.modules = [getattr(models, name) for name in parts]
        self.optimizer = Optimizer(self.modules, device)
        self.average = Average(self.modules)
        self.step = 0
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)

    def advance(self, step: Callable[[], torch.Tensor], progress: float) -> torch.Tensor:
        """Runs a function that makes one update with this optimizer, and returns its result."""
        stage = self.stage
        rate = rate_at(
            self.step, progress, stage["learning_rate"], stage["warmup_steps"], stage["decay_from"]
        )
        self.optimizer.set_rate(rate, self.step)
        result = step()
        self.average.update(min(stage["ema"], (1 + self.step) / (10 + self.step)))
        self.step += 1
        wait(self.step)
        return result

    def averaged(self) -> Models:
        """The models with the averaged weights."""
        self.average.copy_to([getattr(self.shown, name) for name in self.parts])
        return self.shown

    def save(self, file: Path, clock: Clock, **more: Any) -> None:
        """Writes all that `resume` needs to continue exactly, random numbers included."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        save(
            file,
            {
                "weights": [module.state_dict() for module in self.modules],
                "average": self.average.values,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": clock.seconds,
                "random": [torch.get_rng_state(), cuda, self.rng.bit_generator.state],
                **more,
            },
        )

    def resume(self, file: Path, clock: Clock) -> dict:
        """Continues from a saved state, and the clock with it. Returns what was saved beside; an
        empty table if there is no state."""
        if not file.exists():
            return {}
        state = torch.load(file, map_location="cpu", weights_only=True)
        for module, weights in zip(self.modules, state.pop("weights"), strict=True):
            module.load_state_dict(weights)
        with torch.no_grad():
            for value, saved in zip(self.average.values, state.pop("average"), strict=True):
                value.copy_(saved)
            self.optimizer.load_state_dict(_on(self.device, state.pop("optimizer")))
        self.step = state.pop("step")
        clock.before = state.pop("seconds")
        host, cuda, self.rng.bit_generator.state = state.pop("random")
        torch.set_rng_state(host)
        if cuda is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(cuda, self.device)
        return state


def _on(device: torch.device, values: Any) -> Any:
    """Nested tables and lists of tensors, moved to a device."""
    if isinstance(values, dict):
        return {name: _on(device, value) for name, value in values.items()}
    if isinstance(values, list):
        return [_on(device, value) for value in values]
    return values.to(device)


class Prompts:
    """Makes up posters with prompts, which are never drawn: `prompts(count)` returns posters of
    one size. `sizes` are (width, height, share). A poster has at least `letters` letters in all
    its phrases, which is how text-heavy prompts are chosen."""

    def __init__(
        self,
        posters: dict,
        assets: Path,
        encoder: Encoder,
        rng: np.random.Generator,
        sizes: Sequence[tuple[int, int, float]],
        letters: int = 0,
    ):
        self.table = {**posters, "assets": str(assets)}
        self.describe = Describer(assets)
        self.encoder, self.rng, self.letters = encoder, rng, letters
        self.sizes = [(width, height) for width, height, _ in sizes]
        shares = np.array([share for *_, share in sizes])
        self.shares = shares / shares.sum()

    def __call__(self, count: int) -> list[Poster]:
        size = self.sizes[self.rng.choice(len(self.sizes), p=self.shares)]
        found: list[Poster] = []
        while len(found) < count:
            poster = simplified(self.rng, random_posters.sample(self.rng, self.table, size))
            letters = sum(len(phrase.text.replace(" ", "")) for phrase in poster.phrases)
            if letters < self.letters:
                continue
            poster = replace(poster, prompt=self.describe(self.rng, poster))
            if self.encoder(poster.prompt) is not None:
                found.append(poster)
        return found


def asked(
    models: Models, config: dict, stage: dict, assets: Path, rng: np.random.Generator
) -> Prompts:
    """The prompts of a stage, as its table says."""
    encoder = Encoder(models.tokenizer, config["posters"]["text_tokens"])
    table = config["posters"] | stage["posters"]
    return Prompts(table, assets, encoder, rng, stage["sizes"], stage["letters"])


class Asks(Protocol):
    """What the stages need of `Prompts`."""

    def __call__(self, count: int) -> list[Poster]: ...


class Reads(Protocol):
    """What the stages need of `judging.scorer.Scorer`."""

    def score(self, pictures: Sequence[np.ndarray], posters: Sequence[Poster]) -> list[Scores]: ...


@contextmanager
def reader_of(stage: dict, given: Reads | None) -> Iterator[Reads]:
    """The given scorer, or one of the stage's own, whose processes end with the context."""
    if given is not None:
        yield given
        return
    with Scorer(stage["processes"]) as own:
        yield own


def total(scores: Scores, weights: dict[str, float]) -> float:
    """One number for a picture, at most the sum of the positive weights: a weighted sum of the
    shares of words and characters and of right colours, less `extra` for each of at most three
    words that nobody asked for."""
    return (
        weights["words"] * scores.words
        + weights["characters"] * scores.characters
        + weights["ink"] * scores.ink
        + weights["ground"] * scores.ground
        - weights["extra"] * min(scores.extra, 3)
    )


@dataclass
class Groups:
    """Pictures of several prompts, `size` of each prompt, in order, and their scores when they
    have been read. `text` [P, 256, D] are the encoded prompts, `latents` [P * size, N, 64]."""

    posters: list[Poster]
    size: int
    grid: tuple[int, int]
    text: torch.Tensor
    latents: torch.Tensor
    scores: "Future[list[Scores]]"

    def totals(self, weights: dict[str, float]) -> torch.Tensor:
        """Waits for the scores and returns their totals [P, size]."""
        values = [total(scores, weights) for scores in self.scores.result()]
        return torch.tensor(values).view(len(self.posters), self.size)


class Judge:
    """Decodes groups of pictures and has them read in the background, one batch after another."""

    def __init__(self, sampler: Sampler, scorer: Reads):
        self.sampler, self.scorer = sampler, scorer
        self.thread = ThreadPoolExecutor(1)

    def groups(
        self,
        posters: list[Poster],
        size: int,
        grid: tuple[int, int],
        text: torch.Tensor,
        latents: torch.Tensor,
    ) -> Groups:
        """Groups whose scores arrive later."""
        pictures = list(self.sampler.decode(latents, grid).cpu().numpy())
        repeated = [poster for poster in posters for _ in range(size)]
        scores = self.thread.submit(self.scorer.score, pictures, repeated)
        return Groups(posters, size, grid, text, latents, scores)


def pipelined(
    rounds: int,
    draw: Callable[[], Round],
    learn: Callable[[Round], None],
    over: Callable[[], bool],
) -> None:
    """Draws and learns in rounds, where each round is drawn before the last one is learnt from:
    its pictures are read while the device goes on. Samples are therefore one update of the policy
    old. It ends after `rounds`, or when `over`; then nothing is pending."""
    pending: Round | None = None
    for _ in range(rounds):
        if over():
            break
        fresh = draw()
        if pending is not None:
            learn(pending)
        pending = fresh
    if pending is not None:
        learn(pending)
