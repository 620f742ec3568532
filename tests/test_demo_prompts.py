"""The demo model's training prompts: names, grammar, quotes, defaults, and the tokenizer."""

from __future__ import annotations

import gzip
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo_prompts import described, random_poster
from posters import random_posters
from posters.colors import COLORS
from posters.poster import FAMILIES, POSITIONS, SIZES, SURFACES, Phrase, Poster
from prompts import color_names, family_names, scene_names
from prompts.defaults import GROUNDS, default_ink
from prompts.describe import RESERVED, Describer, describe, reserved
from prompts.distractors import FOLDER, gather, is_clean
from prompts.mistakes import mistaken
from prompts.quotes import MARKS, QUOTES


@pytest.fixture(scope="module")
def samples() -> list[Poster]:
    """Posters with their prompts."""
    return described(3000)


# Names


@pytest.mark.parametrize("names", [color_names.ENGLISH_NAMES, color_names.CHINESE_NAMES])
def test_every_color_has_names_of_its_own(names):
    assert set(names) == set(COLORS)
    assert all(names.values())
    counts = Counter(name for found in names.values() for name in found)
    assert [name for name, count in counts.items() if count > 1] == []


def test_a_color_is_its_own_name_in_english():
    for key in COLORS:
        assert key in color_names.ENGLISH_NAMES[key]
    shades = {name: key for key, names in color_names.ENGLISH_NAMES.items() for name in names}
    assert shades["crimson"] == "dark red"
    assert shades["deep red"] == "dark red"
    assert shades["forest-green"] == "forest green"
    assert shades["grey"] == "gray"


def test_every_family_has_names_of_its_own():
    for table in (family_names.KINDS, family_names.FONTS, family_names.CHINESE):
        assert set(table) == set(FAMILIES)
        assert all(len(names) >= 5 for names in table.values())
        counts = Counter(name.lower() for names in table.values() for name in names)
        assert [name for name, count in counts.items() if count > 1] == []
    known = {
        name
        for table in (family_names.FONTS, family_names.KINDS)
        for n in table.values()
        for name in n
    }
    assert not known & {*family_names.UNKNOWN_FONTS, *family_names.UNKNOWN_KINDS}
    assert Poster("", ()).family == family_names.FAMILY


def test_every_surface_position_and_size_has_names_in_both_languages():
    for table in (
        scene_names.GROUNDS, scene_names.ACCENTED, scene_names.CHINESE_GROUNDS,
        scene_names.CHINESE_ACCENTED,
    ):  # fmt: skip
        assert set(table) == set(SURFACES)
        for surface, names in table.items():
            assert all("{g}" in n or "{a}" in n or surface == "banner" for n in names), surface
    for table in (scene_names.POSITIONS, scene_names.POSITION_WORDS, scene_names.CHINESE_POSITIONS):
        assert set(table) == set(POSITIONS)
    for table in (scene_names.SIZES, scene_names.CHINESE_SIZES):
        assert set(table) == set(SIZES)


# Prompts


def quoted_parts(prompt: str, texts: list[str]) -> tuple[list[str], str]:
    """The phrases that stand in quotes in the prompt, and the prompt without them."""
    found, rest = [], prompt
    for text in texts:
        for left, right, *_ in QUOTES:
            for form in {text, text.replace("'", "’"), text.replace("’", "'")}:
                if left + form + right in rest:
                    found.append(text)
                    rest = rest.replace(left + form + right, " ", 1)
                    break
            else:
                continue
            break
    return found, rest


def test_the_quoted_words_are_those_of_the_poster_and_nothing_else_is_quoted(samples):
    unquoted = repeated = 0
    for poster in samples:
        texts = [phrase.text for phrase in poster.phrases]
        found, rest = quoted_parts(poster.prompt, texts)
        if len(texts) == 1:  # which some prompts quote a second time
            again, rest = quoted_parts(rest, texts)
            repeated += len(again)
        assert not set(rest) & MARKS, poster.prompt
        assert not re.search(r"(?<!\w)['’]|['’](?!\w)", rest.replace("''", "")), poster.prompt
        if len(found) < len(texts):
            unquoted += 1
            assert found == []
            for text in texts:
                assert re.search(rf"[:：] ?{re.escape(text)}(?=[,.，]|$|\n)", poster.prompt)
    assert 0 < unquoted < 0.05 * len(samples)
    assert 0 < repeated < 0.05 * len(samples)


def test_every_kind_of_quote_occurs(samples):
    for left, right, *_ in QUOTES:
        assert any(f"{left}GREEN{right}" in poster.prompt for poster in samples), left


def colors_in(prompt: str, key: str) -> bool:
    """Whether the prompt has a name of the colour in either language, or its plain name misspelt
    by one slip."""
    lower = prompt.lower()
    names = (*color_names.ENGLISH_NAMES[key], *color_names.CHINESE_NAMES[key])
    short = color_names.CHINESE_SHORT[key]
    return any(name in lower for name in names) or f"{short}底" in lower or f"{short}字" in lower


def test_colors_that_are_not_the_defaults_are_named(samples):
    missing = 0
    for poster in samples:
        lower = poster.prompt.lower()
        pastel = poster.surface == "gradient" and re.search("pastel|柔和|马卡龙|粉彩|淡彩", lower)
        neon = poster.surface == "night" and re.search("neon|霓虹", lower)
        if poster.ground != GROUNDS[poster.surface] and not pastel:
            missing += not colors_in(lower, poster.ground)
        if poster.phrases and poster.ink != default_ink(poster) and not neon:
            missing += not colors_in(lower, poster.ink)
        if poster.accent:
            missing += not colors_in(lower, poster.accent)
    # A slip of the finger may hit the name of a colour.
    assert missing < 0.01 * len(samples)


def test_family_position_size_border_and_shadow_are_named(samples):
    places = {"top": "top|upper|上|顶", "bottom": "bottom|lower|下|底"}
    small = "small|tiny|little|fine-print|modest|miniature|小|细"
    missing = 0
    for poster in samples:
        lower = poster.prompt.lower()
        for phrase in poster.phrases:
            if phrase.position != "center":
                missing += not re.search(places[phrase.position], lower)
            if phrase.size == "small":
                missing += not re.search(small, lower)
        if poster.phrases and poster.family != family_names.FAMILY:
            names = (
                *family_names.KINDS[poster.family],
                *family_names.FONTS[poster.family],
                *family_names.CHINESE[poster.family],
            )
            missing += not any(name.lower() in lower for name in names)
        if poster.border:
            missing += not re.search("border|frame|outline|边框|画框", lower)
        if poster.shadow:
            missing += not re.search("shadow|阴影|投影", lower)
    assert missing < 0.01 * len(samples)


def test_defaults_are_often_left_unnamed(samples):
    plain = [p for p in samples if p.ground == "white" and p.surface == "plain"]
    assert plain
    unnamed = sum("white" not in p.prompt.lower() and "白" not in p.prompt for p in plain)
    assert 0.3 < unnamed / len(plain) < 0.8


def test_surfaces_are_named_and_never_by_a_distractor(samples):
    nouns = {
        "tote": "bag|tote|袋",
        "mug": r"mug|cup\b|杯",
        "brick": "brick(?!-red)|砖(?!红)",
        "wood": "wood|plank|timber|木",
        "stripes": "strip|条纹",
        "sunburst": "burst|rays|光芒|放射",
        "splash": "screen|启动|开屏|界面|屏幕",
    }  # fmt: skip
    for surface, pattern in nouns.items():
        with_it = [p for p in samples if p.surface == surface]
        assert with_it
        named = sum(bool(re.search(pattern, p.prompt.lower())) for p in with_it)
        assert named >= 0.97 * len(with_it), surface
    for surface in ("tote", "brick", "stripes", "sunburst"):
        others = [p for p in samples if p.surface != surface]
        assert not any(re.search(nouns[surface], p.prompt.lower()) for p in others), surface


def test_prompts_are_as_good_as_never_alike(samples):
    """Templates in the thousands: without words of the poster, prompts still differ."""
    texts = [p.prompt for p in samples if len(p.phrases) == 1 and p.surface == "plain"]
    assert len(set(texts)) > 0.99 * len(texts)


def test_posters_without_phrases_have_prompts_without_quotes(samples):
    bare = [p for p in samples if not p.phrases]
    assert len(bare) > 500
    assert all(p.prompt and not set(p.prompt) & MARKS for p in bare)
    assert all('""' not in p.prompt and "''" not in p.prompt for p in samples)


def test_both_languages_and_careless_spelling_occur(samples):
    chinese = [p for p in samples if re.search("[，。]|字|画", p.prompt)]
    assert 0.15 < len(chinese) / len(samples) < 0.55
    outside = [quoted_parts(p.prompt, [q.text for q in p.phrases])[1] for p in samples]
    letters = [re.sub(r"[^A-Za-z]", "", text) for text in outside]
    assert sum(len(text) > 9 and text.isupper() for text in letters) > 20
    assert sum(len(text) > 9 and text.islower() for text in letters) > 100


def test_a_prompt_depends_on_the_generator_and_the_poster_alone():
    poster = random_poster(np.random.default_rng(5))
    first, second = (describe(np.random.default_rng(6), poster) for _ in range(2))
    assert first == second
    assert describe(np.random.default_rng(6), replace(poster, prompt="x")) == first


def test_a_thousand_prompts_take_no_more_than_a_second_or_so():
    rng = np.random.default_rng(7)
    found = [random_poster(rng) for _ in range(300)]
    start = time.process_time()
    for poster in found:
        describe(rng, poster)
    assert time.process_time() - start < 300 / 800


# What is unnamed, wrong captions, texts


def test_simplified_posters_are_legible_and_often_have_the_default_colors():
    rng = np.random.default_rng(8)
    found = [random_poster(rng) for _ in range(1000)]
    for poster in found:
        assert poster.ink in random_posters.inks(poster.surface, poster.ground, poster.accent)
    assert 0.2 < np.mean([p.ground == GROUNDS[p.surface] for p in found]) < 0.4
    assert 0.2 < np.mean([p.ink == default_ink(p) for p in found]) < 0.5


def test_default_colors():
    assert GROUNDS["plain"] == "white"
    assert default_ink(Poster("", ())) == "black"
    assert default_ink(Poster("", (), ground="navy")) == "white"
    assert default_ink(Poster("", (), ground="white", accent="black", surface="banner")) == "white"
    for surface, ground in GROUNDS.items():
        poster = Poster("", (), ground=ground, surface=surface)
        assert default_ink(poster) in random_posters.inks(surface, ground)


def test_a_mistaken_poster_differs_in_one_thing():
    rng = np.random.default_rng(9)
    changes = Counter()
    for _ in range(500):
        poster = random_poster(rng)
        wrong = mistaken(rng, poster)
        changed = [
            name
            for name in ("ink", "ground", "phrases")
            if getattr(wrong, name) != getattr(poster, name)
        ]
        assert len(changed) <= 1
        changes.update(changed)
        for old, new in zip(poster.phrases, wrong.phrases, strict=True):
            assert replace(new, text=old.text) == old
            assert abs(len(new.text) - len(old.text)) <= 1
            assert new.text and new.text == new.text.strip() and "  " not in new.text
    assert set(changes) == {"ink", "ground", "phrases"}
    assert changes["phrases"] > changes["ink"]


def test_texts_are_read_from_the_assets(tmp_path: Path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "sentences.txt").write_text("the zyzzyva is a weevil\n", "utf-8")
    rng = np.random.default_rng(10)
    describer = Describer(tmp_path)
    prompts = [describer(rng, random_poster(rng)).lower() for _ in range(300)]
    assert any("the zyzzyva is a weevil" in prompt for prompt in prompts)


def fake_packages(root: Path) -> None:
    """The files of the Debian packages that are read, with a few entries."""

    def write(name: str, text: str) -> None:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())

    gloss = '| being able; "able to swim far"; "she reads the red book"; "to run"\n'
    for part in ("noun", "verb", "adj", "adv"):
        write(f"share/wordnet/data.{part}", f"  1 a licence\n00001740 00 a 01 able 0 000 {gloss}")
        write(f"share/wordnet/index.{part}", f"{part}ish a 2 1 & 2 1 00001740 00009046\n"
              f"rare{part} a 1 0 1 0 00001740\nred a 1 0 1 5 00001740\n")  # fmt: skip
    cookies = 'A day for firm\ndecisions!!!\n%\nHe said "no" to me.\n%\nToo short\n'
    write("share/games/fortunes/fortunes", cookies)
    poem = "\x1b[32m《出塞》\x1b[m\n羌笛何须怨杨柳，春风不度玉门关。\n黄河远上白云间，一片孤城。\n"
    write("share/games/fortunes/tang300", poem)
    manual = "前言\n\n这是一个很好的例子，你可以\n   试一试。请看下面的文字。\n"
    write("share/debian-reference/debian-reference.zh-cn.txt.gz", manual)
    write("share/dict/american-english", "apple\nZoë\nit\nred\n")
    write(
        "lib/python3/dist-packages/jieba/dict.txt",
        "大海 9 n\n红色 9 n\n散步 5 v\nB超 3 n\n快 1 a\n",
    )


def test_texts_are_gathered_from_the_packages(tmp_path: Path):
    fake_packages(tmp_path / "usr")
    gather(tmp_path / "assets", tmp_path / "usr")
    found = {
        file.name: file.read_text("utf-8").split("\n")[:-1]
        for file in (tmp_path / "assets" / FOLDER).iterdir()
    }
    assert found["sentences.txt"] == ["A day for firm decisions!!!", "able to swim far"]
    assert found["noun.txt"] == ["nounish"]
    assert found["words.txt"] == ["apple"]
    assert found["sentences_zh.txt"] == [
        "羌笛何须怨杨柳，春风不度玉门关。",
        "这是一个很好的例子，你可以试一试。",
    ]
    assert found["n_zh.txt"] == ["大海"]
    assert found["v_zh.txt"] == ["散步"]


def test_gathered_texts_say_nothing_about_posters():
    for text in (
        "she wore a red hat",
        "a wooden spoon",
        "he said so",
        "a dark night",
        'he "quoted"',
    ):
        assert not is_clean(text), text
    for text in ("she can't swim", "a bridge over the river", "reddened cheeks"):
        assert is_clean(text), text


# Held-out wording


SEEDS = (
    "Grocery tote bag, bold text", "recycled-paper texture", "night-market sign, traditional",
    "in neon, wet street reflections", "wet street reflections", "Summer clearance poster",
    "in red bold Helvetica, yellow burst", "Mobile splash screen, centered Chinese",
    "Panda holding bamboo", "A music festival poster", "in bold grotesk, pastel gradient",
)  # fmt: skip


def test_no_held_out_wording_is_trained(samples):
    everything = "\n".join(poster.prompt for poster in samples).lower()
    for seed in SEEDS:
        assert seed.lower() not in everything, seed


def test_prompts_of_the_evaluation_are_never_trained():
    poster = Poster("", (Phrase("OPEN"),))
    rng = np.random.default_rng(11)
    prompts = {describe(rng, poster) for _ in range(4000)}
    assert any(re.match('"OPEN" [a-z -]+$', prompt) for prompt in prompts)
    assert not {RESERVED[0], "A sign that says “OPEN”", "a sign that says 'OPEN'"} & prompts
    assert "a sign that says open" in reserved()
