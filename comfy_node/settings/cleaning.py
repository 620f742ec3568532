"""Cleans values that people type or copy into settings.

Values come with line endings (Windows files, ``$(cat token)``), in quotation marks (Explorer's
"Copy as path", ``docker --env-file``) and with a ``~`` that no shell has expanded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

_INVISIBLE = "\ufeff\u200b\u200e\u200f\u202a\u202c"
"""Byte-order marks, and the direction marks that Windows copies with a path."""
_PAIRS = ('""', "''", "“”", "\u2018\u2019")
_TOKEN = "--token"


def clean_text(text: str | None) -> str | None:
    """Strips white space and one pair of quotation marks; ``None`` if nothing is left."""
    text = _strip(text or "")
    if len(text) > 1 and text[0] + text[-1] in _PAIRS:
        text = _strip(text[1:-1])
    return text or None


def clean_path(text: str | None) -> str | None:
    """Like :func:`clean_text`, and replaces a leading ``~`` by the home folder."""
    path = clean_text(text)
    # `~name`, another user's home folder, is left alone: it is more likely a file's name.
    if path and (path == "~" or path[:2] in ("~/", "~" + os.sep)):
        return os.path.expanduser(path)
    return path


def without_token(args: Iterable[str]) -> tuple[tuple[str, ...], str | None]:
    """Splits a worker's arguments into those without ``--token`` and the last token given."""
    kept: list[str] = []
    token = None
    rest = iter(args)
    for arg in rest:
        name, given, value = arg.replace(" ", "=", 1).partition("=")
        if name != _TOKEN:
            kept.append(arg)
        else:
            token = clean_text(value if given else next(rest, "")) or token
    return tuple(kept), token


def _strip(text: str) -> str:
    return text.strip().strip(_INVISIBLE).strip()
