"""PP-OCRv6 on onnxruntime: finds the lines of text of a picture, and reads them.

The two networks (small models, Apache 2.0, by Baidu) come inside the wheel `rapidocr` 3.10. That
package itself needs OpenCV, which is larger than everything else together, so that only its
models are used: this file does what surrounds them with NumPy and Pillow. Lines are taken as
horizontal, as they are on posters.
"""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from judging.lines import Line, reading_order

SIDE = 448
"""The shorter side, in pixels, that a picture is enlarged to for the detection."""

LONGEST = 1344
"""The longer side, in pixels, that is not exceeded by that."""

PROBABILITY = 0.3
"""A pixel of the detector's map above this belongs to a line (rapidocr: `Det.thresh`)."""

BOX_PROBABILITY = 0.5
"""The least mean probability inside a line's box (rapidocr: `Det.box_thresh`)."""

UNCLIP = 1.6
"""How far the shrunken boxes that the detector learns are extended: by `UNCLIP` x area /
perimeter on each side (rapidocr: `Det.unclip_ratio`)."""

CONFIDENCE = 0.5
"""The least mean confidence of a line's letters (rapidocr: `Global.text_score`)."""

HEIGHT = 48
"""The height in pixels of the recogniser's input."""


@cache
def models() -> Path | None:
    """The folder of the networks in the installed package, which is not imported."""
    found = importlib.util.find_spec("rapidocr")
    if not found or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "models"
    return folder if (folder / "PP-OCRv6_rec_small.onnx").exists() else None


def available() -> bool:
    """Whether the networks and onnxruntime are installed."""
    return models() is not None and importlib.util.find_spec("onnxruntime") is not None


class PaddleReader:
    """Reads whole pictures by PP-OCR, each with `threads` threads."""

    name = "PP-OCRv6"

    def __init__(self, threads: int = 1):
        import onnxruntime

        folder = models()
        if folder is None:
            raise RuntimeError(
                "PP-OCR's networks are not installed: pip install --no-deps rapidocr"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3

        def load(name: str):
            return onnxruntime.InferenceSession(
                str(folder / name), options, providers=["CPUExecutionProvider"]
            )

        self.detector = load("PP-OCRv6_det_small.onnx")
        self.recogniser = load("PP-OCRv6_rec_small.onnx")
        letters = self.recogniser.get_modelmeta().custom_metadata_map["character"].split("\n")
        # Class 0 is CTC's blank; the last one is the space.
        self.letters = ["", *letters, " "][: self.recogniser.get_outputs()[0].shape[2]]

    def read(self, picture: np.ndarray) -> list[Line]:
        """The lines of text of a picture, uint8 [H, W, 3], in reading order."""
        boxes = self.find(picture)
        lines = []
        for box, (text, score) in zip(boxes, self.recognise(picture, boxes), strict=True):
            if text.strip() and score >= CONFIDENCE:
                lines.append(Line(text.strip(), box, score))
        return reading_order(lines)

    def find(self, picture: np.ndarray) -> list[tuple[int, int, int, int]]:
        """The boxes (left, top, right, bottom) of the picture's lines, in its pixels."""
        height, width = picture.shape[:2]
        scale = min(max(1.0, SIDE / min(height, width)), LONGEST / max(height, width))
        size = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
        resized = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
        output = self.detector.run(None, {self.detector.get_inputs()[0].name: _normal(resized)})
        chances = output[0][0, 0]
        boxes = []
        for left, top, right, bottom in regions(chances > PROBABILITY):
            w, h = right - left, bottom - top
            chance = chances[top:bottom, left:right].mean()
            if min(w, h) < 3 or chance < BOX_PROBABILITY:
                continue
            grow = UNCLIP * w * h / (2 * (w + h))
            x, y = width / size[0], height / size[1]
            box = (
                max(0, round((left - grow) * x)),
                max(0, round((top - grow) * y)),
                min(width, round((right + grow) * x)),
                min(height, round((bottom + grow) * y)),
            )
            if box[2] - box[0] >= 4 and box[3] - box[1] >= 4:
                boxes.append(box)
        return boxes

    def recognise(
        self, picture: np.ndarray, boxes: list[tuple[int, int, int, int]]
    ) -> list[tuple[str, float]]:
        """What the boxes contain: text, and the mean confidence of its letters in 0..1."""
        if not boxes:
            return []
        image = Image.fromarray(picture)
        widths = [max(16, round(HEIGHT * (b[2] - b[0]) / (b[3] - b[1]))) for b in boxes]
        longest = max(160, -(-max(widths) // 32) * 32)
        batch = np.zeros((len(boxes), 3, HEIGHT, longest), np.float32)
        for number, (box, width) in enumerate(zip(boxes, widths, strict=True)):
            crop = image.crop(box).resize((width, HEIGHT), Image.Resampling.BICUBIC)
            batch[number, :, :, :width] = _normal(crop)[0]
        output = self.recogniser.run(None, {self.recogniser.get_inputs()[0].name: batch})[0]
        return [self._decode(chances) for chances in output]

    def _decode(self, chances: np.ndarray) -> tuple[str, float]:
        """CTC's best path [steps, classes]: repeated classes merged, then blanks removed."""
        best = chances.argmax(1)
        keep = (best != 0) & np.append(True, best[1:] != best[:-1])
        if not keep.any():
            return "", 0.0
        text = "".join(self.letters[i] for i in best[keep])
        return text, float(chances.max(1)[keep].mean())


def _normal(image: Image.Image) -> np.ndarray:
    """The networks' input: float32 [1, 3, H, W] in -1..1, blue first."""
    pixels = np.asarray(image, np.float32)[:, :, ::-1].transpose(2, 0, 1)
    return pixels[None] / 127.5 - 1


def regions(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The bounding boxes (left, top, right, bottom) of a mask's connected regions (of pixels that
    share a side or a corner), bool [H, W]: runs of each row are joined with those of the row
    above."""
    parents: list[int] = []
    runs: list[tuple[int, int, int, int]] = []  # row, start, end, number

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    above: list[tuple[int, int, int, int]] = []
    for row in np.flatnonzero(mask.any(1)):
        edges = np.flatnonzero(np.diff(mask[row].astype(np.int8), prepend=0, append=0))
        current = []
        for start, end in edges.reshape(-1, 2).tolist():
            number = len(parents)
            parents.append(number)
            for over in above:
                if over[0] == row - 1 and over[1] <= end and over[2] >= start:
                    parents[root(number)] = root(over[3])
            current.append((int(row), start, end, number))
        runs += current
        above = current
    boxes: dict[int, tuple[int, int, int, int]] = {}
    for row, start, end, number in runs:
        old = boxes.get(root(number), (start, row, end, row + 1))
        boxes[root(number)] = (
            min(old[0], start), min(old[1], row), max(old[2], end), max(old[3], row + 1),
        )  # fmt: skip
    return list(boxes.values())
