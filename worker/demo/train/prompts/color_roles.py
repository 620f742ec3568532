"""English statements of which colour belongs to the letters and which to the ground.

A statement is put together from a noun for the letters or the ground, a colour and a pattern, so
that a colour's role follows from its noun, never from its place. In a pattern, `{c}` is the colour
with the noun `{n}` and its verbs; in `BOTH`, `{i}` is the colour of the letters `{n}`, and `{g}`
that of the ground `{b}`.
"""

from collections.abc import Sequence

from prompts.pick import Pick, article, capital

SINGULAR = (
    "lettering", "text", "type", "copy", "writing", "font", "print", "ink", "typography", "wording",
    "inscription", "typeface",
)  # fmt: skip
PLURAL = ("letters", "words", "characters", "letters", "words", "glyphs", "letterforms")
ALONE = ("headline", "title", "caption", "slogan", "heading", "message", "phrase", "tagline")
"""Nouns for the letters of a picture's only phrase."""

GROUNDS = (
    "background", "background", "backdrop", "ground", "base", "page", "sheet", "canvas", "field",
    "surface", "wall", "board", "panel", "bg", "rest", "remainder", "whole page",
    "rest of the image", "area behind the words", "space around the letters", "area around it",
    "rest of the picture", "surface underneath", "layer behind", "space behind the text",
)  # fmt: skip
SURFACES = (
    "page", "sheet", "canvas", "field", "surface", "wall", "board", "panel", "base", "ground",
)  # fmt: skip
"""Nouns for a ground of one colour that stand well behind "on a"."""

OBJECTS = (
    "shirt", "T-shirt", "hoodie", "sky", "door", "wall", "van", "box", "flag", "page", "napkin",
    "apron", "board", "panel", "sheet", "canvas", "notebook", "curtain", "screen print", "floor",
    "plate", "tile", "cloth", "envelope", "cover", "blanket", "pillow", "window",
)  # fmt: skip
"""Things that letters stand on, drawn as a plain ground of their colour."""

CLAUSES = (
    "{c} {n}", "{c} {n}", "{c} {n}", "the {c} {n}", "{n} in {c}", "{n} in {c}", "the {n} in {c}",
    "{c}-colored {n}", "{c}-coloured {n}", "{n} colored {c}", "{n} coloured {c}", "{n}: {c}",
    "{n}: {c}", "{n} = {c}", "{n} - {c}", "{n} ({c})", "{c} ({n})", "{c} for the {n}",
    "{c} as the {n} color", "{n} color: {c}", "{n} colour: {c}", "color of the {n}: {c}",
    "{n} color {c}", "the {n} {c}", "{n} that {is} {c}", "with the {n} in {c}", "with {c} {n}",
    "{n} done in {c}", "{n} all {c}", "{n} entirely {c}", "{n} painted {c}", "{n} -> {c}",
    "{n} {c}", "{c} used for the {n}", "{n} {is} {c}", "{n} of {c} color", "{n} purely {c}",
    "solid {c} {n}", "plain {c} {n}", "{n} kept {c}", "{n} must be {c}", "{c} {n} please",
    "{n}, which {is} {c}", "all of the {n} {c}", "{c} only for the {n}",
)  # fmt: skip
SENTENCES = (
    "the {n} {is} {c}", "the {n} {is} {c}", "make the {n} {c}", "the {n} should be {c}",
    "I want the {n} in {c}", "I'd like the {n} to be {c}", "keep the {n} {c}",
    "use {c} for the {n}", "paint the {n} {c}", "{c} is the color of the {n}",
    "the {n} must be {c}", "the color of the {n} is {c}", "can the {n} be {c}?",
    "please color the {n} {c}", "let the {n} be {c}", "go with {c} for the {n}",
    "choose {c} as the color of the {n}", "the {n} {has} to be {c}", "the {n} {is} done in {c}",
    "for the {n}, use {c}", "as for the {n}, {c}", "could you do the {n} in {c}?",
    "the {n} {is} rendered in {c}", "the {n} will be {c}", "we want {c} for the {n}",
    "give the {n} a {c} color", "set the {n} to {c}", "the {n} {is} colored {c}",
    "the {n} look{s} {c}", "everything about the {n} is {c}", "what color {is} the {n}? {C}",
    "the {n} come{s} in {c}", "I see {c} for the {n}", "turn the {n} {c}", "the {n}: {c}",
    "it has {c} {n}", "there {is} {c} {n}", "our client asked for {c} {n}",
)  # fmt: skip
GROUND_CLAUSES = (
    "on {c}", "on {c}", "on solid {c}", "on plain {c}", "against {c}", "set against {c}",
    "over {c}", "{c} behind it", "{c} all around", "{c} underneath", "everything else {c}",
    "the rest {c}", "{c} everywhere else", "{c} from edge to edge", "all around it {c}",
    "behind it {c}", "around it {c}", "filled with {c}", "covered in {c}", "on pure {c}",
    "{c} behind the words", "surrounded by {c}", "printed on {c}", "on a field of {c}",
    "{c} beneath the letters", "apart from the letters all {c}",
)  # fmt: skip
"""Clauses without a noun, or with one that no other colour may have."""

GROUND_SENTENCES = (
    "everything else is {c}", "behind it is nothing but {c}", "it stands on {c}",
    "the rest is {c}", "fill the rest with {c}", "put it on {c}", "{c} is behind the words",
    "what is not lettering is {c}", "cover everything behind in {c}", "it is printed on {c}",
    "all around is {c}", "leave the rest {c}", "flood the page with {c}", "it sits on solid {c}",
)  # fmt: skip
INK_CLAUSES = (
    "in {c}", "in {c}", "written in {c}", "lettered in {c}", "printed in {c}", "spelled in {c}",
    "typed in {c}", "drawn in {c} ink", "set in {c}", "stamped in {c}", "inked in {c}",
)  # fmt: skip
BOTH = (
    "{i} {n} on a {g} {b}", "{i} {n} on a {g} {b}", "{i} {n} on {g} {b}", "{i} {n} over a {g} {b}",
    "{i} {n} against a {g} {b}", "{n} in {i} on a {b} in {g}", "{g} {b} with {i} {n}",
    "{g} {b} and {i} {n}", "{g} {b} under {i} {n}", "{g} {b} behind {i} {n}",
    "{i} {n} atop a {g} {b}", "{n}/{b}: {i}/{g}", "{b}/{n}: {g}/{i}",
    "{n} and {b} in {i} and {g} respectively", "{b} and {n} in {g} and {i} respectively",
    "{n} {i}, {b} {g}", "{b} {g}, {n} {i}", "{n}: {i}, {b}: {g}", "{b}: {g}, {n}: {i}",
    "{n}: {i}; {b}: {g}", "{b}={g}, {n}={i}", "{i} for the {n} and {g} for the {b}",
    "{g} for the {b}, {i} for the {n}", "{i} ({n}) and {g} ({b})", "colors: {g} ({b}), {i} ({n})",
    "palette: {i} {n}, {g} {b}", "{i} {n} that stand out from a {g} {b}",
    "on a {g} {b} {n} in {i}", "a {g} {b} that carries {i} {n}", "{g}-colored {b}, {i}-colored {n}",
    "{b} in {g} with {n} in {i}", "{b} in {g}, {n} in {i}", "{n} in {i}, {b} in {g}",
    "{i} {n} with a {g} {b}", "{i} {n} + {g} {b}", "{g} {b} / {i} {n}", "{i} as {n}, {g} as {b}",
)  # fmt: skip
BOTH_SENTENCES = (
    "the {n} {is} {i} and the {b} is {g}", "the {b} is {g} and the {n} {is} {i}",
    "the {b} is {g} while the {n} {is} {i}", "the {n} {is} {i}, whereas the {b} is {g}",
    "make the {n} {i} and the {b} {g}", "make the {b} {g} and the {n} {i}",
    "use {i} for the {n} and {g} for the {b}", "I want {g} for the {b} and {i} for the {n}",
    "put {i} {n} on a {g} {b}", "on a {g} {b}, write the {n} in {i}",
    "the {i} {n} should stand on a {g} {b}", "the {g} {b} carries {i} {n}",
    "could the {b} be {g} and the {n} {i}?", "could the {n} be {i} and the {b} {g}?",
    "two colors: {i} for the {n}, {g} for the {b}", "take {g} as {b} color and {i} as {n} color",
    "a {g} {b} is all there is behind the {i} {n}", "color the {b} {g}, then add the {n} in {i}",
)  # fmt: skip
BARE = (
    "{i} on {g}", "{i} on {g}", "{i} on {g}", "{i} on a {g} {b}", "{i} {n} on {g}",
    "{i} {n} on {g}", "{n} in {i} on {g}", "{i} over {g}", "{i} against {g}", "{i}-on-{g}",
    "{i} {n} over {g}", "{i} {n} against {g}", "{i} {n} atop {g}", "{g} with {i} {n}",
    "{g} under {i} {n}", "{g} behind {i} {n}", "{g} beneath {i} {n}", "{g} around {i} {n}",
    "all {g} with {i} {n}", "in {i} on {g}", "in {i} against {g}", "on {g} in {i}",
    "on {g}, {n} in {i}", "on {g} with {i} {n}", "printed in {i} on {g}", "written in {i} over {g}",
    "{i} print on {g}", "{n} {i}, everything else {g}", "{n} {i}, the rest {g}",
    "{g} everywhere except the {i} {n}", "all {g} but the {n} in {i}",
)  # fmt: skip
"""Patterns without a noun for the ground. They do not say what kind of surface it is."""

JOINTS = ("; ", ", ", " / ", " + ", ", and ", ", with ", " - ", " | ", ", then ", " & ")


def letters_noun(pick: Pick, alone: bool) -> tuple[str, bool]:
    """A noun for the letters and whether it is a plural. `alone`: there is only one phrase."""
    roll = pick.number()
    if roll < 0.45:
        return pick(PLURAL), True
    return (pick(ALONE) if alone and roll > 0.8 else pick(SINGULAR)), False


def filled(pattern: str, noun: str, plural: bool, color: str) -> str:
    """A pattern for one role with its noun and colour."""
    pattern = pattern.replace("a {c}", article(color)) if " a {c}" in pattern else pattern
    return pattern.format(
        n=noun, c=color, C=capital(color), s="" if plural else "s",
        **{"is": "are" if plural else "is", "has": "have" if plural else "has"},
    )  # fmt: skip


def both(pattern: str, noun: str, plural: bool, below: str, ink: str, ground: str) -> str:
    """A pattern for both roles with its nouns and colours."""
    if pattern.startswith("a {g}"):
        pattern = article(ground) + pattern[5:]
    pattern = pattern.replace(" a {g}", f" {article(ground)}").replace("stand out", "stand" + (
        " out" if plural else "s out"
    ))  # fmt: skip
    return pattern.format(n=noun, b=below, i=ink, g=ground, **{"is": "are" if plural else "is"})


def statements(
    pick: Pick,
    ink: str | None,
    ground: str | None,
    grounds: Sequence[str] = GROUNDS,
    bare: bool = True,
    alone: bool = True,
    sentences: bool = False,
) -> list[str]:
    """One or two statements that give each named colour its role, in any order.

    `grounds` are nouns for the ground; `bare` allows a ground without its noun; with `sentences`,
    whole sentences (without capital and full stop), else clauses that stand between commas.
    """
    noun, plural = letters_noun(pick, alone)
    below = pick.often(grounds, 3)
    if ink and ground and pick.chance(0.5):
        patterns = BARE if bare and pick.chance(0.5) else BOTH
        if sentences and pick.chance(0.75):
            patterns = BOTH_SENTENCES
        return [both(pick.often(patterns, 5), noun, plural, below, ink, ground)]
    found = []
    if ink:
        patterns = SENTENCES if sentences else INK_CLAUSES if pick.chance(0.1) else CLAUSES
        found.append(filled(pick.often(patterns, 4), noun, plural, ink))
    if ground:
        patterns = SENTENCES if sentences else CLAUSES
        if bare and pick.chance(0.4):
            patterns = GROUND_SENTENCES if sentences else GROUND_CLAUSES
        found.append(filled(pick.often(patterns, 4), below, False, ground))
    if len(found) == 2 and pick.chance(0.5):
        found.reverse()
    if len(found) == 2 and not sentences and pick.chance(0.45):
        return [pick(JOINTS).join(found)]
    return found
