"""The readers of pictures, behind one interface.

`paddle` is PP-OCRv6, with which pictures are judged; `tesseract` is Debian's, whose figures stand
beside. `read(picture)` returns the lines of text of a whole picture in reading order.
"""

from typing import Protocol

import numpy as np

from judging import ppocr, tesseract
from judging.lines import Line

READERS = {
    "paddle": (ppocr.available, ppocr.PaddleReader),
    "tesseract": (tesseract.available, tesseract.TesseractReader),
}


class Reader(Protocol):
    """Reads pictures, uint8 [H, W, 3], of any size."""

    name: str

    def read(self, picture: np.ndarray) -> list[Line]: ...


def available(name: str) -> bool:
    """Whether a reader ("paddle" or "tesseract") is installed."""
    return READERS[name][0]()


def load(name: str, threads: int = 1) -> Reader:
    """A reader that uses so many threads."""
    return READERS[name][1](threads)
