"""The third stage: preference alignment on pairs of the model's own samples.

A scorer ranks the samples of each prompt; the best and the worst become a pair. The loss is
Diffusion-DPO (Wallace et al., arXiv 2311.12908) for flow matching: with one noise e and one level
sigma for both, x = (1 - sigma) x0 + sigma e, and errors E(v) = mean((v - (e - x0))^2),

    loss = -log sigmoid(-beta / 2 ((E_w - E_l) - (R_w - R_l))),

where w is the winner, l the loser, and R are the errors of the model before this stage.

Enlarging the margin may worsen the winner as well. Diffusion-SDPO (Fu et al., arXiv 2511.03317;
code AIDC-AI/Diffusion-SDPO, function `get_adaptive_lose_l_scale`) therefore multiplies the loser's
gradient by a factor lambda, from the gradients g_w and g_l of the two *errors* with respect to the
velocities. To first order the winner's error changes by -(|g_w|^2 - lambda <g_w, g_l>), so the
branches conflict where <g_w, g_l> > 0. The choices of `safeguard`:

- `sdpo`: lambda = (1 - mu) |g_w|^2 / <g_w, g_l>, at most 1, where they conflict; 1 elsewhere.
- `ovis`, Ovis-Image's variant: lambda = clip(mu <g_w, g_l> / (|g_l|^2 + eps), least, most). By
  Cauchy and Schwarz the winner's error then falls by at least (1 - mu) |g_w|^2 where the clipping
  does not raise lambda.
- `none`: lambda = 1, plain Diffusion-DPO.

The authors' code takes one factor a batch; here every pair has its own, which keeps the same bound
for each pair.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from stages.common import Asks, Groups, Judge, Reads, Trained, asked, pipelined, reader_of
from stages.measuring import measure
from stages.sampling import Sampler
from training.flow import predict, sigmas
from training.graphs import Replayed
from training.models import Models
from training.run import Clock, Log


def sdpo(winner: torch.Tensor, loser: torch.Tensor, mu: float, most: float = 1.0) -> torch.Tensor:
    """Diffusion-SDPO's factor of each pair [B], from the errors' gradients [B, ...]."""
    winner, loser = winner.flatten(1), loser.flatten(1)
    common = (winner * loser).sum(1)
    limit = (1 - mu) * winner.square().sum(1) / (common + 1e-9)
    return torch.where(common > 0, limit, most).clamp(0, most)


def ovis(
    winner: torch.Tensor, loser: torch.Tensor, mu: float, least: float, most: float
) -> torch.Tensor:
    """Ovis-Image's factor of each pair [B], from the errors' gradients [B, ...]."""
    winner, loser = winner.flatten(1), loser.flatten(1)
    factor = mu * (winner * loser).sum(1) / (loser.square().sum(1) + 1e-9)
    return factor.clamp(least, most)


def dpo_loss(
    difference: torch.Tensor, reference: torch.Tensor, stage: dict
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The safeguarded loss, the share of pairs that the model already ranks better than the
    reference does, and the mean factor of the loser's gradient. `difference` [2 B, ...] is the
    predicted velocity less its target, winners first; `reference` the same of the old model."""
    # The errors' gradients are these differences, up to one constant factor.
    winner, loser = difference.detach().chunk(2)
    if stage["safeguard"] == "ovis":
        factor = ovis(winner, loser, stage["mu"], stage["least"], stage["most"])
    elif stage["safeguard"] == "sdpo":
        factor = sdpo(winner, loser, stage["mu"], stage["most"])
    else:
        factor = torch.ones(len(winner), device=winner.device)
    error_w, error_l = difference.square().flatten(1).mean(1).chunk(2)
    before_w, before_l = reference.square().flatten(1).mean(1).chunk(2)
    # The same value, with a scaled gradient.
    error_l = torch.lerp(error_l.detach(), error_l, factor)
    margin = -0.5 * stage["beta"] * ((error_w - error_l) - (before_w - before_l))
    better = (margin > 0).float().mean()
    return -F.logsigmoid(margin).mean(), better, factor.mean()


class Pairs:
    """A ring buffer on the device: latents of winners and losers of one size, with token ids."""

    def __init__(self, capacity: int, tokens: int, positions: int, device: torch.device):
        shape = (capacity, tokens, 64)
        self.columns = {
            "winners": torch.zeros(shape, dtype=torch.bfloat16, device=device),
            "losers": torch.zeros(shape, dtype=torch.bfloat16, device=device),
            "ids": torch.zeros(capacity, positions, dtype=torch.int16, device=device),
            "lengths": torch.zeros(capacity, dtype=torch.int16, device=device),
        }
        self.capacity = capacity
        self.filled = self.next = 0
        # A copy on the device, because a recorded step cannot read a Python number.
        self.count = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, **values: torch.Tensor) -> None:
        """Adds one pair; the newest replaces the oldest."""
        for name, value in values.items():
            self.columns[name][self.next].copy_(value)
        self.next = (self.next + 1) % self.capacity
        self.filled = min(self.filled + 1, self.capacity)
        self.count.fill_(self.filled)

    def draw(self, count: int) -> dict[str, torch.Tensor]:
        """Random pairs."""
        place = torch.rand(count, dtype=torch.float64, device=self.count.device)
        index = (place * self.count).long()
        return {name: column[index] for name, column in self.columns.items()}

    def state(self) -> dict:
        """The pairs and where the next one goes."""
        columns = {name: column[: self.filled].cpu() for name, column in self.columns.items()}
        return {"columns": columns, "next": self.next}

    def restore(self, state: dict) -> None:
        """The pairs of a saved state."""
        for name, column in state["columns"].items():
            self.filled = len(column)
            self.columns[name][: self.filled].copy_(column)
        self.next = state["next"]
        self.count.fill_(self.filled)


class Preference:
    """The state of the stage: the model, the model before it, and the pairs of each size."""

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
        self.stage = stage = config["preference"]
        self.graphs = stage["graphs"] and device.type == "cuda"
        self.reference = copy.deepcopy(models.transformer).requires_grad_(False)
        sampling = config["sampling"]
        batch = stage["prompts"] * stage["group"]
        self.sampler = Sampler(models, sampling["steps"], sampling["guidance"], batch, self.graphs)
        self.judge = Judge(self.sampler, scorer)
        self.empty = self.sampler.encode([""])
        self.pairs: dict[tuple[int, int], Pairs] = {}
        self.steps: dict[tuple[int, int], Replayed] = {}
        self.seen = self.found = 0
        self.mean_total = 0.0

    def draw(self) -> Groups:
        """Samples a group of pictures for each of some prompts, and has them read."""
        posters, size = self.prompts(self.stage["prompts"]), self.stage["group"]
        height, width = posters[0].height, posters[0].width
        grid = (height // 16, width // 16)
        text = self.sampler.encode([poster.prompt for poster in posters])
        repeated = text.repeat_interleave(size, 0)
        noise = torch.randn(len(repeated), grid[0] * grid[1], 64, device=self.device)
        latents = self.sampler.draw(repeated, self.empty, noise, grid)
        return self.judge.groups(posters, size, grid, text, latents)

    def add(self, groups: Groups) -> None:
        """Makes pairs of the best and the worst sample of each prompt, where they differ enough."""
        totals = groups.totals(self.stage["weights"])
        self.mean_total = totals.mean().item()
        gaps = totals.amax(1) - totals.amin(1)
        for number, poster in enumerate(groups.posters):
            self.seen += 1
            if gaps[number] < self.stage["least_gap"]:
                continue
            self.found += 1
            first = number * groups.size
            ids, length = self.sampler.encoder(poster.prompt)
            self._pairs(groups.grid, len(ids)).add(
                winners=groups.latents[first + int(totals[number].argmax())],
                losers=groups.latents[first + int(totals[number].argmin())],
                ids=torch.from_numpy(ids),
                lengths=torch.tensor(length),
            )

    def _pairs(self, grid: tuple[int, int], positions: int) -> Pairs:
        if grid not in self.pairs:
            tokens = grid[0] * grid[1]
            self.pairs[grid] = Pairs(self.stage["kept"], tokens, positions, self.device)
        return self.pairs[grid]

    def loss(self, grid: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        """For random pairs of a size: see `dpo_loss`."""
        stage, device = self.stage, self.device
        pairs = self.pairs[grid].draw(stage["batch"])
        count = stage["batch"]
        with torch.no_grad():
            text = self.sampler.encode_ids(pairs["ids"].long(), pairs["lengths"].long())
            text = text.repeat(2, 1, 1)
        latents = torch.cat([pairs["winners"], pairs["losers"]]).float()
        sigma = sigmas(count, latents.shape[1], device).repeat(2)
        noise = torch.randn_like(latents[:count]).repeat(2, 1, 1)
        noisy = torch.lerp(latents, noise, sigma[:, None, None])
        target, rope = noise - latents, self.sampler.rope(grid)
        with torch.no_grad():
            before = predict(self.reference, noisy, text, sigma, rope)[0] - target
        now = predict(self.models.transformer, noisy, text, sigma, rope)[0] - target
        loss, better, factor = dpo_loss(now, before, stage)
        change = now.detach().square().mean((1, 2)) - before.square().mean((1, 2))
        winner, loser = change.chunk(2)
        return loss, better, factor, winner.mean(), loser.mean()

    def _step(self, grid: tuple[int, int]) -> torch.Tensor:
        loss, *more = self.loss(grid)
        loss.backward()
        return torch.stack([loss.detach(), *more, self.trained.optimizer.step()])

    def learn(self, groups: Groups, clock: Clock, log: Log) -> None:
        """Adds the pairs of groups, and trains on all pairs that are kept."""
        self.add(groups)
        sizes = [grid for grid, pairs in self.pairs.items() if pairs.filled]
        if not sizes:
            return
        shares = [self.pairs[grid].filled for grid in sizes]
        results = []
        for _ in range(self.stage["updates"]):
            chosen = self.trained.rng.choice(len(sizes), p=[n / sum(shares) for n in shares])
            grid = sizes[chosen]
            if grid not in self.steps:
                self.steps[grid] = Replayed(partial(self._step, grid), self.graphs)
            results.append(self.trained.advance(self.steps[grid], clock.progress))
        loss, better, factor, winner, loser, norm = torch.stack(results).mean(0).tolist()
        log(
            stage="preference", step=self.trained.step, seconds=round(clock.seconds, 1),
            loss=loss, better=better, factor=factor, winner=winner, loser=loser, gradient=norm,
            total=self.mean_total, pairs=sum(shares), share_of_pairs=self.found / self.seen,
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
    """Runs the stage until the clock runs out, from the state in `state/preference.pt` if there is
    one, and saves it there. `models` are those before the stage, also when it is resumed, because
    they are the reference. `ask` and `scorer` replace the makers of prompts and of scores. Returns
    the models with averaged weights."""
    stage, file = config["preference"], state / "preference.pt"
    trained = Trained(models, ("transformer",), stage, device, config["seed"])
    prompts = ask(trained.rng) if ask else asked(models, config, stage, assets, trained.rng)
    with reader_of(stage, scorer) as reader:
        work = Preference(models, config, device, prompts, trained, reader)
        for grid, pairs in trained.resume(file, clock).get("pairs", {}).items():
            work._pairs(grid, pairs["columns"]["ids"].shape[1]).restore(pairs)
        while not clock.over:
            pipelined(
                stage["rounds"],
                work.draw,
                lambda groups: work.learn(groups, clock, log),
                lambda: clock.over,
            )
            pairs = {grid: pairs.state() for grid, pairs in work.pairs.items()}
            trained.save(file, clock, pairs=pairs)
        measure(trained.averaged(), config, stage, "preference", clock, log, reader)
    return trained.averaged()
