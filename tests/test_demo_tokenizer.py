"""The demo model's tokenizer: its form, what is one token, and the lengths of prompts."""

from __future__ import annotations

import hashlib
import json
import string

import numpy as np
import pytest
import tomllib

from demo_prompts import described
from posters.families import CHARACTERS, LATIN
from posters.poster import Poster
from prompts.quotes import QUOTES
from prompts.tokenizer import LISTS, Encoder, build, characters, frequent_words, templated


@pytest.fixture(scope="module")
def samples() -> list[Poster]:
    """Posters with their prompts."""
    return described(1000)


@pytest.fixture(scope="module")
def tokenizer():
    return build()


def pieces(tokenizer, text: str) -> list[str]:
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return [tokenizer.decode([i]) for i in ids]


def test_the_template_has_28_fixed_positions(tokenizer):
    text = templated(tokenizer, "a red poster")
    before, _ = text.split(": a red poster")
    assert len(tokenizer.backend_tokenizer.encode(before, add_special_tokens=False).ids) == 28


def test_every_prompt_survives_the_tokenizer(tokenizer, samples):
    for poster in samples[:500]:
        ids = tokenizer.backend_tokenizer.encode(poster.prompt, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == poster.prompt


def test_the_vocabulary_is_small_and_the_same_every_time(tokenizer):
    assert len(tokenizer) < 5000
    assert build().get_vocab() == tokenizer.get_vocab()


def test_the_vocabulary_is_that_of_the_checkpoint(tokenizer):
    """A checkpoint's embedding table has a row per token, so no id and no merge may change."""
    assert len(tokenizer) == 4929
    rows = json.dumps(sorted(tokenizer.get_vocab().items())).encode()
    assert hashlib.sha256(rows).hexdigest().startswith("d44cdfefd7d64b8d")
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = json.dumps(model["merges"]).encode()
    assert hashlib.sha256(merges).hexdigest().startswith("3dbd3fe01709521a")


def test_no_more_than_a_twentieth_of_the_prompts_is_too_long(tokenizer, samples):
    positions = tomllib.loads((LISTS.parent / "config.toml").read_text("utf-8"))
    encode = Encoder(tokenizer, positions["posters"]["text_tokens"])
    assert np.mean([encode(poster.prompt) is None for poster in samples]) < 0.05


def test_letters_are_single_tokens_inside_quotes(tokenizer):
    for left, right, *_ in QUOTES:
        if left.endswith(" "):
            continue
        for text in ("SUMMER", "Open", "hello", "background", "24"):
            inside = pieces(tokenizer, f"a sign {left}{text}{right}")
            assert "".join(inside).endswith(text + right)
            assert [p for p in inside if p in text][-len(text) :] == list(text), inside
    # Upper-case and later words too, unless they are in lower case.
    assert pieces(tokenizer, '"BIG RED Sale"')[1:-1] == [
        "B",
        "I",
        "G",
        " ",
        "R",
        "E",
        "D",
        " ",
        "S",
        "a",
        "l",
        "e",
    ]


def test_words_and_characters_are_single_tokens(tokenizer):
    for word in ("sign", "poster", "letters", "background", "red", "with", "please", "bold"):
        assert pieces(tokenizer, f"a {word}")[-1] == f" {word}"
    assert len(frequent_words()) >= 950
    assert set(CHARACTERS) <= set(characters())
    for char in CHARACTERS:
        assert pieces(tokenizer, f"“{char}”") == ["“", char, "”"]
    for char in LATIN:
        if char not in "’€":
            assert pieces(tokenizer, char) == [char]
    assert string.digits == "".join(pieces(tokenizer, string.digits))


def test_prompts_fit_their_positions(tokenizer, samples):
    encode = Encoder(tokenizer, 228)
    found = [encode(poster.prompt) for poster in samples]
    lengths = [999 if row is None else row[1] - 28 for row in found]
    assert np.median(lengths) < 80
    assert np.percentile(lengths, 95) < 128
    assert np.mean(np.array(lengths) > 128) < 0.03
    ids, length = encode(samples[0].prompt)
    assert ids.shape == (256,) and ids.dtype == np.int16
    assert (ids[length:] == tokenizer.pad_token_id).all()
    assert Encoder(tokenizer, 20)("a very long prompt about nothing in particular") is None
