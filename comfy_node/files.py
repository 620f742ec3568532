"""Files that are read in any Unicode encoding, and written as a whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

MOST_BYTES = 1 << 20


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> object:
    """A file's JSON, in UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.

    Raises ``OSError`` or ``ValueError`` and nothing else.
    """
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes >> 10} KiB")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def replace(path: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all; it may hold secrets, so only its owner reads it.

    A link stays one: what it leads to is written.
    """
    path = Path(os.path.realpath(path))
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
