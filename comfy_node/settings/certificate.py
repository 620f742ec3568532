"""The fingerprint of a worker's certificate, as people copy it from the worker's log."""

from __future__ import annotations

import re

from ..texts import WorkerError, printable, say

_PREFIX = re.compile(r"^sha-?256[:=\s]\s*", re.IGNORECASE)
_BETWEEN = re.compile(r"[:\s-]")
_DIGITS = re.compile(r"[0-9a-f]{64}")


def read_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as 64 lower-case hexadecimal digits.

    Colons, spaces and a leading ``SHA256:`` are accepted. Raises :class:`WorkerError` if the text
    is not a fingerprint.
    """
    digits = _BETWEEN.sub("", _PREFIX.sub("", text.strip())).lower()
    if not _DIGITS.fullmatch(digits):
        raise WorkerError(
            say("`{text}` is not the fingerprint of a certificate.", text=printable(text, 120)),
            say(
                "Copy the SHA-256 fingerprint from the worker's log: 64 hexadecimal digits, with "
                "or without colons."
            ),
        )
    return digits


def display_fingerprint(digits: str) -> str:
    """The usual form, with upper-case digits and a colon after every second one."""
    pairs = [digits[start : start + 2] for start in range(0, len(digits), 2)]
    return ":".join(pairs).upper()
