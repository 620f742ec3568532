"""The figures of a run: checked, printed as a table, and written where they are kept."""

from __future__ import annotations

import json
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
README = FOLDER / "README.md"
RESULTS = FOLDER / "results"


@dataclass
class Figure:
    """One line of the table. A figure without a limit is only reported."""

    name: str
    value: object
    unit: str = ""
    limit: str = ""
    passed: bool | None = None


class Report:
    """Collects the figures of one run."""

    def __init__(self, name: str, title: str, is_full: bool) -> None:
        self.name = name
        self.title = title
        self.is_full = is_full
        self.figures: list[Figure] = []
        self._begun = time.time()

    def note(self, name: str, value: object, unit: str = "") -> None:
        """Reports a figure that has no limit."""
        self.figures.append(Figure(name, value, unit))

    def at_most(self, name: str, value: float, most: float, unit: str = "") -> None:
        """Reports a figure that must not exceed ``most``. NaN fails."""
        limit = f"≤ {shown(most)}" if most else "0"
        self.figures.append(Figure(name, value, unit, limit, bool(value <= most)))

    def at_least(self, name: str, value: float, least: float, unit: str = "") -> None:
        """Reports a figure that must not be below ``least``. NaN fails."""
        self.figures.append(Figure(name, value, unit, f"≥ {shown(least)}", bool(value >= least)))

    def equal(self, name: str, value: object, wanted: object, unit: str = "") -> None:
        """Reports a figure that must have one value."""
        self.figures.append(Figure(name, value, unit, f"= {shown(wanted)}", value == wanted))

    @property
    def has_passed(self) -> bool:
        """Whether something was checked, and nothing failed."""
        checks = [figure.passed for figure in self.figures if figure.passed is not None]
        return bool(checks) and all(checks)

    def table(self) -> str:
        """The figures as a Markdown table."""
        lines = ["| figure | value | limit | |", "|---|---:|---|---|"]
        for one in self.figures:
            verdict = {None: "", True: "passed", False: "**failed**"}[one.passed]
            value = f"{shown(one.value)} {one.unit}".strip()
            lines.append(f"| {one.name} | {value} | {one.limit} | {verdict} |")
        return "\n".join(lines)

    def write(self, results: Path = RESULTS, readme: Path = README) -> None:
        """Prints the table and writes ``results/NAME.json``.

        A run of full size also replaces its table in the README; a shorter one is written to
        ``results/NAME-short.json`` and leaves the README alone.
        """
        print(f"\n{self.title}\n\n{self.table()}\n", flush=True)
        results.mkdir(exist_ok=True)
        file = results / (f"{self.name}.json" if self.is_full else f"{self.name}-short.json")
        data = {
            "name": self.name,
            "date": time.strftime("%Y-%m-%d", time.gmtime(self._begun)),
            "machine": platform.machine(),
            "seconds": round(time.time() - self._begun, 1),
            "passed": self.has_passed,
            "figures": [vars(figure) for figure in self.figures],
        }
        file.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        if self.is_full:
            text = readme.read_text()
            readme.write_text(replaced(text, self.name, f"{data['date']}\n\n{self.table()}"))


def replaced(text: str, name: str, figures: str) -> str:
    """The README's text with new figures between the two comments that name the run."""
    begin, end = f"<!-- figures of {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text, count = pattern.subn(lambda _: f"{begin}\n{figures}\n{end}", text)
    assert count == 1, f"the README has {count} places for the figures of {name}, expected one"
    return text


def shown(value: object) -> str:
    """A value for a table: whole numbers with thousands separators, others with 4 digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    is_whole = isinstance(value, int) or value.is_integer()
    return f"{value:,.0f}" if is_whole else f"{value:,.4g}"
