"""The language of each browser page, and of the page that the running prompt belongs to.

Every page reports its language when it loads (``web/js/reader.js``). A node's texts are in the
language of the page that queued its prompt; a page that has reported none gets English.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from .sentences import LANGUAGES

MAX_PAGES = 1000
"""How many pages are remembered; the page that reported longest ago is forgotten first."""

_languages: dict[str, str] = {}
_validating_page: ContextVar[str | None] = ContextVar("ovis_validating_page", default=None)
_executing_page: Callable[[], str | None] | None = None


def set_executing_page(page: Callable[[], str | None]) -> None:
    """Registers the function that returns the page of the prompt that is being executed."""
    global _executing_page
    _executing_page = page


def on_prompt(prompt: dict) -> dict:
    """ComfyUI's hook that runs before a prompt is validated: remembers which page queued it."""
    _validating_page.set(str(prompt.get("client_id", "")))
    return prompt


def remember(page: str, language: str) -> None:
    """Stores a page's language; a language that the pack does not have counts as English."""
    _languages.pop(page, None)
    while len(_languages) >= MAX_PAGES:
        del _languages[next(iter(_languages))]
    _languages[page] = language if language in LANGUAGES else LANGUAGES[0]


def current() -> str:
    """The language of the page whose prompt is being validated or executed."""
    page = _validating_page.get()
    if page is None and _executing_page is not None:
        page = _executing_page()
    return _languages.get(page or "", LANGUAGES[0])
