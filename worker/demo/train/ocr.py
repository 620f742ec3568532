"""Reads posters with Debian's tesseract and scores the result."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

COMMAND = os.environ.get("OVIS_DEMO_TESSERACT", "tesseract")
"""The program. The variable can name a wrapper, for instance one that runs it in a container."""

LINE_HEIGHT = 40
"""Height in pixels that a line is scaled to, close to that of tesseract's training data."""

MARGIN = 14
"""White margin around the text in pixels."""


def available() -> bool:
    """Whether tesseract is installed."""
    return shutil.which(COMMAND) is not None


def prepare(picture: np.ndarray, lines: int) -> Image.Image:
    """Converts a picture, uint8 [H, W, 3], to dark text on white, cropped to the text.

    A border is cut off first. Colours are projected onto their principal axis and split by Otsu's
    threshold; the larger class is taken as the background.
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
    # A steep ramp instead of a hard threshold keeps the edges of the letters smooth.
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
    """Otsu's threshold of values in 0..1: the one that maximizes the variance between classes."""
    counts, edges = np.histogram(tone, bins=256, range=(0, 1))
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centers[int(np.nanargmax(between))])


def read(picture: np.ndarray, chinese: bool, lines: int) -> list[str]:
    """The lines that tesseract reads, without spaces. Its page segmentation mode depends on the
    number of lines.

    For one line, mode 7 (a single text line) is tried first; if it finds nothing, mode 13 takes
    the whole picture as one line.
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
    """Reads all pictures in parallel."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(lambda picture: read(picture, chinese, lines), pictures))


def edit_distance(left: str, right: str) -> int:
    """The Levenshtein distance."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def score(wanted: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> dict[str, float]:
    """Scores over all headlines.

    `exact` is the share of headlines read correctly with case, `word` without case (letters such
    as O, S and W look the same in both cases). `edits` is the number of edits per letter without
    case, with at most one edit per letter of a headline, and `character` is 1 - `edits`.
    """
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
