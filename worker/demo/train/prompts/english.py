"""English clauses about the parts of a poster."""

from posters.poster import Phrase, Poster
from prompts import color_roles
from prompts import family_names as families
from prompts import scene_names as scenes
from prompts.color_names import ENGLISH_NAMES, NEON, PASTEL
from prompts.naming import HAN, Naming
from prompts.pick import Pick, article

NOUNS = (
    "headline", "title", "text", "words", "lettering", "slogan", "caption", "message",
    "inscription", "heading", "tagline", "phrase", "label", "text", "headline", "line", "writing",
    "wording",
)  # fmt: skip
CHINESE_NOUNS = (
    "Chinese text", "Chinese characters", "Chinese", "Chinese title", "traditional Chinese",
    "simplified Chinese", "Chinese words", "Chinese headline", "Mandarin text",
)  # fmt: skip
VERBS = (
    "that says", "saying", "that reads", "reading", "with the words", "with the text",
    "which says", "with the headline", "titled", "called", "named", "labelled",
    "bearing the words", "showing", "with the title", "with the slogan", "displaying the words",
    "featuring the text", "with", "and it says", "that has the words", "with the name",
    "with the inscription", "that spells", "emblazoned with", "on which is written",
    "with the word", "whose text is", "where it says", "spelling", "marked", "entitled",
    "with the phrase",
)  # fmt: skip
ABOVE = (
    "{0} above {1}", "{0} and {1}", "{0}, {1}", "{0} and below it {1}", "{0} with {1} underneath",
    "{0} and under it {1}", "{0} followed by {1}", "{0}, then {1}", "{0}, below that {1}",
    "{0} over {1}", "{0} plus {1}", "{0} / {1}", "first {0}, then {1}",
)  # fmt: skip
WRITTEN = ("written on it", "printed on it", "on it", "as text", "as the headline", "in print")
"""What may follow a quote."""

MASS = ("paper", "wood", "brickwork", "stock", "parchment", "grain", "card stock", "texture")


def color(pick: Pick, key: str) -> str:
    """A name of the colour; half of the time its key."""
    return key if pick.chance(0.5) else pick(ENGLISH_NAMES[key])


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an", unless it is a plural or a material."""
    head = phrase
    for word in (
        " with ",
        " on ",
        " and ",
        " across ",
        " over ",
        " fading ",
        " into ",
        " of ",
        " at ",
    ):
        head = head.partition(word)[0]
    last = head.split()[-1]
    if (last.endswith("s") and last != "canvas") or last in MASS:
        return phrase
    return article(phrase)


def thing(pick: Pick, poster: Poster, names: Naming) -> tuple[str, bool, bool]:
    """The kind of picture without its article, whether it names the surface, and the ground."""
    if poster.surface in scenes.SURFACE_THINGS and pick.chance(0.6):
        noun = pick(scenes.SURFACE_THINGS[poster.surface])
        colored = names.ground and not poster.accent and poster.surface in ("tote", "mug", "card")
        if colored and pick.chance(0.6):
            return f"{color(pick, poster.ground)} {noun}", True, True
        return noun, True, False
    if poster.surface == "plain" and names.ink and names.ground and pick.chance(0.1):
        return pick(scenes.COLORFUL_THINGS), False, False
    return pick(scenes.THINGS), False, False


def ground(pick: Pick, poster: Poster, names: Naming, surface_told: bool) -> str:
    """The ground without an article or preposition; empty if nothing is to be said."""
    if poster.accent and not (poster.surface == "plain" and poster.border):
        wording = pick(scenes.ACCENTED[poster.surface])
        accent = color(pick, poster.accent)
        return wording.format(g=color(pick, poster.ground) + " ", a=accent)
    if poster.surface == "banner" and not surface_told and not names.ground:
        return pick(scenes.SURFACE_THINGS["banner"])
    if surface_told or poster.surface == "plain":
        if not names.ground:
            return ""
        if pick.chance(0.3):
            return f"{color(pick, poster.ground)} {pick(color_roles.SURFACES)}"
        return pick(scenes.GROUNDS["plain"]).format(g=color(pick, poster.ground) + " ")
    name = color(pick, poster.ground) + " " if names.ground else ""
    if poster.surface == "gradient" and poster.ground in PASTEL and pick.chance(0.3):
        name = "pastel "
    return pick(scenes.GROUNDS[poster.surface]).format(g=name)


def extras(pick: Pick, poster: Poster) -> list[str]:
    """Clauses about border and shadow."""
    found = []
    if poster.border:
        named = poster.accent and (poster.surface == "plain" or pick.chance(0.4))
        accent = color(pick, poster.accent) + " " if named else ""
        text = pick(scenes.BORDERS).format(a=accent)
        if accent and accent[0] in "aeiou":
            text = text.replace(f" a {accent}", f" an {accent}")
        found.append(text)
    if poster.shadow:
        found.append(pick(scenes.SHADOWS))
    return found


def style(pick: Pick, poster: Poster, names: Naming, after_in: bool = False) -> str:
    """The letters' weight, colour and family: "bold red Helvetica". May be empty.

    After "in", a colour may stand alone.
    """
    weight = [pick(families.WEIGHTS)] if pick.chance(0.4) else []
    ink = [color(pick, poster.ink)] if names.ink else []
    if poster.ink in NEON and poster.surface == "night" and pick.chance(0.3):
        ink = ["neon"]
    kind, font = [], ""
    if names.family:
        if pick.chance(0.4):
            font = pick(families.FONTS[poster.family])
        else:
            kind = [pick(families.KINDS[poster.family])]
    elif poster.family == families.FAMILY and pick.chance(0.2):
        if pick.chance(0.5):
            font = pick(families.UNKNOWN_FONTS)
        else:
            kind = [pick(families.UNKNOWN_KINDS)]
    if not (weight or ink or kind or font):
        return ""
    letters = pick(families.LETTERS)
    roll = pick.number()
    if font:
        if roll < 0.45:
            return " ".join([*weight, *ink, font])
        if roll < 0.65:
            return " ".join([*weight, *ink, font, pick(("letters", "font", "type", "lettering"))])
        if roll < 0.85 and ink:
            return " ".join([*weight, font, "in", *ink])
        return " ".join([*weight, *ink, letters, pick(("in", "set in", "in the font")), font])
    if ink and kind and roll < 0.15:
        return " ".join([*weight, *kind, letters, "in", *ink])
    if ink and kind and roll < 0.22:
        return " ".join([*weight, *kind, letters, "colored", *ink])
    if after_in and ink and not kind and not weight and roll < 0.4:
        return ink[0]
    words = [*weight, *ink, *kind]
    if roll > 0.8:
        words = [*ink, *weight, *kind]
    return " ".join([*words, letters])


def _noun(pick: Pick, phrase: Phrase) -> str:
    if HAN.search(phrase.text) and pick.chance(0.45):
        return pick(CHINESE_NOUNS)
    return pick(NOUNS)


def clause(pick: Pick, phrase: Phrase, quote: str, position: bool, size: bool) -> str:
    """A clause that holds the quoted words, as in "large headline “SALE” at the top".

    It starts with the quote or a noun without article, never with a preposition.
    """
    before = [pick(scenes.SIZES[phrase.size])] if size else []
    if position and pick.chance(0.35):
        before.append(pick(scenes.POSITION_WORDS[phrase.position]))
        position = False
    place = pick(scenes.POSITIONS[phrase.position]) if position else ""
    if before or pick.chance(0.65):
        noun = " ".join([*before, _noun(pick, phrase)])
        roll = pick.number()
        if roll < 0.2 and not place:
            return f"{noun}: {quote}"
        if roll < 0.36 and place:
            return f"{noun} {place}: {quote}"
        if roll < 0.42:
            return f"{noun} {pick(('reading', 'saying'))} {quote} {place}".rstrip()
        return f"{noun} {quote} {place}".rstrip()
    if pick.chance(0.12):
        return f"{quote} {pick(WRITTEN)} {place}".rstrip()
    return f"{quote} {place}".rstrip()


def clauses(pick: Pick, poster: Poster, quotes: list[str], names: Naming) -> list[str]:
    """A clause for each phrase, or one for two phrases that stand below each other."""
    phrases = poster.phrases
    if names.together(phrases) and pick.chance(0.7):
        together = pick(ABOVE).format(*quotes)
        return [clause(pick, phrases[0], together, any(names.positions), False)]
    found = [
        clause(pick, *row)
        for row in zip(phrases, quotes, names.positions, names.sizes, strict=True)
    ]
    apart = len(found) == 2 and phrases[0].position != phrases[1].position
    if apart and all(names.positions) and pick.chance(0.15):
        found.reverse()  # both positions are told, so the order does not matter
    return found
