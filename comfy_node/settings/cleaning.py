"""What people type and copy into settings, as they mean it.

Values come with line ends (Windows' files, ``$(cat token)``), in quotation marks (Explorer's
"Copy as path", ``docker --env-file``, which keeps them) and with a ``~`` that no shell expands.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

_INVISIBLE = "\ufeff\u200b\u200e\u200f\u202a\u202c"
"""Byte-order marks, and the marks of direction that Windows copies with a path."""
_PAIRS = ('""', "''", "“”", "\u2018\u2019")
_TOKEN = "--token"


def cleaned(text: str | None) -> str | None:
    """A value without blanks, line ends and one pair of quotes; ``None`` if nothing is left."""
    text = _bare(text or "")
    if len(text) > 1 and text[0] + text[-1] in _PAIRS:
        text = _bare(text[1:-1])
    return text or None


def cleaned_path(text: str | None) -> str | None:
    """As :func:`cleaned`, with the home folder for a ``~`` at the start."""
    path = cleaned(text)
    # Other users' folders (`~name`) are looked up by nobody's wish.
    if path and (path == "~" or path[:2] in ("~/", "~" + os.sep)):
        return os.path.expanduser(path)
    return path


def without_token(args: Iterable[str]) -> tuple[tuple[str, ...], str | None]:
    """A worker's arguments without ``--token``, and the token that they held last."""
    kept: list[str] = []
    token = None
    rest = iter(args)
    for arg in rest:
        name, given, value = arg.replace(" ", "=", 1).partition("=")
        if name != _TOKEN:
            kept.append(arg)
        else:
            token = cleaned(value if given else next(rest, "")) or token
    return tuple(kept), token


def _bare(text: str) -> str:
    return text.strip().strip(_INVISIBLE).strip()
