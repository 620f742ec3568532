"""The fourth stage: GRPO with an OCR reward on text-heavy prompts.

Each round samples groups of pictures of several prompts with a stochastic sampler of few steps
(`stochastic.py`), so that every denoising step is an action with a density. The reward is what a
scorer reads, and a picture's advantage is its reward less the group's mean, divided by the group's
deviation. The objective is Flow-GRPO's (Liu et al., arXiv 2505.05470; code yifan123/flow_grpo):

    -mean(min(r A, clip(r, 1 - c, 1 + c) A)) + kl_weight KL,

where r is the ratio of the step's densities under the present and the sampling policy, with
log-densities averaged over a picture's dimensions, and KL = mean((m - m_ref)^2) / (2 d^2) for the
step's mean m, the mean m_ref of the model before this stage, and the deviation d. The policy is
the guided velocity; gradients flow through both of its halves. Only `trained_steps` of the steps,
chosen at random in each round, are trained on; the last step has no noise and is never among them.

Reading takes longer than sampling, so the device samples a round while the pictures of the round
before are read. Samples are therefore one round old when they are learnt from, which the ratio
accounts for. A group whose pictures all have one reward teaches nothing and is left out.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from stages.common import Asks, Groups, Judge, Reads, Trained, asked, pipelined, reader_of
from stages.measuring import measure
from stages.sampling import Sampler, guided
from stages.stochastic import KINDS, log_density
from training.graphs import Replayed
from training.models import Models
from training.run import Clock, Log

Grid = tuple[int, int]


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Rewards [P, G] of groups, normalized in each group. Zero where a group's are all equal."""
    mean, deviation = rewards.mean(1, keepdim=True), rewards.std(1, keepdim=True, correction=0)
    return (rewards - mean) / (deviation + 1e-4)


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """The clipped objective of PPO as a loss [B]."""
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))


@dataclass
class Rollout:
    """A round of groups, and what was recorded of their trained steps: latents before and after
    [S, B, N, 64], log-densities [S, B], and the steps' levels and the following ones [S]."""

    groups: Groups
    before: torch.Tensor
    after: torch.Tensor
    density: torch.Tensor
    sigma: torch.Tensor
    following: torch.Tensor


class Reward:
    """The state of the stage: the policy, the model before it, and the samplers."""

    def __init__(
        self,
        models: Models,
        config: dict,
        device: torch.device,
        prompts: Asks,
        trained: Trained,
        scorer: Reads,
    ):
        self.models, self.device, self.prompts, self.trained = models, device, prompts, trained
        self.stage = stage = config["reward"]
        self.graphs = stage["graphs"] and device.type == "cuda"
        self.reference = None
        if stage["kl_weight"]:
            self.reference = copy.deepcopy(models.transformer).requires_grad_(False)
        self.take = partial(KINDS[stage["sampler"]], level=stage["noise"])
        batch = stage["prompts"] * stage["group"]
        self.sampler = Sampler(models, stage["steps"], stage["guidance"], batch, self.graphs)
        self.judge = Judge(self.sampler, scorer)
        self.empty = self.sampler.encode([""])
        self.updates: dict[Grid, tuple[dict[str, torch.Tensor], Replayed]] = {}

    @torch.no_grad()
    def draw(self) -> Rollout:
        """Samples groups with the present policy, records the trained steps, and has the pictures
        read."""
        stage, rng = self.stage, self.trained.rng
        posters = self.prompts(stage["prompts"])
        grid = (posters[0].height // 16, posters[0].width // 16)
        text = self.sampler.encode([poster.prompt for poster in posters])
        repeated = text.repeat_interleave(stage["group"], 0)
        latents = torch.randn(len(repeated), grid[0] * grid[1], 64, device=self.device)
        sigmas = self.sampler.sigmas(latents.shape[1])
        count = min(stage["trained_steps"], stage["steps"] - 1)
        kept = set(rng.choice(stage["steps"] - 1, count, replace=False).tolist())
        records = []
        for number in range(stage["steps"]):
            sigma, following = sigmas[number], sigmas[number + 1]
            velocity = self.sampler.velocity(latents, repeated, self.empty, sigma, grid)
            mean, deviation = self.take(latents, velocity, sigma, following, top=sigmas[1])
            drawn = mean + deviation * torch.randn_like(mean)
            if number in kept:
                density = log_density(drawn, mean, deviation)
                records.append((latents, drawn, density, sigma, following))
            latents = drawn
        groups = self.judge.groups(posters, stage["group"], grid, text, latents)
        return Rollout(groups, *map(torch.stack, zip(*records, strict=True)))

    def _update(self, grid: Grid) -> tuple[dict[str, torch.Tensor], Replayed]:
        """Input buffers for a batch of one size, and the update that reads them; cached."""
        if grid not in self.updates:
            count, tokens = self.stage["batch"], grid[0] * grid[1]
            shapes = {"before": (tokens, 64), "after": (tokens, 64), "text": self.empty.shape[1:]}
            inputs = {
                name: torch.zeros(count, *shape, device=self.device)
                for name, shape in shapes.items()
            }
            for name in ("density", "sigma", "following", "advantage"):
                inputs[name] = torch.zeros(count, device=self.device)
            top = self.sampler.sigmas(tokens)[1]
            step = partial(self._step, inputs, top, self.sampler.rope(grid))
            self.updates[grid] = (inputs, Replayed(step, self.graphs))
        return self.updates[grid]

    def _step(self, inputs: dict, top: torch.Tensor, rope: tuple) -> torch.Tensor:
        """One update. Returns the loss, the KL, the share of clipped ratios, and the norm of the
        gradient."""
        stage, levels = self.stage, inputs["sigma"]
        sigma, following = levels[:, None, None], inputs["following"][:, None, None]
        asked = (inputs["before"], inputs["text"], self.empty, levels, rope, stage["guidance"])
        velocity = guided(self.models.transformer, *asked)
        mean, deviation = self.take(inputs["before"], velocity, sigma, following, top=top)
        ratio = (log_density(inputs["after"], mean, deviation) - inputs["density"]).exp()
        # An advantage of zero marks the padding of a batch.
        real = (inputs["advantage"] != 0).float()
        share = real / real.sum().clamp(min=1)
        loss = (share * clipped(ratio, inputs["advantage"], stage["clip"])).sum()
        kl = torch.zeros((), device=self.device)
        if self.reference is not None:
            with torch.no_grad():
                velocity = guided(self.reference, *asked)
                old, _ = self.take(inputs["before"], velocity, sigma, following, top=top)
            # The density of the old mean is minus the KL of two Gaussians of one deviation.
            kl = -(share * log_density(old, mean, deviation)).sum()
        (loss + stage["kl_weight"] * kl).backward()
        far = (share * ((ratio - 1).abs() > stage["clip"])).sum()
        norm = self.trained.optimizer.step()
        return torch.stack([loss.detach(), kl.detach(), far, norm])

    def learn(self, rollout: Rollout, clock: Clock, log: Log) -> None:
        """Waits for the rewards of a round, and trains once on each recorded step of the groups
        that differ in reward."""
        groups, stage = rollout.groups, self.stage
        rewards = groups.totals(stage["weights"])
        worth = advantages(rewards).flatten().to(self.device)
        useful = worth.nonzero().flatten()
        steps = torch.arange(len(rollout.sigma), device=self.device)
        pairs = torch.cartesian_prod(steps, useful).view(-1, 2)
        pairs = pairs[torch.randperm(len(pairs), device=self.device)]
        inputs, update = self._update(groups.grid)
        results = []
        for part in pairs.split(stage["batch"]) if len(pairs) else ():
            # The last batch is padded with repetitions, whose advantage is zero.
            step, sample = part[torch.arange(stage["batch"]) % len(part)].unbind(1)
            inputs["before"].copy_(rollout.before[step, sample])
            inputs["after"].copy_(rollout.after[step, sample])
            inputs["text"].copy_(groups.text[sample // groups.size])
            inputs["density"].copy_(rollout.density[step, sample])
            inputs["sigma"].copy_(rollout.sigma[step])
            inputs["following"].copy_(rollout.following[step])
            inputs["advantage"].copy_(worth[sample])
            inputs["advantage"][len(part) :] = 0
            results.append(self.trained.advance(update, clock.progress))
        values = torch.stack(results).mean(0).tolist() if results else [0.0] * 4
        loss, kl, far, norm = values
        log(
            stage="reward", step=self.trained.step, seconds=round(clock.seconds, 1), loss=loss,
            kl=kl, clipped=far, gradient=norm, total=rewards.mean().item(),
            deviation=rewards.std(1, correction=0).mean().item(),
            useful=len(useful) / len(worth),
        )  # fmt: skip


def run(
    models: Models,
    config: dict,
    assets: Path,
    device: torch.device,
    clock: Clock,
    state: Path,
    log: Log,
    ask: Callable[[np.random.Generator], Asks] | None = None,
    scorer: Reads | None = None,
) -> Models:
    """Runs the stage until the clock runs out, from the state in `state/reward.pt` if there is
    one, and saves it there. `models` are those before the stage, also when it is resumed, because
    they are the KL's reference. `ask` and `scorer` replace the makers of prompts and of scores.
    Returns the models with averaged weights."""
    stage, file = config["reward"], state / "reward.pt"
    trained = Trained(models, ("transformer",), stage, device, config["seed"])
    prompts = ask(trained.rng) if ask else asked(models, config, stage, assets, trained.rng)
    with reader_of(stage, scorer) as reader:
        work = Reward(models, config, device, prompts, trained, reader)
        trained.resume(file, clock)
        while not clock.over:
            pipelined(
                stage["rounds"],
                work.draw,
                lambda rollout: work.learn(rollout, clock, log),
                lambda: clock.over,
            )
            trained.save(file, clock)
        measure(trained.averaged(), config, stage, "reward", clock, log, reader)
    return trained.averaged()
