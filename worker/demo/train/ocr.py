"""Reads posters with Debian's tesseract and counts what it read."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

COMMAND = os.environ.get("OVIS_DEMO_TESSERACT", "tesseract")
"""The program; a wrapper for one that is not installed may be named here."""

LINE_HEIGHT = 40
"""Tesseract reads best what is as tall as the lettering it was trained with."""

MARGIN = 14


def available() -> bool:
    return shutil.which(COMMAND) is not None


def prepare(picture: np.ndarray, lines: int) -> Image.Image:
    """Dark lettering on white and nothing around it, from uint8 [H, W, 3].

    Colours become one tone, the direction in which they vary most, which Otsu's
    threshold cuts in two; the larger half is the ground. A
    border is cut off first.
    """
    pixels = picture[6:-6, 6:-6].astype(np.float64)
    flat = pixels.reshape(-1, 3) - pixels.reshape(-1, 3).mean(0)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    tone = (flat @ vectors[:, -1]).reshape(pixels.shape[:2])
    low, high = tone.min(), tone.max()
    tone = (tone - low) / max(high - low, 1e-6)
    threshold = _otsu(tone)
    if (tone > threshold).mean() < 0.5:
        tone, threshold = 1 - tone, 1 - threshold
    # Softly, so that the edges of the letters stay smooth.
    tone = np.clip((tone - threshold) * 4 + 0.5, 0, 1)
    dark = tone < 0.5
    rows, columns = (np.flatnonzero(dark.sum(axis) >= 2) for axis in (1, 0))
    if len(rows) and len(columns):
        tone = tone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    image = Image.fromarray((tone * 255).astype(np.uint8))
    scale = lines * LINE_HEIGHT / image.height
    image = image.resize((max(8, round(image.width * scale)), lines * LINE_HEIGHT), Image.LANCZOS)
    return ImageOps.expand(image, MARGIN, 255)


def _otsu(tone: np.ndarray) -> float:
    counts, edges = np.histogram(tone, bins=256, range=(0, 1))
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centers[int(np.nanargmax(between))])


def read(picture: np.ndarray, chinese: bool, lines: int) -> list[str]:
    """The lines that tesseract reads, without spaces; it is told how many there are.

    Where its search for a line finds none, it takes the whole picture for one.
    """
    data = BytesIO()
    prepare(picture, lines).save(data, "PNG")
    if lines > 1:
        return _run(data.getvalue(), chinese, "6")
    return _run(data.getvalue(), chinese, "7") or _run(data.getvalue(), chinese, "13")


def _run(png: bytes, chinese: bool, mode: str) -> list[str]:
    language = "chi_sim" if chinese else "eng"
    command = [COMMAND, "stdin", "stdout", "-l", language, "--psm", mode, "--dpi", "150"]
    result = subprocess.run(
        command,
        input=png,
        capture_output=True,
        check=True,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )
    found = ("".join(line.split()) for line in result.stdout.decode("utf-8").splitlines())
    return [line for line in found if line]


def read_all(
    pictures: Sequence[np.ndarray], chinese: bool, lines: int, threads: int | None = None
) -> list[list[str]]:
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(lambda picture: read(picture, chinese, lines), pictures))


def edit_distance(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def score(wanted: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> dict[str, float]:
    """Shares over all headlines. `exact`: every letter and its case; `word`: but for
    case, which capitals and small letters of one shape (O, S, W...) leave open; `edits`:
    edits over letters, but for case; `character`: 1 - edits, headline by headline."""
    exact = word = edits = letters = 0
    for want, got in zip(wanted, found, strict=True):
        a, b = "\n".join(want), "\n".join(got)
        exact += a == b
        a, b = a.lower(), b.lower()
        word += a == b
        edits += min(edit_distance(a, b), len(a))
        letters += len(a)
    count = len(wanted)
    return {
        "count": count,
        "exact": exact / count,
        "word": word / count,
        "edits": edits / letters,
        "character": 1 - edits / letters,
    }
