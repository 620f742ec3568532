#!/usr/bin/env python3
"""Measures how well a model writes the headlines it is asked for, by OCR.

    evaluate.py ceiling ASSETS                  the training posters themselves: the OCR's limit
    evaluate.py diffusers MODEL [--device cuda] the reference pipeline
    evaluate.py worker MODEL --binary PATH      the worker's command line, one call per picture
    evaluate.py pictures FOLDER                 existing pictures: LIST/SEED.png

The held-out lists: 200 English words of 3 to 8 letters on one line, 60 headlines of
two lines, 100 Chinese headlines of 2 to 4 characters, 30 words on other trained sizes, 30 on
sizes never trained on. Each prompt gets one picture, with the seed from the list. `--into FILE`
saves the figures, `--save FOLDER` the pictures.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from painter import Painter
from PIL import Image

import ocr
import posters

LISTS = ("english", "two_lines", "chinese", "sizes", "new_sizes")


def tell(name: str, pictures: list[np.ndarray], items: list) -> dict[str, float]:
    """Reads the pictures of one list by OCR and returns its figures."""
    lines = 2 if name == "two_lines" else 1
    found = ocr.read_all(pictures, chinese=name == "chinese", lines=lines)
    return ocr.score([poster.lines for _, poster in items], found)


def table(results: dict[str, dict[str, float]]) -> str:
    """The figures as a Markdown table."""
    rows = ["| list | pictures | words | words, with case | characters | edits a letter |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for name, r in results.items():
        rows.append(
            f"| {name} | {r['count']} | {r['word']:.1%} | {r['exact']:.1%} "
            f"| {r['character']:.1%} | {r['edits']:.4f} |"
        )
    return "\n".join(rows)


def batches(items: list, count: int) -> list[list]:
    """Groups the items in order, at most `count` to a group and all of a group of one size."""
    groups: list[list] = []
    for item in items:
        size = (item[1].width, item[1].height)
        last = groups[-1] if groups else []
        if not last or len(last) == count or (last[0][1].width, last[0][1].height) != size:
            groups.append([])
        groups[-1].append(item)
    return groups


def sample(pipeline, items: list, steps: int, guidance: float, batch: int) -> list[np.ndarray]:
    """Generates the pictures with the reference pipeline."""
    import torch

    pictures = []
    for part in batches(items, batch):
        generators = [torch.Generator("cpu").manual_seed(seed) for seed, _ in part]
        images = pipeline(
            prompt=[poster.prompt for _, poster in part],
            negative_prompt="",
            guidance_scale=guidance,
            num_inference_steps=steps,
            height=part[0][1].height,
            width=part[0][1].width,
            generator=generators,
            output_type="np",
        ).images
        pictures += [(image * 255).round().astype(np.uint8) for image in images]
    return pictures


def load_pipeline(model: Path):
    """The reference pipeline with a checkpoint from disk, in float32."""
    import torch
    from diffusers import OvisImagePipeline

    pipeline = OvisImagePipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pipeline_of(models):
    """The reference pipeline with models in memory."""
    from diffusers import OvisImagePipeline
    from models import scheduler

    pipeline = OvisImagePipeline(
        scheduler=scheduler(),
        vae=models.vae,
        text_encoder=models.text_encoder,
        tokenizer=models.tokenizer,
        transformer=models.transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_some(models, config: dict, count: int) -> dict[str, tuple[list, list]]:
    """Generates the first `count` pictures of the list `english` and half as many of `chinese`,
    to follow the training."""
    pipeline = pipeline_of(models)
    result = {}
    for name, number in (("english", count), ("chinese", max(1, count // 2))):
        items = posters.read_held_out(name)[:number]
        steps, guidance = config["sampling"]["steps"], config["sampling"]["guidance"]
        result[name] = (sample(pipeline, items, steps, guidance, number), items)
    return result


def read_some(pictures: dict[str, tuple[list, list]], step: int, seconds: float) -> dict:
    """Reads them by OCR and returns the values of a line of the log."""
    values: dict = {"stage": "accuracy", "step": step, "seconds": round(seconds, 1)}
    for name, (images, items) in pictures.items():
        if ocr.available():
            figures = tell(name, images, items)
            values[f"{name}_word"] = figures["word"]
            values[f"{name}_character"] = figures["character"]
    return values


def keep(file: Path, name: str, figures: dict) -> None:
    """Writes figures under a name into a file of results, and keeps its other entries."""
    results = json.loads(file.read_text("utf-8")) if file.exists() else {}
    results[name] = figures
    file.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", "utf-8")


def contact_sheet(pictures: list[np.ndarray], file: Path, columns: int = 8) -> None:
    """Writes one image with all pictures in a grid."""
    height, width = np.max([picture.shape[:2] for picture in pictures], axis=0)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + 8), rows * (height + 8)), "gray")
    for number, picture in enumerate(pictures):
        place = (number % columns * (width + 8) + 4, number // columns * (height + 8) + 4)
        sheet.paste(Image.fromarray(picture), place)
    sheet.save(file)


def by_worker(binary: str, model: str, items: list, args, folder: Path) -> list[np.ndarray]:
    """Generates the pictures with the worker's command line, `--processes` at a time."""
    threads = max(1, (os.cpu_count() or 1) // args.processes)
    names = ("RAYON_NUM_THREADS", "CANDLE_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}

    def make(item: tuple) -> np.ndarray:
        seed, poster = item
        out = folder / f"{seed}.png"
        command = [
            binary, "generate", "--model", model, "--prompt", poster.prompt,
            "--width", str(poster.width), "--height", str(poster.height),
            "--steps", str(args.steps), "--cfg", str(args.guidance), "--seed", str(seed),
            "--device", args.device, "--cache", args.cache, "--out", str(out),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return np.asarray(Image.open(out).convert("RGB"))

    with ThreadPoolExecutor(args.processes) as pool:
        return list(pool.map(make, items))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("ceiling", "diffusers", "worker", "pictures"))
    parser.add_argument("source", type=Path, help="ASSETS, MODEL or FOLDER")
    parser.add_argument("--binary", default="ovis-worker")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.5)
    parser.add_argument("--cache", choices=("off", "safe", "fast"), default="off", help="worker's")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--processes", type=int, default=1, help="worker processes at a time")
    parser.add_argument("--lists", nargs="+", choices=LISTS, default=list(LISTS))
    parser.add_argument("--limit", type=int, help="use only the first N of each list")
    parser.add_argument("--into", type=Path, help="results file to write the figures to")
    parser.add_argument("--name", help="name of the figures in that file; default WHAT")
    parser.add_argument("--save", type=Path)
    args = parser.parse_args()
    if not ocr.available():
        print("tesseract is not installed", file=sys.stderr)
        return 1
    pipeline = painter = None
    if args.what == "ceiling":
        painter = Painter(args.source)
    elif args.what == "diffusers":
        pipeline = load_pipeline(args.source).to(args.device)
    results = {}
    for name in args.lists:
        items = posters.read_held_out(name)[: args.limit]
        folder = (args.save or Path("/tmp/ovis-demo-pictures")) / name
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        if painter:
            pictures = [painter.paint(poster)[0] for _, poster in items]
        elif pipeline:
            pictures = sample(pipeline, items, args.steps, args.guidance, args.batch)
        elif args.what == "worker":
            pictures = by_worker(args.binary, str(args.source), items, args, folder)
        else:
            files = [args.source / name / f"{seed}.png" for seed, _ in items]
            pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        seconds = time.monotonic() - started
        results[name] = {**tell(name, pictures, items), "seconds_a_picture": seconds / len(items)}
        results[name] = {key: round(value, 4) for key, value in results[name].items()}
        if args.save:
            contact_sheet(pictures[:64], args.save / f"{name}.png")
            for (seed, _), picture in zip(items, pictures, strict=True):
                Image.fromarray(picture).save(folder / f"{seed}.png")
    print(table(results))
    if args.into:
        settings = {"steps": args.steps, "guidance": args.guidance, "cache": args.cache}
        keep(args.into, args.name or args.what, {**settings, "lists": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
