"""The judging of the demo model: readers, comparison, colours, held-out lists and the report."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from judging import (
    evaluate,
    free_wording,
    lists,
    make_lists,
    ppocr,
    readers,
    report,
    sources,
)  # fmt: skip
from judging.comparison import compare
from judging.lines import Line, reading_order
from judging.picture_colors import dominant, grounds_of, ink_of
from judging.scorer import Scorer, judge
from posters import phrases
from posters.colors import COLORS, contrast
from posters.families import CHARACTERS
from posters.poster import FAMILIES, POSITIONS, SIZES, SURFACES, Phrase, Poster
from posters.typesetting import LETTERS, set_lines

FONTS = Path("/usr/share/fonts")
DEJAVU = FONTS / "truetype/dejavu"
NOTO = FONTS / "opentype/noto"
COUNTS = {
    "free": 200, "publication": 50, "english": 200, "chinese": 100, "thousand": 100,
    "two_lines": 60, "three_lines": 40, "new_sizes": 60, "no_text": 100, "colors": 100,
    "text_heavy": 100,
}  # fmt: skip


def drawn(
    text: str,
    font: Path = DEJAVU / "DejaVuSans-Bold.ttf",
    size: int = 40,
    ink: str = "white",
    ground: str = "blue",
    side: tuple[int, int] = (256, 256),
) -> np.ndarray:
    """A picture with a text in its middle, in a font of Debian."""
    if not font.exists():
        pytest.skip(f"{font} is not installed")
    image = Image.new("RGB", side, COLORS[ground])
    ImageDraw.Draw(image).multiline_text(
        (side[0] / 2, side[1] / 2), text, font=ImageFont.truetype(str(font), size),
        fill=COLORS[ink], anchor="mm", align="center",
    )  # fmt: skip
    return np.asarray(image)


@cache
def reader(name: str) -> readers.Reader:
    if not readers.available(name):
        pytest.skip(f"{name} is not installed")
    return readers.load(name)


def asked(*texts: str, **fields: object) -> Poster:
    return Poster("", tuple(Phrase(text) for text in texts), **fields)


READ = [
    ("SUMMER", DEJAVU / "DejaVuSans-Bold.ttf", 48),
    ("Fiord", DEJAVU / "DejaVuSerif-Bold.ttf", 64),
    ("hello world", DEJAVU / "DejaVuSansMono-Bold.ttf", 32),
    ("70 % OFF", DEJAVU / "DejaVuSans-Bold.ttf", 44),
    ("extra\nlong\nwords", DEJAVU / "DejaVuSans.ttf", 40),
    ("新年快乐", NOTO / "NotoSansCJK-Bold.ttc", 56),
    ("山中来信", NOTO / "NotoSerifCJK-Bold.ttc", 40),
]


@pytest.mark.parametrize(("text", "font", "size"), READ, ids=[text for text, _, _ in READ])
def test_paddle_reads_perfect_text(text: str, font: Path, size: int) -> None:
    scores = judge(reader("paddle"), drawn(text, font, size), asked(" ".join(text.split())))
    assert scores.right and scores.characters == 1, scores


@pytest.mark.parametrize(("text", "font", "size"), READ[:5], ids=[text for text, _, _ in READ[:5]])
def test_tesseract_reads_perfect_text(text: str, font: Path, size: int) -> None:
    scores = judge(reader("tesseract"), drawn(text, font, size), asked(" ".join(text.split())))
    assert scores.characters >= 0.9, scores


def test_letters_that_are_16_pixels_wide_are_read() -> None:
    picture = drawn("Monday am I", size=20)
    assert judge(reader("paddle"), picture, asked("Monday am I")).right


def test_other_sizes_are_read() -> None:
    for side, text in (((128, 512), "OPEN"), ((512, 128), "KITCHEN SALE")):
        picture = drawn(text, size=32, side=side)
        assert judge(reader("paddle"), picture, asked(text)).right, side


@pytest.mark.parametrize("name", readers.READERS)
def test_nothing_is_read_where_nothing_is(name: str) -> None:
    gradient = np.linspace(60, 220, 256, dtype=np.uint8)[:, None, None]
    for picture in (np.broadcast_to(gradient, (256, 256, 3)).copy(), drawn("")):
        scores = judge(reader(name), picture, Poster("", ()))
        assert scores.right and scores.ink, scores


def test_a_wrong_letter_is_a_wrong_word_and_no_other_text() -> None:
    scores = judge(reader("paddle"), drawn("SUMNER\nSALE", size=48), asked("SUMMER SALE"))
    assert (scores.words, scores.extra) == (0.5, 0)
    assert scores.characters == pytest.approx(0.9)


def test_other_text_in_a_picture_is_counted() -> None:
    scores = judge(reader("paddle"), drawn("OPEN\nWXYZ", size=48), asked("OPEN"))
    assert (scores.words, scores.extra, scores.right) == (1, 1, False)


COMPARED = [
    (["SALE"], ["sale"], 1, 1, 0),
    (["SALE"], ["SALE NOW"], 1, 1, 1),
    (["SALE"], ["SALE", "今天"], 1, 1, 1),
    (["CAT"], ["CATALOG"], 0, 0, 0),
    (["SALE NOW"], ["SALENOW"], 1, 1, 0),
    (["Dyeing"], ["Dy e in g"], 1, 1, 0),
    (["70 % OFF"], ["70%", "OFF"], 1, 1, 0),
    (["OPEN"], ["OPFN"], 0, 0.75, 0),
    (["OPEN"], [], 0, 0, 0),
    (["OPEN"], ["XQZ WV"], 0, 0, 1),
    (["TOP", "BOTTOM"], ["BOTTOM", "TOP"], 1, 1, 0),
    (["I can't"], ["I can’t"], 1, 1, 0),
    (["NOW!"], ["NOW！"], 1, 1, 0),
    (["O2"], ["02"], 1, 1, 0),
    (["Il"], ["II"], 1, 1, 0),
    (["LIE"], ["IIE"], 0.0, 2 / 3, 0),
    ([], ["·", "--"], 1, 1, 0),
    ([], ["text"], 1, 1, 1),
    (["ADEPT"], ["ADÉPT"], 1, 1, 0),
    (["新年快乐"], ["新年快东"], 0, 0.75, 0),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "found", "words", "characters", "extra"), COMPARED)
def test_comparison(wanted, found, words, characters, extra) -> None:
    result = compare(wanted, found)
    assert (result.words, result.extra) == (words, extra), result
    assert result.characters == pytest.approx(characters)


def test_lines_are_in_reading_order() -> None:
    lines = [
        Line("c", (10, 100, 60, 140)),
        Line("b", (130, 12, 200, 50)),
        Line("a", (5, 10, 99, 52)),
    ]
    assert [line.text for line in reading_order(lines)] == ["a", "b", "c"]


def test_connected_regions() -> None:
    mask = np.zeros((8, 12), bool)
    mask[1:3, 1:4] = mask[3, 4] = True  # touches at a corner
    mask[1:6, 8] = mask[5, 6:9] = mask[2:6, 6] = True  # a U
    assert sorted(ppocr.regions(mask)) == [(1, 1, 5, 4), (6, 1, 9, 6)]
    assert ppocr.regions(np.zeros((4, 4), bool)) == []


def test_the_dominant_colour() -> None:
    noise = np.random.default_rng(0).normal(0, 3, (1000, 3))
    pixels = np.concatenate([noise[:700] + np.array((40, 90, 210)), noise[700:] + 250])
    color, near = dominant(np.clip(pixels, 0, 255))
    assert np.abs(color - (40, 90, 210)).max() < 2
    assert near.mean() == pytest.approx(0.7, abs=0.02)


def test_colours_that_can_be_read_are_judged_right() -> None:
    pairs = [(i, g) for i in COLORS for g in COLORS if contrast(i, g) >= 3][::13]
    right = 0
    for ink, ground in pairs:
        picture = drawn("SALE", size=64, ink=ink, ground=ground)
        box = (30, 95, 226, 161)
        right += ink_of(picture, [box]) == ink and grounds_of(picture, [box]) == {ground}
    assert right == len(pairs)


def test_the_second_tone_of_stripes_is_no_ink() -> None:
    picture = drawn("SALE", size=64, ink="black", ground="yellow").copy()
    stripes = np.arange(256) // 16 % 2 == 1
    yellow = (picture == COLORS["yellow"]).all(-1)
    picture[yellow & stripes] = COLORS["white"]
    box = (30, 95, 226, 161)
    assert ink_of(picture, [box]) == "black"
    assert {"yellow", "white"} <= grounds_of(picture, [box])


def test_wrong_colours_are_wrong() -> None:
    picture = drawn("SALE", ink="white", ground="blue")
    scores = judge(reader("paddle"), picture, asked("SALE", ink="yellow", ground="red"))
    assert scores.right and not scores.ink and not scores.ground
    scores = judge(reader("paddle"), picture, asked("SALE", ink="white", ground="blue"))
    assert scores.ink and scores.ground


def test_processes_give_the_same_scores() -> None:
    reader("paddle")
    pictures = [drawn(text) for text in ("ONE", "TWO", "THREE")]
    posters = [asked(text, ink="white", ground="blue") for text in ("ONE", "TEN", "THREE")]
    with Scorer(2) as two, Scorer(0) as none:
        scores = two.score(pictures, posters)
        assert scores == none.score(pictures, posters)
    assert [score.right for score in scores] == [True, False, True]


@pytest.mark.parametrize("name", lists.LISTS)
def test_a_list_has_its_count_and_format(name: str) -> None:
    rows = [
        json.loads(r) for r in (lists.HELD_OUT / f"{name}.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(rows) == COUNTS[name]
    for row in rows:
        assert set(row) == {"seed", *lists.FIELDS}
        assert row["family"] in (None, *FAMILIES) and row["surface"] in (None, *SURFACES)
        for color in ("ink", "ground", "accent"):
            assert row[color] is None or row[color] in COLORS
        for phrase in row["phrases"]:
            assert set(phrase) == {"text", "position", "size"}
            assert phrase["text"] in row["prompt"]
            assert phrase["position"] in (None, *POSITIONS) and phrase["size"] in (None, *SIZES)
            assert set(phrase["text"]) <= set(LETTERS) | {" "}
    keys = [(row["prompt"], row["seed"]) for row in rows]
    assert len(set(keys)) == len(keys)
    if name != "publication":
        assert len({prompt for prompt, _ in keys}) == len(keys)
    assert all(set_lines(item.poster) for item in lists.read(name))


def test_the_lists_hold_what_their_names_say() -> None:
    free = lists.read("free")
    chinese = sum(not item.poster.prompt.replace("é", "e").isascii() for item in free)
    assert all(1 <= len(item.poster.phrases) <= 2 for item in free) and chinese >= 70
    for prompt in (
        'a sign that says "OPEN"',
        'Poster, headline "QUARTZ" in bold dark blue letters on a white background',
        'Business card for a bakery called "Crumb", elegant gold letters on black',
    ):
        assert any(item.poster.prompt == prompt for item in free)
    publication = Counter(item.poster.phrases[0].text for item in lists.read("publication"))
    texts = ("70 % OFF", "轻记账", "GREEN LIFE", "夜市", "SUMMER BEATS")
    assert publication == dict.fromkeys(texts, 10)
    thousand = "".join(item.poster.phrases[0].text for item in lists.read("thousand"))
    assert len(set(thousand)) == len(thousand) == 350 and set(thousand) <= set(CHARACTERS)
    sizes = Counter((i.poster.width, i.poster.height) for i in lists.read("new_sizes"))
    assert set(sizes) == set(lists.NEW_SIZES)
    for width, height in sizes:
        assert width % 16 == height % 16 == 0 and 1 / 4 <= width / height <= 4
        assert width * height == pytest.approx(256**2, rel=0.06)
    colors = lists.read("colors")
    assert {item.poster.ink for item in colors} == set(COLORS)
    assert len({item.poster.ground for item in colors}) >= 50
    assert all(item.asked == {"ink", "ground"} for item in colors)
    assert not any(item.poster.phrases for item in lists.read("no_text"))
    for item in lists.read("three_lines"):
        assert len(set_lines(item.poster).blocks[0].lines) == 3
    for item in lists.read("text_heavy"):
        layout = set_lines(item.poster)
        assert len(layout.blocks) == 2 or len(layout.blocks[0].lines) == 3


def test_no_english_word_is_in_two_lists() -> None:
    names = ("english", "two_lines", "three_lines", "new_sizes", "colors", "text_heavy")
    words = Counter(
        word
        for name in names
        for item in lists.read(name)
        for phrase in item.poster.phrases
        for word in phrase.text.lower().split()
        if word.isascii()
    )
    assert [word for word, count in words.items() if count > 1] == []


def test_the_made_lists_are_what_their_program_makes() -> None:
    words = Path("/usr/share/dict/american-english")
    if not words.exists():
        pytest.skip("the word list is not installed")
    for name in make_lists.MADE:
        rows = make_lists.Maker(words).make(name)
        for row, item in zip(rows, lists.read(name), strict=True):
            assert row["prompt"] == item.poster.prompt


def test_quotes_are_not_those_of_the_text() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert free_wording.quoted(rng, "I can't", False)[0] not in "'"


def test_what_a_prompt_leaves_open_is_not_judged() -> None:
    phrase = {"text": "A", "position": None, "size": "small"}
    row = {**dict.fromkeys(lists.FIELDS), "seed": 3, "prompt": "p", "phrases": [phrase]}
    row |= {"ink": "white", "width": 64, "height": 64}
    item = lists.item(row)
    assert item.asked == {"ink"} and item.seed == 3
    assert item.poster.ground == "black"  # so that it can be drawn
    assert item.poster.phrases == (Phrase("A", "center", "small"),)


def test_evaluating_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader("paddle")
    items = lists.read("english")[:4]
    pictures = [drawn(i.poster.phrases[0].text, size=32) for i in items[:3]] + [drawn("WRONG")]
    sources.save(tmp_path / "english", sources.file_names(items), pictures)
    into = tmp_path / "results.json"
    command = ["pictures", str(tmp_path), "--lists", "english", "--limit", "4", "--into", str(into)]
    assert evaluate.main([*command, "--readers", "paddle", "--name", "worker"]) == 0
    assert "| english | paddle | 4 | 75.0% |" in capsys.readouterr().out
    results = json.loads(into.read_text("utf-8"))
    entry = results["worker"]["lists"]["english"]["paddle"]
    assert entry["count"] == 4 and entry["right"] == 0.75
    page = f"# T\n{report.BEGIN}\nold\n{report.END}\nend\n"
    text = report.insert(page, report.table(results))
    assert "old" not in text and text.endswith("end\n")
    assert "| `english`: English words | 4 | 98 % | 75.0 % |  |  |" in text


def test_seeds_that_repeat_have_files_of_their_own() -> None:
    names = sources.file_names(lists.read("publication"))
    assert len(set(names)) == 50 and names[11] == "11-1.png"
    assert sources.file_names(lists.read("english"))[:2] == ["0.png", "1.png"]


def test_training_leaves_the_held_out_phrases_out() -> None:
    held_out = phrases.held_out()
    for name in lists.LISTS:
        for item in lists.read(name):
            for phrase in item.poster.phrases:
                assert held_out.contains(phrase.text), (name, phrase)
