"""Random posters and phrases for the demo model: never held out, evenly spread."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from posters import phrases, random_posters
from posters.families import CHARACTERS, LATIN, LETTERS
from posters.poster import FAMILIES, SURFACES, Phrase
from posters.typesetting import set_lines


@pytest.fixture(scope="module")
def table(poster_assets: Path) -> dict:
    return {**random_posters.default_table(), "assets": str(poster_assets)}


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    rows = {"english": "ABALONE", "chinese": "春风", "seeds": "Green Life"}
    for name, text in rows.items():
        row = {"seed": 0, "prompt": "", "phrases": [{"text": text}]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    return tmp_path


def test_held_out_texts_are_found(lists: Path):
    held = phrases.held_out(lists)
    for text in ("abalone", "The ABALONE Bar", "Abalone!", "GREEN  life", "大春风起", "春 风"):
        assert held.contains(text), text
    for text in ("green", "life", "Abalones", "春天", "风"):
        assert not held.contains(text), text


def test_random_phrases_avoid_what_is_held_out(poster_assets: Path, lists: Path, monkeypatch):
    spoken = (("the", "abalone", "bar"), ("a", "lamp"))
    source = phrases.Words(("abalone", "lamp"), spoken, ("春风", "天空"), ("春风",))
    held = phrases.held_out(lists)
    monkeypatch.setattr(phrases, "held_out", lambda: held)
    shares = random_posters.default_table()["phrases"]
    rng = np.random.default_rng(0)
    for _ in range(500):
        assert not held.contains(
            phrases.phrase(
                rng,
                {
                    **shares,
                    "letters": 0,
                    "mixed": 0,
                    "chinese": shares["chinese"] + shares["letters"] + shares["mixed"],
                },
                source,
            )
        )


def test_every_character_is_drawn_often(table: dict, poster_assets: Path):
    rng = np.random.default_rng(5)
    source = phrases.words(poster_assets)
    count = Counter()
    for _ in range(12000):
        count.update(phrases.phrase(rng, table["phrases"], source))
    missing = [letter for letter in LETTERS if not count[letter]]
    assert not missing
    assert np.quantile([count[c] for c in CHARACTERS], 0.05) >= 5
    assert min(count[letter] for letter in LATIN) >= 60


def test_english_phrases_have_mostly_several_short_words(table: dict, poster_assets: Path):
    rng = np.random.default_rng(8)
    source = phrases.words(poster_assets)
    found = [phrases.phrase(rng, {"english": 1.0}, source) for _ in range(4000)]
    counts = Counter(min(len(text.split()), 6) for text in found)
    assert sum(counts[n] for n in (2, 3, 4, 5)) / len(found) > 0.65
    assert all(counts[n] / len(found) > share for n, share in ((3, 0.15), (4, 0.08), (5, 0.05)))
    several = [text for text in found if len(re.findall(r"[A-Za-z'’]+", text)) > 1]
    words = [word.strip("!?.,:;") for text in several for word in text.split()]
    assert max(len(word.replace("’", "'").split("'")[0]) for word in words) <= 11
    assert np.mean([len(word) <= 9 for word in words]) > 0.98
    styles = Counter(
        "upper" if text.isupper() else "title" if text.istitle() else
        "lower" if text.islower() else "sentence" if text[1:].islower() else "other"
        for text in found if " " in text
    )  # fmt: skip
    assert all(styles[name] > 0.03 * len(found) for name in ("upper", "title", "lower", "sentence"))
    assert 0.08 < np.mean([text[-1] in "!?.,:;" for text in found]) < 0.25


def test_spoken_phrases_are_parts_of_sentences(tmp_path: Path):
    (tmp_path / "distractors").mkdir()
    (tmp_path / "distractors" / "sentences.txt").write_text("The lamp, isn't it old? No 7 here\n")
    for name in ("english", "chinese"):
        (tmp_path / f"{name}.txt").write_text("")
    source = phrases.words(tmp_path)
    assert source.spoken == (("the", "lamp"), ("isn't", "it", "old"), ("no",), ("here",))
    rng = np.random.default_rng(4)
    found = [phrases.phrase(rng, {"spoken": 1.0}, source) for _ in range(300)]
    words = [re.findall(r"[a-z']+", text.lower().replace("’", "'")) for text in found]
    assert all(any(" ".join(w) in " ".join(part) for part in source.spoken) for w in words)
    assert {len(w) for w in words} == {1, 2, 3}
    assert sum(text.islower() for text in found) > 0.3 * len(found)


def test_half_of_the_phrases_of_several_words_break_into_lines(table: dict, poster_assets: Path):
    rng = np.random.default_rng(9)
    lines = Counter()
    for _ in range(1500):
        poster = random_posters.sample(rng, table, (256, 256))
        layout = set_lines(poster)
        for phrase, block in zip(poster.phrases, layout.blocks, strict=True):
            if phrase.text.isascii() and " " in phrase.text:
                lines[len(block.lines)] += 1
    assert (lines[2] + lines[3]) / lines.total() > 0.6
    assert lines[3] / lines.total() > 0.1


def test_chinese_phrases_have_one_to_eight_characters_some_doubled(poster_assets: Path):
    rng = np.random.default_rng(10)
    source = phrases.words(poster_assets)
    found = [phrases.phrase(rng, {"chinese": 1.0}, source) for _ in range(4000)]
    lengths = Counter(len(text.replace(" ", "").strip("!?")) for text in found)
    assert set(lengths) == set(range(1, 9))
    assert min(lengths.values()) > 0.01 * len(found)
    for form in (r"(.)\1.", r"(.)(.)\1\2", r"(.)\1(.)\2"):
        assert sum(bool(re.fullmatch(form, text.replace(" ", ""))) for text in found) > 10
    mixed = [phrases.phrase(rng, {"mixed": 1.0}, source) for _ in range(1000)]
    both = [re.fullmatch(r"[^\u4e00-\u9fff]+[\u4e00-\u9fff]+[^\u4e00-\u9fff]+", t) for t in mixed]
    assert sum(map(bool, both)) > 50


def test_shares_of_random_posters(table: dict):
    for name in ("phrases", "families", "surfaces", "positions"):
        assert sum(table[name].values()) == pytest.approx(1)
    assert set(table["families"]) == set(FAMILIES)
    assert set(table["surfaces"]) == set(SURFACES)
    assert sum(entry["share"] for entry in table["sizes"]) == pytest.approx(1)
    rng = np.random.default_rng(6)
    made = [random_posters.sample(rng, table, (256, 256)) for _ in range(1500)]
    empty = sum(not poster.phrases for poster in made) / len(made)
    assert 0.07 < empty < 0.14
    count = Counter(poster.surface for poster in made)
    assert all(count[surface] >= 15 for surface in SURFACES)
    assert all(poster.prompt == "" for poster in made)
    accents = [p for p in made if p.accent]
    assert all(p.accent in random_posters.accents(p.ground) for p in accents)


def test_dress_keeps_the_phrases_and_says_no_to_what_does_not_fit():
    rng = np.random.default_rng(7)
    wanted = (Phrase("OPEN", "top", "small"), Phrase("夜市", "bottom"))
    poster = random_posters.dress(rng, wanted, (320, 192))
    assert poster is not None
    assert poster.phrases == wanted
    assert (poster.width, poster.height) == (320, 192)
    assert random_posters.dress(rng, (Phrase("abcdefghknopqrstu"),), (256, 256)) is None
