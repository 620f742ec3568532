"""A few held-out pictures during a training, to follow it."""

import numpy as np

from judging import evaluate, readers, sources
from judging.lists import Item, read
from judging.scorer import Scorer

FOLLOWED = ("english", "chinese", "free")

Pictures = dict[str, tuple[list[np.ndarray], tuple[Item, ...]]]


def pipeline_of(models):
    """The reference pipeline with models in memory."""
    from diffusers import OvisImagePipeline

    from training.models import scheduler

    pipeline = OvisImagePipeline(
        scheduler=scheduler(),
        vae=models.vae,
        text_encoder=models.text_encoder,
        tokenizer=models.tokenizer,
        transformer=models.transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_some(models, config: dict, count: int) -> Pictures:
    """Generates the first `count` pictures of each list in `FOLLOWED`."""
    pipeline = pipeline_of(models)
    how = sources.Sampling(
        config["sampling"]["steps"], config["sampling"]["guidance"], batch=count
    )  # fmt: skip
    result = {}
    for name in FOLLOWED:
        items = read(name)[:count]
        result[name] = (sources.sampled(pipeline, items, how), items)
    return result


def read_some(pictures: Pictures, step: int, seconds: float) -> dict:
    """Reads them, in this thread, and returns the values of a line of the log."""
    values: dict = {"stage": "accuracy", "step": step, "seconds": round(seconds, 1)}
    if not readers.available("paddle"):
        return values
    scorer = Scorer(0)
    for name, (images, items) in pictures.items():
        scores = scorer.score(images, [item.poster for item in items])
        figures = evaluate.figures(scores, items)
        values[f"{name}_right"] = figures["right"]
        values[f"{name}_word"] = figures["words"]
        values[f"{name}_character"] = figures["characters"]
    return values
