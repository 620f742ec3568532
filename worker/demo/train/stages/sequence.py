"""The stages after pre-training one after another, in the published order or with GRPO before DPO.

Ovis-Image runs supervised fine-tuning, then preference alignment, then GRPO. `sequence.toml` names
the orders and the minutes of each stage. Orders with a common beginning share it: a stage's state
lies in STATE/A-B, where A and B are the stages up to it, and is written once.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stages import finetuning, preference, reward
from training.models import Models
from training.run import Clock, Log, save

STAGES = {"finetuning": finetuning.run, "preference": preference.run, "reward": reward.run}

PARTS = ("transformer", "text_encoder")
"""The parts that the stages change."""


def run(
    models: Models,
    config: dict,
    assets: Path,
    device: torch.device,
    clock: Clock,
    state: Path,
    log: Log,
    stages: dict[str, Callable[..., Models]] = STAGES,
) -> Models:
    """Runs the stages of the order `config["sequence"]["order"]` until the clock runs out; the
    same call continues. `models` are those before the first stage. Returns the models after the
    last stage that ran."""
    table = config["sequence"]
    names = table["orders"][table["order"]]

    def told(**values: Any) -> None:
        log(**values, order=table["order"])

    for number, name in enumerate(names, 1):
        folder = state / "-".join(names[:number])
        folder.mkdir(parents=True, exist_ok=True)
        done = folder / "done.pt"
        if not done.exists():
            left = max(0.0, clock.limit - (time.monotonic() - clock.started))
            part = Clock(left / 60, table["minutes"][name])
            after = stages[name](models, config, assets, device, part, folder, told)
            weights = {part: getattr(after, part).state_dict() for part in PARTS}
            if part.seconds < part.total:
                return after
            save(done, weights)
        # What a stage returns is its average; the next stage starts from it.
        weights = torch.load(done, map_location=device, weights_only=True)
        for part_name in PARTS:
            getattr(models, part_name).load_state_dict(weights[part_name])
    return models
