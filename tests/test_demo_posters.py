"""The posters that the demo model learns from: colours, typesetting, drawing, random content."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from posters import areas, fonts, phrases, random_posters, surfaces
from posters.colors import COLORS, contrast, lab, luminance, nearest
from posters.families import CHARACTERS, FAMILY, HAN, LATIN, LETTERS
from posters.painter import INDEX, WIDEST, Painter
from posters.poster import FAMILIES, POSITIONS, SURFACES, Phrase, Poster
from posters.typesetting import COLUMN, COLUMNS, LINE, LONGEST, set_lines

SIZES = [(entry["width"], entry["height"]) for entry in random_posters.default_table()["sizes"]]
SIDES = [(512, 128), (128, 512), (384, 160), (160, 384), (304, 208), (208, 304), (256, 256)]


@pytest.fixture(scope="module")
def painter(poster_assets: Path) -> Painter:
    return Painter(poster_assets)


@pytest.fixture(scope="module")
def table(poster_assets: Path) -> dict:
    return {**random_posters.default_table(), "assets": str(poster_assets)}


def one(text: str, **changes) -> Poster:
    """A poster with one phrase. `position` and `size` are those of the phrase."""
    layout = {key: changes.pop(key) for key in ("position", "size") if key in changes}
    return Poster("", (Phrase(text, **layout),), **changes)


def lines_of(poster: Poster) -> tuple[str, ...]:
    layout = set_lines(poster)
    assert layout is not None
    return layout.blocks[0].lines


# Colours


def test_every_two_colors_can_be_told_apart():
    assert len(COLORS) >= 40
    points = lab(np.array(list(COLORS.values())))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert distance[~np.eye(len(points), dtype=bool)].min() >= 12


def test_nearest_color_of_each_key_and_its_neighbourhood():
    rng = np.random.default_rng(0)
    for key, rgb in COLORS.items():
        noisy = np.clip(np.array(rgb) + rng.integers(-4, 5, 3), 0, 255)
        assert nearest(rgb) == key
        assert nearest(noisy) == key


def test_lab_agrees_with_known_values():
    # sRGB red, green and blue in CIELAB under D65.
    known = ((53.24, 80.09, 67.20), (87.73, -86.18, 83.18), (32.30, 79.19, -107.86))
    colors = np.array(((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    np.testing.assert_allclose(lab(colors), known, atol=0.1)


def test_luminance_and_contrast_follow_wcag():
    assert luminance("black") < 0.01 < 0.95 < luminance("white")
    assert contrast("black", "white") == contrast("white", "black") > 17
    assert contrast("red", "red") == 1


# Families and letters


def test_letters_are_unique_and_complete():
    assert len(LETTERS) == len(set(LETTERS)) == len(INDEX)
    assert len(CHARACTERS) >= 1000
    assert set("夜市轻记账新年快乐") <= HAN
    assert set("ABCXYZabcxyz0123456789%&!?.,:;-+/$€@#'’") <= set(LATIN)
    headlines = (phrases.TRAIN / "lists" / "phrases.txt").read_text("utf-8").split()
    assert set("".join(headlines)) <= HAN
    assert set(FAMILY) == set(FAMILIES)


def test_fonts_have_all_letters_and_fit_their_boxes(poster_assets: Path, painter: Painter):
    """No letter is narrowed to less than 0.65 of its width, nor cut above or below."""
    for key, family in FAMILY.items():
        face = ImageFont.truetype(str(poster_assets / f"{family.latin}.font"), 1000)
        borrowed = fonts.BORROWED.get(family.latin, ("",))[0]
        for letter in set(LATIN) - set(borrowed):
            box = face.getmask(letter).getbbox()
            assert box is not None, (key, letter)
            width = (box[2] - box[0]) / 1000 * family.size
            room = family.half_cells(letter) / 2 - 0.09
            assert room / width >= 0.65, (key, letter, room / width)
            _, top, _, bottom = face.getbbox(letter, anchor="ls")
            assert -top / 1000 * family.size <= family.ascent + 0.06, (key, letter)
            assert bottom / 1000 * family.size <= family.descent + 0.06, (key, letter)
    assert WIDEST <= 1.2


def test_no_two_letters_of_a_family_look_the_same(painter: Painter):
    for family in FAMILIES:
        masks = {}
        for letter in LATIN:
            if letter not in "'’":
                layout = set_lines(one(letter, family=family))
                assert layout is not None
                masks[letter] = painter._glyph(family, layout.letters[0]).tobytes()
        assert len(set(masks.values())) == len(masks), family


def test_assets_are_small_and_every_source_is_named(poster_assets: Path):
    assert sum(file.stat().st_size for file in poster_assets.iterdir()) < 12e6
    for source in fonts.SOURCES.values():
        assert source.package.startswith("fonts-")
        assert source.licence in ("OFL 1.1", "Apache 2.0", "GUST Font License 1.0")


def test_gather_calls_the_other_rooms(poster_assets: Path, tmp_path: Path):
    called = []
    fonts.gather(tmp_path, (called.append,))
    assert called == [tmp_path]


# Typesetting


def test_short_phrases_stay_on_one_line_and_long_ones_break_at_spaces():
    assert lines_of(one("OPEN")) == ("OPEN",)
    assert lines_of(one("SUMMER BEATS")) == ("SUMMER", "BEATS")
    assert lines_of(one("Monday is all I had")) == ("Monday", "is all", "I had")
    # "Monday is" and "is all I had" are equally long; then the upper line is the shorter one.
    assert lines_of(one("Monday is all I had", width=512, height=128)) == ("Monday", "is all I had")
    assert lines_of(one("新年快乐")) == ("新年快乐",)
    assert lines_of(one("新年快乐 春节快乐")) == ("新年快乐", "春节快乐")


def test_fewest_lines_with_a_cell_of_32():
    layout = set_lines(one("70 % OFF"))
    assert layout is not None
    assert layout.blocks[0].lines == ("70 % OFF",)
    assert layout.blocks[0].latin >= 32
    # A word that cannot break takes the smaller cells.
    assert set_lines(one("abcdefghkn")).blocks[0].latin == 24
    assert set_lines(one("abcdefghknopqs")).blocks[0].latin == 16
    assert set_lines(one("新年快乐大吉")).blocks[0].han == 40
    assert set_lines(one("新年快乐大吉利")).blocks[0].han == 28


def test_what_cannot_be_drawn_or_does_not_fit_has_no_layout():
    assert set_lines(one("naïve")) is None
    assert set_lines(one("abcdefghijklmno")) is None
    assert set_lines(one("")) is None
    assert set_lines(one("a b c", width=16, height=16)) is None
    four_lines = " ".join(["abcdefghknop"] * 4)
    assert set_lines(one(four_lines)) is None


def test_small_limits_the_cell():
    assert set_lines(one("OPEN", size="small")).blocks[0].latin == 24
    assert set_lines(one("快乐", size="small")).blocks[0].han == 28
    assert set_lines(one("OPEN")).blocks[0].latin == 48


def test_positions_and_two_phrases():
    tops = {p: set_lines(one("OPEN", position=p)).letters[0].top for p in POSITIONS}
    assert tops["top"] < tops["center"] < tops["bottom"]
    for places in (("top", "bottom"), ("center", "center"), ("top", "center"), ("top", "top")):
        pair = tuple(Phrase(t, p) for t, p in zip(("Hello all", "again"), places, strict=True))
        letters = set_lines(Poster("", pair)).letters
        first, second = letters[0], letters[-1]
        assert first.top + first.height <= second.top, places
        assert [letter.number for letter in letters] == list(range(1, len(letters) + 1))


def test_both_scripts_stand_on_one_line_in_cells_that_fit():
    layout = set_lines(one("AB夜市"))
    assert layout is not None
    assert len({letter.top for letter in layout.letters}) == 1
    by_script = {letter.char in HAN: letter.cell for letter in layout.letters}
    assert (by_script[False], by_script[True]) in FAMILY["grotesk"].pairs


def test_boxes_stand_on_the_grid_inside_their_area_and_never_overlap(table: dict):
    """The rules of the grid hold for random posters of every surface and size."""
    rng = np.random.default_rng(1)
    for number in range(700):
        size = (SIZES + SIDES)[number % len(SIZES + SIDES)]
        poster = random_posters.sample(rng, table, size)
        layout = set_lines(poster)
        assert layout is not None
        left, top, right, bottom = areas.letters(poster.surface, *size)
        taken = np.zeros((size[1], size[0]), bool)
        assert len(layout.letters) <= LONGEST
        for letter in layout.letters:
            assert letter.left % COLUMN == letter.width % COLUMN == 0
            assert letter.top % 8 == letter.height % 8 == 0
            assert letter.width // COLUMN < COLUMNS
            assert left <= letter.left and letter.left + letter.width <= right
            assert top <= letter.top and letter.top + letter.height <= bottom
            box = taken[letter.top : letter.top + letter.height, letter.left :][:, : letter.width]
            assert not box.any()
            box[:] = True
        for block in layout.blocks:
            assert all(1 <= len(line) <= LINE for line in block.lines)
            assert 1 <= len(block.lines) <= 3
        drawn = "".join(letter.char for letter in layout.letters)
        assert drawn == "".join(p.text.replace(" ", "") for p in poster.phrases)


def test_lines_start_at_multiples_of_8_and_mostly_16_pixels():
    for text in ("OPEN", "Quartz", "SUMMER BEATS", "新年快乐", "轻记账", "70 % OFF"):
        for family in FAMILIES:
            layout = set_lines(one(text, family=family))
            assert layout.letters[0].left % 8 == 0
            assert layout.letters[0].top % 16 == 0


# Surfaces and drawing


@pytest.mark.parametrize("surface", SURFACES)
def test_areas_lie_inside_every_poster(surface: str):
    for width, height in SIZES + SIDES:
        left, top, right, bottom = areas.letters(surface, width, height)
        assert 0 < left < right < width
        assert 0 < top < bottom < height
        assert right - left >= 32
        assert bottom - top >= 32


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("size", SIDES)
def test_letters_stand_on_the_ground_of_every_surface(surface: str, size: tuple[int, int]):
    """Below the letters there is nothing but the tones that inks are chosen for, thin lines and
    flecks excepted."""
    width, height = size
    made = surfaces.surface(surface, width, height)
    left, top, right, bottom = areas.letters(surface, width, height)
    mix = made.mix[made.index][top:bottom, left:right]
    assert np.allclose(mix.sum(-1), 1, atol=1e-3)
    allowed = mix[..., surfaces.GROUND] + mix[..., surfaces.SHADE]
    if surface in surfaces.UNDER_LETTERS:
        allowed = allowed + mix[..., surfaces.SECOND]
    assert allowed.mean() >= (0.75 if surface == "brick" else 0.93)


@pytest.mark.parametrize("surface", SURFACES)
def test_ink_can_be_read_on_every_surface(surface: str):
    for ground in random_posters.NIGHT if surface == "night" else COLORS:
        for ink in random_posters.inks(surface, ground):
            assert contrast(ink, ground) >= 3


def test_pictures_and_coverage_agree(painter: Painter):
    poster = one("OPEN", ink="red", ground="white")
    picture, coverage = painter.paint(poster)
    assert picture.shape == (256, 256, 3)
    assert coverage.shape == (256, 256)
    assert picture.dtype == coverage.dtype == np.uint8
    assert (picture[coverage == 255] == COLORS["red"]).all()
    assert (picture[coverage == 0] == COLORS["white"]).all()
    assert (coverage == 255).mean() > 0.04


def test_a_poster_without_phrases_has_no_letters(painter: Painter):
    for surface in SURFACES:
        poster = Poster("", (), surface=surface, ground="navy")
        _, coverage = painter.paint(poster)
        assert not coverage.any()
        assert not painter.cells(poster).any()


def test_border_shadow_and_accent_are_drawn(painter: Painter):
    plain = one("OPEN", ink="black", ground="white")
    picture, coverage = painter.paint(plain)
    bordered, _ = painter.paint(replace(plain, border=True, accent="red"))
    assert (bordered[:4] == COLORS["red"]).all()
    assert (bordered[4:-4, 4:-4] == picture[4:-4, 4:-4]).all()
    shadowed, same = painter.paint(replace(plain, shadow=True))
    assert (same == coverage).all()
    assert (shadowed != picture).any(-1).sum() > 100
    striped, _ = painter.paint(replace(plain, surface="stripes", accent="pink"))
    assert (striped[0] == COLORS["pink"]).all(-1).mean() == 0.5


def test_night_glows_and_its_reflection_has_no_edges(painter: Painter):
    poster = one("OPEN", ink="neon pink", ground="black", surface="night")
    picture, coverage = painter.paint(poster)
    dark, _ = painter.paint(replace(poster, phrases=()))
    street = areas.street(256) + 2
    glow = np.abs(picture[street:].astype(int) - dark[street:]).sum(-1)
    assert glow.max() > 40
    assert np.abs(np.diff(glow, axis=1)).max() <= 15
    around = (coverage == 0) & (np.abs(picture.astype(int) - dark).sum(-1) > 20)
    assert around[:street].sum() > 500


def test_cells_name_each_letter_and_its_columns(painter: Painter):
    poster = one("Hi 夜市", family="grotesk")
    cells = painter.cells(poster)
    assert cells.shape == (256, 2, 3)
    assert cells.dtype == np.int16
    grid = cells.reshape(16, 16, 2, 3).reshape(16, 32, 3)
    layout = set_lines(poster)
    seen = Counter()
    for letter in layout.letters:
        for column in range(letter.width // COLUMN):
            x = letter.left + column * COLUMN
            if x % 8 == 0:
                entry = grid[(letter.top + letter.height // 2) // 16, x // 8]
                assert tuple(entry) == (INDEX[letter.char], column + 1, letter.number)
                seen[letter.number] += 1
    assert len(seen) == len(layout.letters)
    assert set(np.unique(grid[..., 2])) == {0, *range(1, len(layout.letters) + 1)}


def test_a_picture_takes_at_most_ten_milliseconds_once_warm(painter: Painter, table: dict):
    rng = np.random.default_rng(3)
    made = [random_posters.sample(rng, table, (256, 256)) for _ in range(60)]
    for poster in made:
        painter.paint(poster)
    start = time.process_time()
    for poster in made:
        painter.paint(poster)
        painter.cells(poster)
    assert (time.process_time() - start) / len(made) < 0.010
