"""How long to wait before something is tried again."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.25
MOST_SECONDS = 5.0
LEAST_RETRY_SECONDS = 1.0
MOST_RETRY_SECONDS = 60.0
"""The bounds of the time that a full worker asks to wait."""


def pause(failures: int) -> float:
    """Seconds to wait after ``failures`` attempts, 1 or more, have failed in a row.

    The time doubles up to :data:`MOST_SECONDS`. It is random within its upper half, so that clients
    that lost the same worker do not all return at once.
    """
    doubled = FIRST_SECONDS * 2 ** min(failures - 1, 30)
    return min(doubled, MOST_SECONDS) * random.uniform(0.5, 1.0)


def retry_pause(retry_after: float) -> float:
    """Seconds to wait for a full worker: what it asks for, bounded, and up to a tenth more."""
    # The comparison order makes a value that is not a number the least.
    bounded = min(max(LEAST_RETRY_SECONDS, retry_after), MOST_RETRY_SECONDS)
    return bounded * random.uniform(1.0, 1.1)
