"""The demo model's prompts: which colour belongs to the letters, names of colours, frames, and text
that is mentioned but not drawn."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from PIL import ImageColor

from demo_prompts import described
from posters.colors import COLORS, lab
from posters.poster import Phrase, Poster
from prompt_skeletons import Nothing, effective, skeletons
from prompts import (
    chinese_color_roles,
    chinese_frames,
    color_names,
    color_roles,
    color_synonyms,
    english_grammar,
    frames,
    mentions,
)
from prompts.chinese import chinese_prompt
from prompts.distractors import Distractors
from prompts.english_grammar import english_prompt
from prompts.pick import Pick

INK, GROUND = "crimson", "emerald"
HAN_INK, HAN_GROUND = "朱红色", "翠绿色"

# Roles


def roles_of(pattern: str) -> dict[str, str]:
    """Reads a pattern as people do. With two nouns and two colours, each half has a noun with its
    colour; where both nouns stand together, the first has the first colour. Without a noun for the
    ground, the preposition between both colours decides."""
    order = re.findall(r"\{([ignb])\}", pattern)
    assert sorted(order) == sorted(set(order)) and {"i", "g"} <= set(order), pattern
    if len(order) == 4:
        first, second = order[:2], order[2:]
        if set(first) <= {"n", "b"} or set(first) <= {"i", "g"}:
            first, second = zip(order[:2], order[2:], strict=True)
        pairs = [sorted(pair, key="nbig".index) for pair in (first, second)]
        assert all(pair[0] in "nb" and pair[1] in "ig" for pair in pairs), pattern
        return dict(pairs)
    if "n" in order:

        def distance(mark: str) -> int:
            ends = sorted(pattern.index("{" + name + "}") for name in ("n", mark))
            return ends[1] - ends[0] + 20 * len(re.findall("[,，]", pattern[slice(*ends)]))

        ink = min("ig", key=distance)
    elif written := re.search(r"\{([ig])\}写", pattern):
        ink = written[1]
    elif lying := re.search(r"\bon (?:a )?\{([ig])\} in", pattern):
        ink = "ig".replace(lying[1], "")
    else:
        first, word, second = re.search(
            r"\{([ig])\}[ -](?:print )?(on|over|against|under|behind|beneath)[ -](?:a )?\{([ig])\}",
            pattern,
        ).groups()
        ink = first if word in ("on", "over", "against") else second
    return {"n": ink, "b": "ig".replace(ink, "")}


@pytest.mark.parametrize(
    "pattern",
    [
        *color_roles.BOTH,
        *color_roles.BOTH_SENTENCES,
        *color_roles.BARE,
        *chinese_color_roles.BOTH,
        *chinese_color_roles.BARE,
    ],
)
def test_both_roles_can_be_read_back_from_a_pattern(pattern):
    assert roles_of(pattern) == {"n": "i", "b": "g"}, pattern


@pytest.mark.parametrize("module", [color_roles, chinese_color_roles])
def test_a_pattern_for_one_role_has_one_noun_or_says_what_the_rest_is(module):
    for pattern in (*module.CLAUSES, *module.SENTENCES):
        assert pattern.count("{n}") == 1 and pattern.lower().count("{c}") == 1, pattern
    bare = (*module.GROUND_CLAUSES, *module.INK_CLAUSES, *getattr(module, "GROUND_SENTENCES", ()))
    for pattern in bare:
        assert "{n}" not in pattern and pattern.count("{c}") == 1
    assert not set(module.GROUND_CLAUSES) & set(module.INK_CLAUSES)
    for pattern in getattr(module, "SHORT", ()):
        assert re.search("底{g}|{g}底", pattern) and re.search("字{i}|{i}字", pattern)


def test_nouns_belong_to_one_role():
    for module in (color_roles, chinese_color_roles):
        letters = {name for group in ("SINGULAR", "PLURAL", "ALONE", "LETTERS")
                   for name in getattr(module, group, ())}  # fmt: skip
        grounds = {name for group in ("GROUNDS", "SURFACES", "OBJECTS")
                   for name in getattr(module, group, ())}  # fmt: skip
        assert len(letters) >= 15 and len(grounds) >= 20
        assert not letters & grounds


def statements(seed: int, ink: str, ground: str, chinese: bool, sentences: bool) -> list[str]:
    pick = Pick(np.random.default_rng(seed))
    if chinese:
        return chinese_color_roles.statements(pick, ink, ground)
    return color_roles.statements(pick, ink, ground, sentences=sentences)


def _any_article(text: str) -> str:
    return re.sub(r"\ban?\b", "a", text)


@pytest.mark.parametrize(("chinese", "sentences"), [(False, False), (False, True), (True, False)])
def test_statements_name_each_color_once_and_by_its_role(chinese, sentences):
    ink, ground = (HAN_INK, HAN_GROUND) if chinese else (INK, GROUND)
    distinct = set()
    for seed in range(3000):
        text = " # ".join(statements(seed, ink, ground, chinese, sentences))
        swapped = " # ".join(statements(seed, ground, ink, chinese, sentences))
        assert text.lower().count(ink) == text.lower().count(ground) == 1, text
        # The same statement about the other poster has the colours exchanged.
        marked = text.lower().replace(ink, "0").replace(ground, ink).replace("0", ground)
        assert _any_article(marked) == _any_article(swapped.lower())
        distinct.add(text)
    assert len(distinct) > 1700


def test_articles_fit_their_colors():
    for seed in range(2000):
        for sentences in (False, True):
            text = " ".join(statements(seed, "orange", "crimson", False, sentences))
            assert not re.search(r"\ba orange|\ban crimson|[{}]", text), text


@pytest.mark.parametrize("chinese", [False, True])
def test_every_pair_of_colors_is_named_in_whole_prompts(chinese):
    pick = Pick(np.random.default_rng(3))
    write, names = (
        (chinese_prompt, color_names.CHINESE_NAMES)
        if chinese
        else (english_prompt, color_names.ENGLISH_NAMES)
    )
    texts, missing, pairs = Nothing(), 0, list(product(COLORS, COLORS))[:: 1 if not chinese else 2]
    for ink, ground in pairs:
        poster = Poster("", (Phrase("QX"),), ink=ink, ground=ground)
        prompt = write(pick, poster, texts).lower()
        for key in {ink, ground} - {"black", "white"}:
            short = color_names.CHINESE_SHORT[key]
            known = any(name in prompt for name in names[key]) or short in prompt
            missing += not known
    assert missing < 0.02 * len(pairs)


# Names of colours


def test_synonyms_stand_for_the_nearest_color():
    keys = list(COLORS)
    palette = lab(np.array([COLORS[key] for key in keys]))
    tables = ({**color_synonyms.CSS, **color_synonyms.XKCD}, color_synonyms.CHINESE)
    known = (color_synonyms.ENGLISH_SYNONYMS, color_synonyms.CHINESE_SYNONYMS)
    for table, found in zip(tables, known, strict=True):
        for name, value in table.items():
            distance = np.linalg.norm(palette - lab(np.array(color_synonyms.rgb(value))), axis=1)
            assert found[name] == keys[int(distance.argmin())], name
            assert distance.min() < 25, (name, distance.min())


def test_values_of_css_names_are_those_of_the_standard():
    for name, value in color_synonyms.CSS.items():
        plain = name.replace(" ", "").replace("-", "")
        assert ImageColor.getrgb(plain) == color_synonyms.rgb(value), name


def test_every_day_names_are_known():
    english = {name: key for key, names in color_names.ENGLISH_NAMES.items() for name in names}
    chinese = {name: key for key, names in color_names.CHINESE_NAMES.items() for name in names}
    expected = {
        "tomato": "red", "violet": "violet", "ivory": "cream", "charcoal": "dark gray",
        "scarlet": "red", "moss": "olive", "mocha": "tan", "periwinkle": "violet",
        "cherry": "red", "marigold": "yellow", "pine": "forest green", "cerulean": "sky blue",
    }  # fmt: skip
    assert {name: english[name] for name in expected} == expected
    assert chinese["番茄红色"] == "red" and chinese["牛油果绿色"] == "lime"
    assert all(len(names) >= 2 for names in color_names.ENGLISH_NAMES.values())


# Frames


@pytest.mark.parametrize(("chinese", "before"), [(False, 19_700), (True, 28_800)])
def test_there_are_more_than_three_times_as_many_skeletons_as_before(chinese, before):
    """`before` is the effective number for 8000 prompts when there were no frames and no
    statements of roles."""
    found = skeletons(8000, chinese)
    assert len(found) > 7800
    assert effective(found) > 3 * before


@pytest.mark.parametrize("module", [frames, chinese_frames])
def test_every_frame_holds_all_parts(module):
    pick = Pick(np.random.default_rng(4))
    parts = frames.Parts("THING", ["“A1”", "“B2”"], ["FACT3"], ["FACT3"], ["EXTRA4"])
    for frame in module.FRAMES:
        for _ in range(40):
            text = frame(pick, parts).upper()
            for piece in ("THING", "“A1”", "“B2”", "FACT3", "EXTRA4"):
                assert text.count(piece) == 1 or piece == "THING", (frame.__name__, text)
            assert "THING" in text
            assert text.index("A1") < text.index("B2")


def test_roles_frames_and_mentions_are_used_in_whole_prompts():
    prompts = [poster.prompt for poster in described(1500)]
    lower = "\n".join(prompts).lower()
    for piece in ("typography", "backdrop", "canvas", "the rest", "背景", "底色", "其余", "thanks"):
        assert piece in lower, piece
    starts = [text.partition("{w}")[0] for text in mentions.MENTIONS if len(text) > 12]
    starts += [text.partition("{w}")[0] for text in mentions.CHINESE_MENTIONS]
    pieces = [*filter(lambda s: len(s) > 3, starts), *mentions.PLAIN, *mentions.CHINESE_PLAIN]
    share = np.mean([any(piece.lower() in p.lower() for piece in pieces) for p in prompts])
    assert 0.03 < share < 0.2


def test_mentions_have_no_quotes():
    pick, texts = Pick(np.random.default_rng(5)), Distractors()
    for _ in range(500):
        for text in (mentions.mention(pick, texts), mentions.chinese_mention(pick, texts)):
            assert not re.search("[\"“”「」『』«»]|(?<!\\w)'|'(?!\\w)|[{}]", text), text


def test_constants_are_shares():
    assert 0 < english_grammar.MENTIONS < 0.3 and 0 < english_grammar.ROLES < 1
