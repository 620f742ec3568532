#!/usr/bin/env python3
"""The training data, posters with their prompts: held-out lists, and a sheet of examples.

    posters.py held-out ASSETS       writes the fixed lists in held_out/
    posters.py sheet ASSETS OUT.png  draws a sheet of examples and prints their prompts

ASSETS is the folder that fonts.py writes. `designs` makes up posters, `typesetting` sets their
headlines, and `painter` draws them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

import headlines
from designs import Poster, dress, sample
from painter import Painter


def write_held_out(assets: Path) -> None:
    """Writes the evaluation's lists: 200 English words of 3 to 8 letters, 60 headlines of
    two such words, 100 Chinese headlines of 2 to 4 characters, 30 words of 3 to 6 letters on
    posters of other trained sizes, and 30 words of 4 to 6 letters on sizes never trained on."""
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
        if name == "new_sizes":  # drawn last, so that the older lists stay the same
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
    """A held-out list: each poster, with the seed that its picture is to be generated with."""
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
