"""The pack's sentences in the language of the page that shows them."""

from __future__ import annotations

import ast
import re
import string
import threading

import pytest

from comfy_node import wire
from comfy_node.texts import page_language, say, translated
from comfy_node.texts.chinese import CHINESE, WORKER_SAYS
from comfy_node.worker.errors import ConnectionLost, from_wire
from real_worker import ROOT

CJK = re.compile("[\u4e00-\u9fff]")
SOURCES = sorted((ROOT / "comfy_node").rglob("*.py"))


def calls(*names: str) -> list[tuple[str, ast.Call]]:
    """All calls of a function in the pack, with their locations."""
    return [
        (f"{path.name}:{node.lineno}", node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names
    ]


def blanks(pattern: str) -> set[str]:
    return {name for _, name, *_ in string.Formatter().parse(pattern) if name is not None}


def test_every_sentence_has_a_chinese_one_and_none_is_left_over():
    said = {}
    for where, call in calls("say"):
        (pattern,) = call.args
        assert isinstance(pattern, ast.Constant), f"{where}: its English is not written there"
        said[pattern.value] = where
    assert set(said) == set(CHINESE)


@pytest.mark.parametrize(("english", "chinese"), CHINESE.items())
def test_a_chinese_sentence_is_about_the_same_things(english, chinese):
    assert blanks(english) == blanks(chinese)
    assert CJK.search(chinese)


def test_every_error_is_a_sentence_of_the_table():
    for where, call in calls("WorkerError", "NoWorker", "StartFailed", "ConnectionLost"):
        for part in call.args[:2]:
            words = isinstance(part, ast.JoinedStr) or (
                isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
            assert not words, f"{where}: say() it, so that it is also there in Chinese"


def test_a_sentence_is_english_and_holds_its_chinese():
    lost = say("The connection to the worker at {address} was lost during the job.", address="a:1")
    waits = say("{lost} Waiting for it to answer again.", lost=lost)
    assert waits == (
        "The connection to the worker at a:1 was lost during the job. "
        "Waiting for it to answer again."
    )
    chinese = translated(waits, "zh")
    assert "a:1" in chinese and not re.search("[b-z]{2}", chinese)
    assert translated(waits, "en") == waits
    assert translated("a file's own words", "zh") == "a file's own words"


@pytest.mark.parametrize("code", wire.ErrorCode)
def test_the_workers_own_words_come_after_what_kind_of_error_it_is(code):
    error = from_wire(wire.WireError(code, "The {sides} are odd.", "Use even ones."))
    assert str(error) == error.text("en") == "The {sides} are odd.\nUse even ones."
    lead, _, rest = error.text("zh").partition("The {sides} are odd.")
    assert lead == WORKER_SAYS[code].removesuffix("{words}") and CJK.search(lead)
    assert rest == "\nUse even ones."


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.setattr(page_language, "_languages", {})
    monkeypatch.setattr(page_language, "_executing_page", None)


def lost() -> ConnectionLost:
    return ConnectionLost(say("Run the workflow again when the worker is back."))


def test_an_error_is_in_the_language_of_the_page_that_the_prompt_runs_for(pages):
    running = ["a"]
    page_language.set_executing_page(lambda: running[0])
    page_language.remember("a", "zh")
    page_language.remember("b", "fr")
    assert CJK.search(str(lost()))
    for page in ("b", "nobody's", None):
        running[0] = page
        assert str(lost()) == "Run the workflow again when the worker is back."


def test_a_prompt_is_checked_in_the_language_of_its_own_page(pages):
    page_language.set_executing_page(lambda: "a")
    page_language.remember("a", "zh")
    seen = []

    def check(prompt: dict) -> None:
        assert page_language.on_prompt(prompt) is prompt
        seen.append(page_language.current())

    for prompt in ({"client_id": "a"}, {"client_id": "b"}, {}):
        # A separate thread has a separate context, as each request has.
        thread = threading.Thread(target=check, args=(prompt,))
        thread.start()
        thread.join()
    assert seen == ["zh", "en", "en"]


def test_only_so_many_pages_are_remembered(pages, monkeypatch):
    monkeypatch.setattr(page_language, "MAX_PAGES", 2)
    for page in ("a", "b", "a", "c"):
        page_language.remember(page, "zh")
    assert list(page_language._languages) == ["a", "c"]
