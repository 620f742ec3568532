#!/usr/bin/env python3
"""Draws posters and says what is on them: the training data.

    posters.py held-out ASSETS       writes the fixed lists in held_out/
    posters.py sheet ASSETS OUT.png  a sheet of examples to look at

Letters stand in cells on a grid of 8 pixels, a picture element of the latent space,
so a letter of a given size always meets the same grid: that, one size for each length
of a headline and flat colours are what lets a small model learn in minutes. ASSETS is
the folder that fonts.py writes.
"""

import argparse
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import headlines

COLORS = {
    "red": (214, 36, 42),
    "orange": (244, 126, 32),
    "yellow": (252, 212, 44),
    "green": (32, 134, 66),
    "teal": (16, 150, 152),
    "blue": (36, 92, 208),
    "navy": (18, 34, 84),
    "purple": (118, 50, 160),
    "pink": (248, 152, 188),
    "brown": (110, 70, 46),
    "black": (20, 20, 22),
    "white": (250, 250, 250),
    "cream": (250, 240, 214),
}

STYLES = {
    "bold": ("bold", "big bold", "heavy", "strong"),
    "serif": ("serif", "classic", "slab serif"),
    "tall": ("tall", "narrow", "condensed"),
}

SURFACES = {
    "plain": ("background", "backdrop"),
    "gradient": ("gradient background", "gradient"),
    "striped": ("striped background",),
    "brick": ("brick wall",),
    "wood": ("wooden board",),
}

KINDS = (
    "Sale poster", "Poster", "A poster", "Event poster", "Movie poster", "Concert poster",
    "Travel poster", "Banner", "Flyer", "A flyer", "Sign", "Shop sign", "A sign", "Card",
    "Greeting card", "Book cover", "Billboard", "Label", "Cover", "Advertisement",
)  # fmt: skip

POSITIONS = {
    "center": ("in the center", "in the middle", "centered"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}

# {s}: style and colour of the letters, as in " bold red"; {p}: where, with a leading
# space, or nothing; {b}: colour and surface with its article.
TEMPLATES = (
    "{k}, headline {h} in{s} letters{p} on {b}",
    "{k}, headline {h}{p} in{s} letters, {b}",
    "{k} with the text {h}{p} in{s} letters on {b}",
    "{k} with the headline {h} in{s} type{p}, {b}",
    "{k} that says {h} in{s} letters{p}, {b}",
    "{h} in{s} letters{p} on {b}",
    "the word {h} in{s} letters{p} on {b}",
    "{b} with the text {h} in{s} letters{p}",
    "{b}, headline {h}{p},{s} letters",
    "{k} on {b},{s} headline {h}{p}",
    "text {h},{s} letters, {b}{p}",
)

# Widths of the cells that letters stand in, all multiples of 8.
LATIN_CELLS = (64, 48, 40, 32, 24)
CHINESE_CELLS = (80, 56)

FIRST_COLUMN = {}
"""For each width of cell, the number of its first column of 8 pixels; 0 is none."""
COLUMNS = 1
for _cell in sorted({*LATIN_CELLS, *CHINESE_CELLS}):
    FIRST_COLUMN[_cell] = COLUMNS
    COLUMNS += _cell // 8

# Of a font, all over the cell's width: its size, the heights above and below the
# baseline that letters take, and the height of a line.
METRICS = {
    "bold": (1.64, 1.22, 0.38, 1.70),
    "serif": (1.46, 1.10, 0.36, 1.60),
    "tall": (1.90, 1.40, 0.42, 1.95),
    "han": (0.96, 0.84, 0.12, 1.20),
}
LETTERS = headlines.LATIN + headlines.CHARACTERS
"""All that can stand in a headline."""

FILES = {"bold": "bold.ttf", "serif": "serif.otf", "tall": "tall.otf", "han": "han.otf"}


@dataclass(frozen=True)
class Poster:
    """What is on a poster, and the prompt that says it."""

    prompt: str
    lines: tuple[str, ...]
    style: str = "bold"
    ink: str = "black"
    ground: str = "white"
    surface: str = "plain"
    border: bool = False
    position: str = "center"
    width: int = 256
    height: int = 256


def luminance(color: str) -> float:
    """Relative luminance, as WCAG has it."""
    linear = [(c / 255) ** 2.2 for c in COLORS[color]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@lru_cache
def inks(ground: str, surface: str) -> tuple[str, ...]:
    """Colours that can be read on `ground`; a surface's second tone asks for more."""
    enough = 3.0 if surface == "plain" else 4.2

    def contrast(other: str) -> float:
        low, high = sorted((luminance(ground), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    return tuple(c for c in COLORS if contrast(c) >= enough)


def cell_width(lines: tuple[str, ...], style: str, width: int, height: int) -> int | None:
    """The largest cell with which the lines fit."""
    font = font_of(lines, style)
    longest = max(map(len, lines))
    for cell in CHINESE_CELLS if font == "han" else LATIN_CELLS:
        if len(lines) > 1 and font != "han" and cell > 48:
            continue
        total = len(lines) * line_height(font, cell)
        if longest * cell <= width - 16 and total <= height - 16:
            return cell
    return None


def font_of(lines: tuple[str, ...], style: str) -> str:
    """The style's font, or the one font for Chinese."""
    return style if all(ord(c) < 128 for c in "".join(lines)) else "han"


def line_height(font: str, cell: int) -> int:
    return 8 * round(METRICS[font][3] * cell / 8)


def layout(poster: Poster) -> tuple[int, int, list[tuple[str, int, int]]]:
    """The cells' width and height, and each letter with its cell's left and top edge."""
    font = font_of(poster.lines, poster.style)
    cell = cell_width(poster.lines, poster.style, poster.width, poster.height)
    assert cell is not None, f"{poster.lines} does not fit"
    pitch = line_height(font, cell)
    free = poster.height - pitch * len(poster.lines)
    top = {"top": min(16, free // 2), "center": free / 2, "bottom": max(free - 16, free // 2)}
    # On the grid of 16 pixels that a token of the transformer covers.
    y = min(max(16 * round(top[poster.position] / 16), 0), free)
    places = []
    for line in poster.lines:
        x = 8 * ((poster.width - cell * len(line)) // 16)
        places += [(char, x + cell * index, y) for index, char in enumerate(line)]
        y += pitch
    return cell, pitch, places


class Painter:
    """Draws posters with the fonts in a folder. Keeps what it drew of glyphs and
    surfaces, so a picture takes little more than the time to write its pixels."""

    def __init__(self, assets: Path):
        self.assets = assets
        self.glyphs: dict[tuple[str, int, str], np.ndarray] = {}
        self.grounds: dict[tuple[str, str, int, int], np.ndarray] = {}

    def paint(self, poster: Poster) -> tuple[np.ndarray, np.ndarray]:
        """The picture, uint8 [H, W, 3], and the lettering's coverage, uint8 [H, W]."""
        coverage = np.zeros((poster.height, poster.width), np.uint8)
        picture = self._ground(poster).copy()
        ink = np.array(COLORS[poster.ink], np.float32)
        rows = self._letter(poster, coverage)
        if poster.surface == "plain":
            steps = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
            ground = picture[0, 0].astype(np.float32)
            mixed = (ground + (ink - ground) * steps + 0.5).astype(np.uint8)
            picture[rows] = mixed[coverage[rows]]
        else:
            alpha = coverage[rows][..., None] * np.float32(1 / 255)
            ground = picture[rows].astype(np.float32)
            picture[rows] = (ground + (ink - ground) * alpha + 0.5).astype(np.uint8)
        if poster.border:
            ink = ink.astype(np.uint8)
            picture[:4] = picture[-4:] = ink
            picture[:, :4] = picture[:, -4:] = ink
        return picture, coverage

    def cells(self, poster: Poster) -> np.ndarray:
        """Which letter, and which column of its cell, is at each token: int16
        [H/16 * W/16, 2, 2], for the token's left and right half the letter's number in
        `LATIN + CHARACTERS` from 1 on and the column's from `FIRST_COLUMN`; 0 is none."""
        cells = np.zeros((poster.height // 8, poster.width // 8, 2), np.int16)
        cell, pitch, places = layout(poster)
        columns = FIRST_COLUMN[cell] + np.arange(cell // 8)
        for char, x, y in places:
            place = cells[y // 8 : (y + pitch) // 8, x // 8 : (x + cell) // 8]
            place[..., 0] = 1 + LETTERS.index(char)
            place[..., 1] = columns
        # A token is two rows high. Where a line ends within one, it is that line's.
        cells = cells.reshape(poster.height // 16, 2, poster.width // 16, 2, 2)
        upper, lower = cells[:, 0], cells[:, 1]
        return np.where(upper > 0, upper, lower).reshape(-1, 2, 2)

    def _letter(self, poster: Poster, canvas: np.ndarray) -> slice:
        """Draws the headline into `canvas`; returns the rows it takes."""
        cell, pitch, places = layout(poster)
        font = font_of(poster.lines, poster.style)
        for char, x, y in places:
            canvas[y : y + pitch, x : x + cell] = self._glyph(font, cell, char)
        return slice(places[0][2], places[-1][2] + pitch)

    def _glyph(self, font: str, cell: int, char: str) -> np.ndarray:
        """A glyph's coverage in its cell; one too wide is squeezed into it."""
        key = (font, cell, char)
        if key not in self.glyphs:
            size, above, below, _ = METRICS[font]
            pitch = line_height(font, cell)
            face = self._face(font, size * cell)
            baseline = (pitch + (above - below) * cell) / 2
            wide = Image.new("L", (3 * cell, pitch))
            anchor, place = ("ms", (1.5 * cell, round(baseline)))
            ImageDraw.Draw(wide).text(place, char, 255, font=face, anchor=anchor)
            left, _, right, _ = wide.getbbox() or (cell, 0, 2 * cell, 0)
            room = cell - max(2, cell // 12)
            if right - left > room:
                ink = wide.crop((left, 0, right, pitch)).resize((room, pitch), Image.LANCZOS)
                left, right = 0, room
            else:
                ink = wide.crop((left, 0, right, pitch))
            mask = np.zeros((pitch, cell), np.uint8)
            start = (cell - (right - left)) // 2
            mask[:, start : start + right - left] = np.asarray(ink)
            self.glyphs[key] = mask
        return self.glyphs[key]

    def _face(self, font: str, size: float) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(str(self.assets / FILES[font]), size)

    def _ground(self, poster: Poster) -> np.ndarray:
        """The surface, uint8. Its pattern repeats every 16 or 32 pixels."""
        width, height, surface = poster.width, poster.height, poster.surface
        key = (poster.ground, surface, width, height)
        if key not in self.grounds:
            y, x = np.mgrid[:height, :width]
            if surface == "plain":
                amount = np.zeros((height, width))
            elif surface == "gradient":
                amount = 0.2 * y / height
            elif surface == "striped":
                amount = 0.12 * (x // 16 % 2)
            elif surface == "brick":
                shifted = x + 16 * (y // 16 % 2)
                amount = 0.16 * ((y % 16 < 2) | (shifted % 32 < 2))
            else:
                amount = 0.05 * (y // 32 % 3) + 0.14 * (y % 32 < 2)
            # Towards black on light colours, a little towards white on dark ones.
            target, strength = (0, 1.0) if luminance(poster.ground) > 0.18 else (255, 0.6)
            color = np.array(COLORS[poster.ground], np.float32)
            picture = color + (target - color) * (strength * amount[..., None])
            self.grounds[key] = (picture + 0.5).astype(np.uint8)
        return self.grounds[key]


def describe(rng: np.random.Generator, poster: Poster, named: set[str]) -> str:
    """A prompt for the poster. What is the default and not in `named` may stay out."""
    article = "an" if poster.ground == "orange" else "a"
    surface = str(rng.choice(SURFACES[poster.surface]))
    ground = f"{article} {poster.ground} {surface}"
    if poster.border:
        ground += " with a border"
    style = f" {poster.ink}"
    if "style" in named:
        style = f" {rng.choice(STYLES[poster.style])}{style}"
    place = f" {rng.choice(POSITIONS[poster.position])}" if "position" in named else ""
    template = str(rng.choice(TEMPLATES))
    quote = "''" if rng.random() < 0.04 else "“”" if rng.random() < 0.1 else '""'
    quoted = quote[0] + " ".join(poster.lines) + quote[1]
    prompt = template.format(k=rng.choice(KINDS), h=quoted, s=style, p=place, b=ground)
    # Written as people write: with a capital or without.
    return prompt[0].upper() + prompt[1:] if rng.random() < 0.5 else prompt


def sample(
    rng: np.random.Generator, config: dict, words: tuple[str, ...], size: tuple[int, int]
) -> Poster:
    """A poster of `size` and its prompt. `config` is the table `posters`."""
    shares = config["headlines"]
    kinds = list(shares)
    while True:
        kind = kinds[rng.choice(len(kinds), p=np.array(list(shares.values())))]
        count = 2 if rng.random() < config["two_lines"] else 1
        if kind == "chinese":
            longest, count = headlines.LONGEST_CHINESE, 2 if rng.random() < 0.08 else 1
        else:
            longest = headlines.LONGEST_WORD
        lines = tuple(headlines.line(rng, kind, longest, words) for _ in range(count))
        if poster := dress(rng, lines, size, config["wrong_prompts"]):
            return poster


def mistaken(rng: np.random.Generator, poster: Poster) -> Poster:
    """The poster as somebody describes it who looked badly: a letter of the headline, or
    a colour, is another one. Never says a held-out line."""
    what = rng.random()
    if what < 0.2:
        return replace(poster, ink=str(rng.choice(list(COLORS))))
    if what < 0.4:
        return replace(poster, ground=str(rng.choice(list(COLORS))))
    while True:
        lines = list(poster.lines)
        number = int(rng.integers(len(lines)))
        lines[number] = headlines.misspelt(rng, lines[number])
        if lines[number].lower() not in headlines.held_out():
            return replace(poster, lines=tuple(lines))


def dress(
    rng: np.random.Generator,
    lines: tuple[str, ...],
    size: tuple[int, int] = (256, 256),
    wrong: float = 0.0,
) -> Poster | None:
    """Chooses everything but the headline; nothing when that does not fit. The prompt
    is `mistaken` with a chance of `wrong`."""
    ground = str(rng.choice(list(COLORS)))
    surface = str(rng.choice(list(SURFACES), p=[0.6, 0.12, 0.1, 0.09, 0.09]))
    named = set()
    style = "bold"
    if font_of(lines, style) != "han":
        style = str(rng.choice(list(STYLES), p=[0.6, 0.2, 0.2]))
    if style != "bold" or rng.random() < 0.5:
        named.add("style")
    if cell_width(lines, style, *size) is None:
        return None
    position = "center" if rng.random() < 0.5 else str(rng.choice(["top", "bottom"]))
    if position != "center" or rng.random() < 0.3:
        named.add("position")
    poster = Poster(
        prompt="",
        lines=lines,
        style=style,
        ink=str(rng.choice(inks(ground, surface))),
        ground=ground,
        surface=surface,
        border=bool(rng.random() < 0.08),
        position=position,
        width=size[0],
        height=size[1],
    )
    # No draw without a chance of it: the held-out lists stay as they were made.
    told = mistaken(rng, poster) if wrong and rng.random() < wrong else poster
    return replace(poster, prompt=describe(rng, told, named))


def write_held_out(assets: Path) -> None:
    """The lists of the evaluation: 200 English words of 3 to 8 letters, 60 headlines of
    two such words, 100 Chinese ones of 2 to 4 characters, 30 words of 3 to 6 letters on
    posters of other trained sizes, 30 of 4 to 6 on sizes that are never trained."""
    folder = headlines.HERE / "held_out"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.jsonl"):
        old.unlink()
    headlines.held_out.cache_clear()
    rng = np.random.default_rng(20240601)
    pool = [word for word in headlines.word_list(assets / "words.txt") if 3 <= len(word) <= 8]
    words = [str(w) for w in rng.choice(pool, size=420, replace=False)]
    cased = [headlines.any_case(rng, word) for word in words]
    phrases = [p for p in headlines.PHRASES if 2 <= len(p) <= 4]
    chinese = {str(p) for p in rng.choice(phrases, size=20, replace=False)}
    while len(chinese) < 100:
        picks = rng.integers(len(headlines.CHARACTERS), size=int(rng.integers(2, 5)))
        chinese.add("".join(headlines.CHARACTERS[i] for i in picks))
    lists = {
        "english": [(word,) for word in cased[:200]],
        "two_lines": list(zip(cased[200:260], cased[260:320], strict=True)),
        "chinese": [(text,) for text in sorted(chinese)],
        "sizes": [(word,) for word in cased[320:] if len(word) <= 6][:30],
    }
    sizes = {
        "sizes": [(320, 192), (192, 320), (384, 160)],
        "new_sizes": [(208, 304), (304, 208), (352, 176)],
    }
    for name in (*lists, "new_sizes"):
        if name == "new_sizes":  # drawn last, as the other lists are older
            short = [w for w in pool if 4 <= len(w) <= 6 and w not in words]
            entries = [(headlines.any_case(rng, str(w)),) for w in rng.choice(short, 30, False)]
        else:
            entries = lists[name]
        rows = []
        for number, lines in enumerate(entries):
            size = sizes[name][number // 10] if name in sizes else (256, 256)
            poster = dress(rng, lines, size)
            assert poster is not None
            rows.append({"seed": number, **poster.__dict__})
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
        print(f"{name}: {len(rows)}")


def read_held_out(name: str) -> list[tuple[int, Poster]]:
    """A held-out list: each poster with the seed of its picture."""
    posters = []
    for row in (headlines.HERE / "held_out" / f"{name}.jsonl").read_text("utf-8").splitlines():
        values = json.loads(row)
        seed = values.pop("seed")
        posters.append((seed, Poster(**{**values, "lines": tuple(values["lines"])})))
    return posters


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("held-out", "sheet"))
    parser.add_argument("assets", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("sheet.png"))
    args = parser.parse_args()
    if args.what == "held-out":
        write_held_out(args.assets)
        return
    import tomllib

    config = tomllib.loads((headlines.HERE / "config.toml").read_text("utf-8"))["posters"]
    rng = np.random.default_rng(0)
    painter, words = Painter(args.assets), headlines.word_list(args.assets / "words.txt")
    sheet = Image.new("RGB", (5 * 264, 4 * 264), "gray")
    for number in range(20):
        poster = sample(rng, config, words, (256, 256))
        picture, _ = painter.paint(poster)
        sheet.paste(Image.fromarray(picture), (number % 5 * 264 + 4, number // 5 * 264 + 4))
        print(poster.prompt)
    sheet.save(args.out)


if __name__ == "__main__":
    main()
