"""Measures on the held-out lists how well a model draws what it is asked for.

    evaluate.py ceiling ASSETS                  a perfect renderer: the readers' limit
    evaluate.py diffusers MODEL [--device cuda] the reference pipeline
    evaluate.py worker MODEL --binary PATH      the worker's command line, one call per picture
    evaluate.py pictures FOLDER                 pictures that --save wrote: LIST/SEED.png

Each prompt gets one picture, with the seed from the list. `right` is the share of pictures in
which every quoted word is read and no other text is found; `words` and `characters` are shares of
what was asked for; `extra` is the share of pictures with other text; `colors`, `ink` and `ground`
count only colours that the prompts name. `--into FILE` saves the figures, `--save FOLDER` the
pictures.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from judging import readers, sources
from judging.lists import LISTS, Item, read
from judging.scorer import Scorer, Scores


def figures(scores: Sequence[Scores], items: Sequence[Item]) -> dict[str, float | int]:
    """The figures of a list from the scores of its pictures."""
    result: dict[str, float | int] = {
        "count": len(items),
        "right": float(np.mean([score.right for score in scores])),
        "words": float(np.mean([score.words for score in scores])),
        "characters": float(np.mean([score.characters for score in scores])),
        "extra": float(np.mean([score.extra > 0 for score in scores])),
    }
    asked = [(score, item.asked) for score, item in zip(scores, items, strict=True) if item.asked]
    for name in ("ink", "ground"):
        if values := [getattr(score, name) for score, names in asked if name in names]:
            result[name] = float(np.mean(values))
    if asked:
        every = [all(getattr(score, name) for name in names) for score, names in asked]
        result["colors"] = float(np.mean(every))
    return {name: round(value, 4) for name, value in result.items()}


def tell(pictures: Sequence[np.ndarray], items: Sequence[Item], scorers: dict[str, Scorer]) -> dict:
    """The figures of a list by each reader. Colours are judged with the first one's boxes."""
    posters = [item.poster for item in items]
    result = {}
    for number, (name, scorer) in enumerate(scorers.items()):
        result[name] = figures(scorer.score(pictures, posters), items)
        if number:
            for color in ("ink", "ground", "colors"):
                result[name].pop(color, None)
    return result


def table(results: dict[str, dict]) -> str:
    """The figures of all lists as a Markdown table, a row for each reader."""
    columns = ("right", "words", "characters", "extra", "ink", "ground")
    rows = [f"| list | reader | pictures | {' | '.join(columns)} |"]
    rows.append("| --- " * (len(columns) + 3) + "|")
    for name, entry in results.items():
        for reader in readers.READERS:
            if one := entry.get(reader):
                cells = [f"{one[c]:.1%}" if c in one else "" for c in columns]
                rows.append(f"| {name} | {reader} | {one['count']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def keep(file: Path, name: str, entry: dict) -> None:
    """Writes figures under a name into a file of results, and keeps its other entries. Lists that
    the entry lacks are kept too."""
    results = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if "lists" in entry:
        entry = {**entry, "lists": {**results.get(name, {}).get("lists", {}), **entry["lists"]}}
    results[name] = entry
    file.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", "utf-8")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("ceiling", "diffusers", "worker", "pictures"))
    parser.add_argument("source", type=Path, help="ASSETS, MODEL or FOLDER")
    parser.add_argument("--binary", default="ovis-worker")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=sources.Sampling.steps)
    parser.add_argument("--guidance", type=float, default=sources.Sampling.guidance)
    parser.add_argument("--cache", choices=("off", "safe", "fast"), default="off", help="worker's")
    parser.add_argument("--precision", help="worker's, as its own option")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--processes", type=int, default=1, help="worker processes at a time")
    parser.add_argument("--lists", nargs="+", choices=LISTS, default=list(LISTS))
    parser.add_argument("--limit", type=int, help="use only the first N of each list")
    parser.add_argument("--readers", nargs="+", choices=list(readers.READERS))
    parser.add_argument("--into", type=Path, help="results file to write the figures to")
    parser.add_argument("--name", help="name of the figures in that file; default WHAT")
    parser.add_argument("--save", type=Path)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    names = args.readers or [name for name in readers.READERS if readers.available(name)]
    missing = [name for name in names if not readers.available(name)]
    if missing or not names:
        print(f"no reader is installed: {', '.join(missing or readers.READERS)}", file=sys.stderr)
        return 1
    how = sources.Sampling(
        args.steps, args.guidance, args.device, args.batch, args.cache, args.precision,
        args.processes,
    )  # fmt: skip
    pipeline = None
    if args.what == "diffusers":
        pipeline = sources.load_pipeline(args.source).to(args.device)
    scorers = {name: Scorer(os.cpu_count() or 1, name) for name in names}
    results = {}
    for name in args.lists:
        items = read(name)[: args.limit]
        files = sources.file_names(read(name))[: args.limit]
        started = time.monotonic()
        if args.what == "ceiling":
            pictures = sources.painted(items, args.source)
        elif pipeline:
            pictures = sources.sampled(pipeline, items, how)
        elif args.what == "worker":
            with tempfile.TemporaryDirectory() as folder:
                pictures = sources.generated(args.binary, args.source, items, how, Path(folder))
        else:
            pictures = sources.read_folder(args.source / name, files)
        seconds = time.monotonic() - started
        if args.save:
            sources.save(args.save / name, files, pictures)
        results[name] = tell(pictures, items, scorers)
        results[name]["seconds_a_picture"] = round(seconds / len(items), 4)
    for scorer in scorers.values():
        scorer.close()
    print(table(results))
    if args.into:
        settings = {"steps": args.steps, "guidance": args.guidance, "cache": args.cache}
        keep(args.into, args.name or args.what, {**settings, "lists": results})
    return 0
