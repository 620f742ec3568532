"""Reading JSON files in any Unicode encoding, and writing files atomically."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

MAX_BYTES = 1 << 20
"""Default size limit of a JSON file."""


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> object:
    """Parses a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.

    Raises ``OSError`` or ``ValueError`` and nothing else; a file of more than ``max_bytes`` bytes
    is a ``ValueError``.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes >> 10} KiB")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees either the old content or the new one.

    The content goes to a temporary file in the same folder, which then replaces the target. Only
    the owner may read the file, because it may hold secrets. If ``path`` is a symbolic link, the
    file that it points to is replaced and the link stays.
    """
    path = Path(os.path.realpath(path))
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # created with mode 0600
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
