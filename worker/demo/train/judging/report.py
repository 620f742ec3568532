#!/usr/bin/env python3
"""Writes the table of the held-out lists into a Markdown file, from a file of results.

    report.py RESULTS.json FILE.md [--name worker]

The table replaces what stands between the lines `<!-- held-out -->` and `<!-- /held-out -->`.
"""

import argparse
import json
from pathlib import Path

BEGIN, END = "<!-- held-out -->", "<!-- /held-out -->"

ROWS = (
    ("free", "free wording, one or two quoted phrases", "right", 0.90),
    ("publication", "the publication's example prompts, 10 seeds each", "right", 0.80),
    ("english", "English words", "right", 0.98),
    ("chinese", "Chinese headlines", "right", 0.98),
    ("thousand", "Chinese headlines over all characters", "right", 0.93),
    ("two_lines", "headlines of two lines", "right", 0.95),
    ("three_lines", "headlines of three lines", "right", 0.95),
    ("new_sizes", "sizes never trained", "right", 0.90),
    ("no_text", "no quoted text: nothing is read", "right", 0.95),
    ("colors", "colour of letters and ground as asked", "colors", 0.90),
    ("text_heavy", "two phrases or three lines", "right", None),
)
"""List, what it holds, the figure that counts, and the share that must be reached."""


def table(results: dict, name: str = "worker", ceiling: str = "ceiling") -> str:
    """The table of an entry of the results beside the perfect renderer's. PP-OCR judges; the last
    column is tesseract's figure of the same pictures."""

    def figure(entry: str, list_name: str, reader: str, key: str) -> float | None:
        return results.get(entry, {}).get("lists", {}).get(list_name, {}).get(reader, {}).get(key)

    def share(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f} %"

    lines = [
        "| list | pictures | must | reached | perfect renderer | tesseract |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for list_name, meaning, key, must in ROWS:
        count = figure(name, list_name, "paddle", "count")
        if count is None:
            continue
        cells = [
            f"`{list_name}`: {meaning}",
            str(count),
            "" if must is None else f"{100 * must:.0f} %",
            share(figure(name, list_name, "paddle", key)),
            share(figure(ceiling, list_name, "paddle", key)),
            share(figure(name, list_name, "tesseract", key)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def insert(text: str, content: str) -> str:
    """The text with the content between the markers, which must be there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the file has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", default="worker", help="entry of the results")
    args = parser.parse_args()
    content = table(json.loads(args.results.read_text("utf-8")), args.name)
    args.file.write_text(insert(args.file.read_text("utf-8"), content), "utf-8")


if __name__ == "__main__":
    main()
