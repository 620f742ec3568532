"""Debian's tesseract as a second reader of whole pictures."""

import os
import shutil
import subprocess
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from judging.lines import Line, reading_order

COMMAND = os.environ.get("OVIS_DEMO_TESSERACT", "tesseract")
"""The program. The variable can name a wrapper, for instance one that runs it in a container."""

LANGUAGES = "eng+chi_sim"

LINE_HEIGHT = 40
"""Height in pixels that the tallest line is scaled to, close to that of tesseract's training."""

MARGIN = 14
"""White margin around the text in pixels."""

CONFIDENCE = 50
"""The least confidence, in percent, of a word that counts as found."""


def available() -> bool:
    """Whether tesseract is installed."""
    return shutil.which(COMMAND) is not None


class TesseractReader:
    """Reads whole pictures by tesseract."""

    name = "tesseract"

    def __init__(self, threads: int = 1):
        self.environment = {**os.environ, "OMP_THREAD_LIMIT": str(threads)}

    def read(self, picture: np.ndarray) -> list[Line]:
        """The lines of text of a picture, uint8 [H, W, 3], in reading order."""
        image, origin, scale = prepare(picture)
        for mode in ("6", "7"):
            lines = self._run(image, mode, origin, scale)
            if lines:
                return lines
        return []

    def _run(self, image: Image.Image, mode: str, origin: tuple[int, int], scale: float):
        """The lines that tesseract reads in a page segmentation mode (6: a block of lines,
        7: a single line)."""
        data = BytesIO()
        image.save(data, "PNG")
        command = [
            COMMAND,
            "stdin",
            "stdout",
            "-l",
            LANGUAGES,
            "--psm",
            mode,
            "--dpi",
            "150",
            "tsv",
        ]
        done = subprocess.run(
            command, input=data.getvalue(), capture_output=True, check=True, env=self.environment
        )
        words: dict[tuple, list] = {}
        for row in done.stdout.decode("utf-8").splitlines()[1:]:
            level, *place, left, top, width, height, confidence, text = row.split("\t")
            if level == "5" and text.strip() and float(confidence) >= CONFIDENCE:
                box = [int(left), int(top), int(left) + int(width), int(top) + int(height)]
                words.setdefault(tuple(place[:4]), []).append((text, box, float(confidence)))
        lines = []
        for found in words.values():
            texts, boxes, confidences = zip(*found, strict=True)
            box = np.array(boxes)
            edges = np.concatenate([box[:, :2].min(0), box[:, 2:].max(0)]) - MARGIN
            left, top, right, bottom = np.round(edges / scale + [*origin, *origin]).astype(int)
            box = (int(left), int(top), int(right), int(bottom))
            lines.append(Line(" ".join(texts), box, min(confidences) / 100))
        return reading_order(lines)


def prepare(picture: np.ndarray) -> tuple[Image.Image, tuple[int, int], float]:
    """Converts a picture, uint8 [H, W, 3], to dark text on white, cropped to the text. Returns
    also the place of the crop's top left corner in the picture (x, y) and its scale.

    A border is cut off first. Colours are projected onto their principal axis and split by Otsu's
    threshold; the larger class is taken as the ground. Rows of pixels that contain text make
    lines; the tallest one gets `LINE_HEIGHT`.
    """
    edge = 6
    pixels = picture[edge:-edge, edge:-edge].astype(np.float64)
    flat = pixels.reshape(-1, 3) - pixels.reshape(-1, 3).mean(0)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    tone = (flat @ vectors[:, -1]).reshape(pixels.shape[:2])
    low, high = tone.min(), tone.max()
    tone = (tone - low) / max(high - low, 1e-6)
    threshold = otsu(tone)
    if (tone > threshold).mean() < 0.5:
        tone, threshold = 1 - tone, 1 - threshold
    # A steep ramp instead of a hard threshold keeps the edges of the letters smooth.
    tone = np.clip((tone - threshold) * 4 + 0.5, 0, 1)
    dark = tone < 0.5
    rows, columns = (np.flatnonzero(dark.sum(axis) >= 2) for axis in (1, 0))
    left = top = 0
    if len(rows) and len(columns):
        left, top = int(columns[0]), int(rows[0])
        tone = tone[top : rows[-1] + 1, left : columns[-1] + 1]
    image = Image.fromarray((tone * 255).astype(np.uint8))
    scale = float(np.clip(LINE_HEIGHT / tallest(tone < 0.5), 0.25, 4.0))
    size = [max(8, round(side * scale)) for side in image.size]
    image = image.resize(size, Image.Resampling.LANCZOS)
    return ImageOps.expand(image, MARGIN, 255), (left + edge, top + edge), scale


def tallest(dark: np.ndarray) -> int:
    """The height of the tallest block of rows with dark pixels, bool [H, W]."""
    edges = np.flatnonzero(np.diff(dark.any(1).astype(np.int8), prepend=0, append=0))
    return int(np.diff(edges.reshape(-1, 2)).max(initial=1))


def otsu(tone: np.ndarray) -> float:
    """Otsu's threshold of values in 0..1: the one that maximizes the variance between classes."""
    counts, edges = np.histogram(tone, bins=256, range=(0, 1))
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centers[int(np.nan_to_num(between).argmax())])
