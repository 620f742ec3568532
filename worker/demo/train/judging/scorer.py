"""Scores pictures by what their posters ask for: the words, the letters, and the colours."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from judging import readers
from judging.comparison import compare
from judging.picture_colors import grounds_of, ink_of
from posters.poster import POSITIONS, Poster

RAMPS = ("gradient", "splash")
"""Surfaces whose ground changes from its colour at the top to another tone."""

_ORDER = {"top": 0, "center": 1, "bottom": 2}
assert set(_ORDER) == set(POSITIONS)


@dataclass(frozen=True)
class Scores:
    """What one picture reaches. `words`: share of the quoted words that were read; `characters`:
    1 - edits / letter, at least 0; `extra`: number of words found that nobody asked for; `ink` and
    `ground`: the nearest named colour is the right one. `found` is what was read. A poster without
    words has all of them, and its ink is right."""

    words: float
    characters: float
    extra: int
    ink: bool
    ground: bool
    found: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Every quoted word was read, and no other text was found."""
        return self.words == 1 and not self.extra


def judge(reader: readers.Reader, picture: np.ndarray, poster: Poster) -> Scores:
    """The scores of one picture, uint8 [H, W, 3]."""
    lines = reader.read(picture)
    phrases = sorted(poster.phrases, key=lambda phrase: _ORDER[phrase.position])
    found = tuple(line.text for line in lines)
    comparison = compare([phrase.text for phrase in phrases], list(found))
    boxes = [line.box for line in lines]
    return Scores(
        comparison.words,
        comparison.characters,
        comparison.extra,
        not phrases or ink_of(picture, boxes) == poster.ink,
        poster.ground in grounds_of(picture, boxes, poster.surface in RAMPS),
        found,
    )


_reader: readers.Reader | None = None


def _start(name: str) -> None:
    global _reader
    _reader = readers.load(name)


def _judge(work: tuple[np.ndarray, Poster]) -> Scores:
    assert _reader is not None
    return judge(_reader, *work)


class Scorer:
    """Judges many pictures in parallel processes, each with a reader of one thread. The processes
    are started afresh (spawned), so that they share nothing with a program that uses a GPU. With
    0 processes everything happens in this one."""

    def __init__(self, processes: int, reader: str = "paddle"):
        self._reader = readers.load(reader) if processes == 0 else None
        self._pool = None
        if processes:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes, context, _start, (reader,))

    def score(self, pictures: Sequence[np.ndarray], posters: Sequence[Poster]) -> list[Scores]:
        """The scores of pictures, uint8 [H, W, 3] of any sizes, in their order."""
        work = list(zip(pictures, posters, strict=True))
        if self._pool is None:
            assert self._reader is not None
            return [judge(self._reader, *one) for one in work]
        return list(self._pool.map(_judge, work, chunksize=4))

    def close(self) -> None:
        """Ends the processes."""
        if self._pool:
            self._pool.shutdown()

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
