"""Plots the training log: losses, throughput, accuracy."""

import json
from pathlib import Path


def plot(log: Path, out: Path) -> None:
    """Writes the plot of a log, one JSON object a line, as an image file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    figure, axes = plt.subplots(2, 2, figsize=(11, 7))

    def draw(axis, stage: str, names: tuple[str, ...], title: str, logarithmic: bool) -> None:
        for name in names:
            points = [(r["seconds"] / 60, r[name]) for r in rows if r.get("stage") == stage
                      and name in r and "seconds" in r]  # fmt: skip
            if points:
                axis.plot(*zip(*points, strict=True), label=name.replace("_", " "))
        if logarithmic:
            axis.set_yscale("log")
        axis.set_title(title)
        axis.set_xlabel("minutes")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
        else:  # no values, for instance because no OCR was installed
            axis.set_visible(False)

    draw(axes[0, 0], "autoencoder", ("loss", "text_error"), "autoencoder", True)
    draw(axes[0, 1], "pretraining", ("loss", "text_loss", "reading"), "pre-training", True)
    draw(axes[1, 0], "pretraining", ("steps_per_second",), "throughput", False)
    # A line of stage `accuracy` is about one list: each list becomes a name.
    rows += [{**row, row["list"]: row["right"]} for row in rows if row.get("stage") == "accuracy"]
    names = tuple(dict.fromkeys(row["list"] for row in rows if row.get("stage") == "accuracy"))
    draw(axes[1, 1], "accuracy", names, "held-out lists: all words and no others", False)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
