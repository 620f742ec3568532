"""House templates: prompts with boxes, in JSON files that a team can share.

    {"about": "One sentence about it.",
     "prompt": ["A poster", " for {subject}", " in {style}", ". Large title: {headline}."],
     "negative": "blurry, misspelled text",
     "defaults": {"style": "the manner of a screen print"}}

The prompt is a list of pieces. A piece with an empty box is left out. A box that the designer
leaves empty gets the template's default. ``{headline}`` is replaced by the lines of the headline,
each in quotation marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..files import read_json
from ..texts import WorkerError, printable, say

SHIPPED = Path(__file__).parent / "house"
USER_FOLDER = "ovis_templates"
"""The folder of the user's own templates, in ComfyUI's user folder."""

BOXES = ("headline", "style", "subject", "colours")
_BOX = re.compile(r"\{([^{}]*)\}")
MAX_FILES = 1000
_MAX_BYTES = 64 << 10
_SHAPE = say(
    'The format is {{"prompt": [TEXT], "negative": TEXT, "about": TEXT, "defaults": {{BOX: '
    "TEXT}}}}; only the prompt is required, and the boxes are {boxes}.",
    boxes=", ".join(BOXES),
)


@dataclass(frozen=True)
class Template:
    """A valid template file."""

    name: str
    pieces: tuple[str, ...]
    negative: str = ""
    about: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)

    def compose(self, boxes: Mapping[str, str]) -> str:
        """The full prompt for the given box contents."""
        filled = {box: boxes.get(box, "").strip() or self.defaults.get(box, "") for box in BOXES}
        filled["headline"] = quoted(filled["headline"])
        kept = [
            _BOX.sub(lambda box: filled[box[1]], piece)
            for piece in self.pieces
            if all(filled[box] for box in _BOX.findall(piece))
        ]
        return "".join(kept).strip()


@dataclass(frozen=True)
class Found:
    """The templates that were found, by name, and one sentence for each invalid file."""

    templates: dict[str, Template]
    problems: list[str]

    def named(self, name: str) -> Template:
        """The template ``name``; raises :class:`WorkerError` if it does not exist or is invalid."""
        if name not in self.templates:
            name = printable(name, 60)
            bad = next((text for text in self.problems if f"`{name}`" in text), "")
            raise WorkerError(
                bad or say("There is no house template `{name}`.", name=name),
                say(
                    "Put {name}.json into the folder {folder} in ComfyUI's user folder, or choose "
                    "another template.",
                    name=name,
                    folder=USER_FOLDER,
                ),
            )
        return self.templates[name]


def quoted(headline: str) -> str:
    """The lines of a headline in quotation marks; quotation marks inside become single ones."""
    lines = [line.strip().strip('"“”') for line in headline.splitlines()]
    return ", ".join('"' + re.sub('["“”]', "'", line) + '"' for line in lines if line)


def search_path(user: Path | None) -> list[Path]:
    """The folders with templates; a later one overrides an earlier one."""
    return [SHIPPED, user / USER_FOLDER] if user else [SHIPPED]


def find(folders: Iterable[Path]) -> Found:
    """Reads every template of the folders."""
    found = Found({}, [])
    for folder in folders:
        for path in _files(folder):
            try:
                found.templates[path.stem] = read(path)
            except WorkerError as error:
                found.problems.append(error.message)
    return found


def _files(folder: Path) -> list[Path]:
    """The template files of a folder; none if the folder cannot be listed."""
    try:
        files = sorted(folder.glob("*.json"))
    except OSError:
        return []
    return [path for path in files[:MAX_FILES] if not path.name.startswith("._")]


def read(path: Path) -> Template:
    """Reads one template file; raises :class:`WorkerError` with a sentence that names the file."""

    def bad(why: str) -> WorkerError:
        about = {"name": printable(path.stem, 60), "path": printable(path), "why": why}
        return WorkerError(say("The house template `{name}` ({path}) {why}.", **about), _SHAPE)

    try:
        if not path.is_file():
            raise bad(say("is not a file"))
        if path.stat().st_size > _MAX_BYTES:
            raise bad(say("is larger than 64 KiB"))
        content = read_json(path, _MAX_BYTES)
    except (OSError, ValueError) as error:
        raise bad(say("cannot be read: {why}", why=printable(error))) from error
    if not isinstance(content, dict):
        raise bad(say("is not a JSON object"))
    pieces = content.get("prompt")
    pieces = [pieces] if isinstance(pieces, str) else pieces
    if not _all_strings(pieces) or not pieces:
        raise bad(say("has no `prompt`, which must be a text or a list of texts"))
    texts = {key: content.get(key, "") for key in ("negative", "about")}
    defaults = content.get("defaults", {})
    if not isinstance(defaults, dict) or not _all_strings([*texts.values(), *defaults.values()]):
        raise bad(say("has a `negative`, `about` or `defaults` that is not text"))
    used = {box for piece in pieces for box in _BOX.findall(piece)} | set(defaults)
    unknown = sorted(used - set(BOXES))
    if unknown:
        raise bad(say("uses an unknown box, `{box}`", box=unknown[0]))
    return Template(path.stem, tuple(pieces), defaults=defaults, **texts)


def _all_strings(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
