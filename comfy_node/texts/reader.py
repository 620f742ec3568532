"""Who reads what a node says, and in which language.

A node runs for the browser page that queued its prompt. Every page tells its
language (``web/js/reader.js``); whoever has told none reads English.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from .sentences import LANGUAGES

MOST_PAGES = 1000
"""How many pages' languages are kept."""

_languages: dict[str, str] = {}
_checked_for: ContextVar[str | None] = ContextVar("ovis_checked_for", default=None)
_runs_for: Callable[[], str | None] | None = None


def runs_for(page: Callable[[], str | None]) -> None:
    """Says how to find the page that the running prompt belongs to."""
    global _runs_for
    _runs_for = page


def check_for(prompt: dict) -> dict:
    """ComfyUI's hook on a prompt before its inputs are checked: notes whose it is."""
    _checked_for.set(str(prompt.get("client_id", "")))
    return prompt


def tell(page: str, language: str) -> None:
    """A page's language; one that the pack does not speak is as good as English."""
    _languages.pop(page, None)
    while len(_languages) >= MOST_PAGES:
        del _languages[next(iter(_languages))]
    _languages[page] = language if language in LANGUAGES else LANGUAGES[0]


def language() -> str:
    """The language of whoever the prompt that is checked or run here belongs to."""
    page = _checked_for.get()
    if page is None and _runs_for is not None:
        page = _runs_for()
    return _languages.get(page or "", LANGUAGES[0])
