"""What a stage changed: the figures of held-out lists in the log, and the table of a log.

python3 -m stages.measuring LOG.jsonl
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from judging import lists
from judging.lists import Item
from judging.scorer import Scores
from stages.common import Reads
from stages.sampling import Sampler
from training.models import Models
from training.run import Clock, Log

FIGURES = ("right", "words", "characters", "ink", "ground")
"""Shares in the log: pictures with all words and no other text, words, letters, and pictures whose
colour of letters and ground is right, of those whose prompt names one."""


def figures(items: Sequence[Item], scores: Sequence[Scores]) -> dict[str, float]:
    """The figures of one list. A colour that no prompt of the list names has none."""
    pairs = list(zip(items, scores, strict=True))
    found = {
        "right": _mean(score.right for score in scores),
        "words": _mean(score.words for score in scores),
        "characters": _mean(score.characters for score in scores),
        "ink": _mean(score.ink for item, score in pairs if "ink" in item.asked),
        "ground": _mean(score.ground for item, score in pairs if "ground" in item.asked),
    }
    return {name: value for name, value in found.items() if value is not None}


def _mean(values: Iterable[float]) -> float | None:
    values = [float(value) for value in values]
    return sum(values) / len(values) if values else None


def measure(
    models: Models, config: dict, stage: dict, after: str, clock: Clock, log: Log, scorer: Reads
) -> None:
    """Draws the lists that a stage's table names, as the reference pipeline would, has them read,
    and logs a line of stage `accuracy` for each list: its figures `after` that stage."""
    sampling = config["sampling"]
    sampler = Sampler(models, sampling["steps"], sampling["guidance"], batch=128)
    for name in stage["measured"]:
        items = lists.read(name)[: stage["measured_items"]]
        pictures = sampler.pictures([(item.seed, item.poster) for item in items])
        scores = scorer.score(pictures, [item.poster for item in items])
        log(
            stage="accuracy", after=after, list=name, count=len(items),
            seconds=round(clock.seconds, 1), **figures(items, scores),
        )  # fmt: skip


def table(rows: Iterable[dict]) -> str:
    """A Markdown table of a log's lines of stage `accuracy`, in their order. A later line of the
    same stage, list and order of stages replaces an earlier one."""
    latest: dict[tuple, dict] = {}
    for row in rows:
        if row.get("stage") == "accuracy" and "after" in row:
            latest[row.get("order", ""), row["list"], row["after"]] = row
    text = ["| list | after | " + " | ".join(FIGURES) + " |"]
    text.append("| --- " * (2 + len(FIGURES)) + "|")
    for (order, name, after), row in latest.items():
        values = (f"{row[figure]:.1%}" if figure in row else "" for figure in FIGURES)
        path = f"{after} ({order.replace('_', ' ')})" if order else after
        text.append(f"| {name} | {path} | " + " | ".join(values) + " |")
    return "\n".join(text)


if __name__ == "__main__":
    log_lines = Path(sys.argv[1]).read_text("utf-8").splitlines()
    print(table(json.loads(line) for line in log_lines))
