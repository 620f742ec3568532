"""Where the pictures of a list come from: a perfect renderer, the reference pipeline, the worker,
or a folder. All are uint8 [H, W, 3]."""

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from judging.lists import Item


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled; the defaults are those of the figures in the README. `cache`,
    `precision` and `processes` are the worker's alone; `batch` is the pipeline's."""

    steps: int = 20
    guidance: float = 3.5
    device: str = "cpu"
    batch: int = 8
    cache: str = "off"
    precision: str | None = None
    processes: int = 1


def painted(items: Sequence[Item], assets: Path) -> list[np.ndarray]:
    """What a perfect renderer draws: the posters themselves, with the fonts in `assets`."""
    from posters.painter import Painter

    painter = Painter(assets)
    return [painter.paint(item.poster)[0] for item in items]


def load_pipeline(model: Path):
    """The reference pipeline with a checkpoint from disk, in float32."""
    import torch
    from diffusers import OvisImagePipeline

    pipeline = OvisImagePipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def batches(items: Sequence[Item], count: int) -> list[list[Item]]:
    """Groups the items in order, at most `count` to a group and all of a group of one size."""
    groups: list[list[Item]] = []
    for item in items:
        size = (item.poster.width, item.poster.height)
        last = groups[-1] if groups else []
        if not last or len(last) == count or (last[0].poster.width, last[0].poster.height) != size:
            groups.append([])
        groups[-1].append(item)
    return groups


def sampled(pipeline, items: Sequence[Item], how: Sampling) -> list[np.ndarray]:
    """Generates the pictures with the reference pipeline."""
    import torch

    pictures = []
    for part in batches(items, how.batch):
        images = pipeline(
            prompt=[item.poster.prompt for item in part],
            negative_prompt="",
            guidance_scale=how.guidance,
            num_inference_steps=how.steps,
            height=part[0].poster.height,
            width=part[0].poster.width,
            generator=[torch.Generator("cpu").manual_seed(item.seed) for item in part],
            output_type="np",
        ).images
        pictures += [(image * 255).round().astype(np.uint8) for image in images]
    return pictures


def generated(
    binary: str, model: Path, items: Sequence[Item], how: Sampling, folder: Path
) -> list[np.ndarray]:
    """Generates the pictures with the worker's command line, several processes at a time. The
    files stay in `folder` under the items' numbers."""
    threads = max(1, (os.cpu_count() or 1) // how.processes)
    names = ("RAYON_NUM_THREADS", "CANDLE_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}

    def make(numbered: tuple[int, Item]) -> np.ndarray:
        number, item = numbered
        out = folder / f"worker-{number}.png"
        command = [
            binary, "generate", "--model", str(model), "--prompt", item.poster.prompt,
            "--width", str(item.poster.width), "--height", str(item.poster.height),
            "--steps", str(how.steps), "--cfg", str(how.guidance), "--seed", str(item.seed),
            "--device", how.device, "--cache", how.cache, "--out", str(out),
        ]  # fmt: skip
        if how.precision:
            command += ["--precision", how.precision]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return np.asarray(Image.open(out).convert("RGB"))

    with ThreadPoolExecutor(how.processes) as pool:
        return list(pool.map(make, enumerate(items)))


def file_names(items: Sequence[Item]) -> list[str]:
    """The file of each picture of a whole list in its folder: SEED.png, or NUMBER-SEED.png in a
    list whose seeds repeat."""
    seeds = [item.seed for item in items]
    if len(set(seeds)) == len(seeds):
        return [f"{seed}.png" for seed in seeds]
    return [f"{number}-{seed}.png" for number, seed in enumerate(seeds)]


def read_folder(folder: Path, names: Sequence[str]) -> list[np.ndarray]:
    """The pictures that `save` wrote under these names."""
    return [np.asarray(Image.open(folder / name).convert("RGB")) for name in names]


def save(folder: Path, names: Sequence[str], pictures: Sequence[np.ndarray]) -> None:
    """Writes the pictures of a list into its folder, and beside it a sheet of the first 64."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(folder / name)
    contact_sheet(pictures[:64], folder.with_suffix(".png"))


def contact_sheet(pictures: Sequence[np.ndarray], file: Path, columns: int = 8) -> None:
    """Writes one image with all pictures in a grid."""
    height, width = np.max([picture.shape[:2] for picture in pictures], axis=0)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + 8), rows * (height + 8)), "gray")
    for number, picture in enumerate(pictures):
        place = (number % columns * (width + 8) + 4, number // columns * (height + 8) + 4)
        sheet.paste(Image.fromarray(picture), place)
    sheet.save(file)
