"""English prompts: the clauses of `english` in many orders and forms, among distractors."""

import re

from posters.poster import Poster
from prompts import english
from prompts import scene_names as scenes
from prompts.distractors import Distractors
from prompts.naming import Naming, naming
from prompts.pick import Pick, article, capital
from prompts.quotes import quoted

WISHES = (
    "please make me", "please make", "make", "create", "design", "draw", "generate", "draw me",
    "I need", "I want", "I'd like", "we need", "give me", "produce", "could you make",
    "can you draw", "can you design", "would you please create", "imagine", "show me", "paint",
    "I'm looking for", "let's have", "help me make", "could I get", "we're looking for",
    "my boss wants", "render", "how about", "compose", "craft", "picture", "may I have", "sketch",
    "do you have", "a photo of", "an image of", "a picture of", "photo of", "a drawing of",
    "illustration of", "a close-up of", "a photograph of", "a mock-up of", "think of", "here is",
    "this is", "it's",
)  # fmt: skip
JOINTS = (", ",) * 16 + ("; ", " - ", " | ", ". ", "\n", " / ", ". ", " – ")
UNQUOTED = ("headline", "title", "text", "Headline", "Title", "Text", "slogan", "caption", "words")


def english_prompt(pick: Pick, poster: Poster, texts: Distractors, rng) -> str:
    """An English prompt for the poster."""
    names = naming(pick, poster)
    quotes = quoted(pick, [phrase.text for phrase in poster.phrases], chinese=False)
    if not quotes:
        return _without_text(pick, poster, names, texts, rng)
    roll = pick.number()
    if roll < 0.035 and all(re.fullmatch(r"[\w &%$€#@+/-]+", p.text) for p in poster.phrases):
        quotes = [f"{pick(UNQUOTED)}: {phrase.text}" for phrase in poster.phrases]
        return _unquoted(pick, poster, quotes, names, texts, rng)
    if roll < 0.37:
        return _list(pick, poster, quotes, names, texts, rng)
    if roll < 0.70:
        return _sentence(pick, poster, quotes, names, texts, rng)
    if roll < 0.84:
        return _sentences(pick, poster, quotes, names, texts, rng)
    if roll < 0.95:
        return _terse(pick, poster, quotes, names)
    return _fields(pick, poster, quotes, names, texts, rng)


def _how_many(pick: Pick) -> int:
    """Number of distracting clauses."""
    roll = pick.number()
    return 0 if roll < 0.3 else 1 if roll < 0.62 else 2 if roll < 0.85 else 3 if roll < 0.96 else 5


def _ground(pick: Pick, poster: Poster, names: Naming, told: bool, ground_told: bool) -> str:
    return "" if ground_told else english.ground(pick, poster, names, told)


def _cased(pick: Pick, text: str) -> str:
    return capital(text) if pick.chance(0.6) else text


def _around(pick: Pick, text: str, texts: Distractors, rng, share: float = 0.3) -> str:
    """The text, with a distracting sentence before or after it in a share of all cases."""
    if pick.chance(share):
        text = f"{text}{pick(('.', '.', ',', ''))} {texts.sentence(rng)}"
    if pick.chance(share / 2):
        text = f"{texts.sentence(rng)} {text}"
    return text


def _ended(text: str, mark: str) -> str:
    """The text with `mark` at its end unless it has one."""
    return text if text[-1] in ".!?" else text + mark


def _list(pick: Pick, poster, quotes, names, texts, rng) -> str:
    """Clauses between commas, in the order that people like or in any other."""
    noun, told, ground_told = english.thing(pick, poster, names)
    kind = noun if pick.chance(0.6) else article(noun)
    if pick.chance(0.3):
        kind = f"{kind} {texts.purpose(rng)}"
    parts = english.clauses(pick, poster, quotes, names)
    merged = pick.chance(0.65)
    style = english.style(pick, poster, names, after_in=merged)
    if style and merged:
        # The style belongs to all phrases: with two of them, it follows the last or stands alone.
        parts[-1] = (
            f"{parts[-1]} {pick(('in', 'in', 'in', 'set in', 'written in', 'done in'))} {style}"
        )
        style = ""
    parts += [part for part in (style, _ground(pick, poster, names, told, ground_told)) if part]
    parts += english.extras(pick, poster)
    if len(quotes) == 1 and pick.chance(0.4):
        parts = pick.shuffled(parts)
    if told or ground_told or pick.chance(0.75):
        parts.insert(0 if pick.chance(0.85) else len(parts), kind)
    for _ in range(_how_many(pick)):
        parts.insert(int(pick.number() * (len(parts) + 1)), texts.clause(rng))
    text = _cased(pick, pick(JOINTS).join(parts))
    return _ended(_around(pick, text, texts, rng, 0.12), pick((".", "", "", "")))


def _on(pick: Pick, ground: str) -> str:
    """The ground with a preposition: "on a white background"."""
    return f"{pick(('on', 'on', 'on', 'against', 'over', 'in front of'))} {english.with_article(ground)}"


def _sentence(pick: Pick, poster, quotes, names, texts, rng) -> str:
    """One sentence, from a noun phrase to a wish or a question."""
    noun, told, ground_told = english.thing(pick, poster, names)
    head = article(noun) if pick.chance(0.8) else noun
    if pick.chance(0.5):
        wish = pick(WISHES)
        head = f"{wish} {article(noun)}"
    if pick.chance(0.35):
        head = f"{head} {texts.purpose(rng)}"
    clauses = english.clauses(pick, poster, quotes, names)
    if clauses[0][0] in "\"“'‘「『«„" or clauses[0].startswith("first"):
        head = f"{head} {pick(english.VERBS)} {clauses[0]}"
    else:
        head = f"{head} {pick(('with', 'with the', 'with the', 'that has the', 'and the', 'showing the'))} {clauses[0]}"
    for other in clauses[1:]:
        head = f"{head}{pick((' and ', ', ', ' and the ', ' with '))}{other}"
    parts = []
    if style := english.style(pick, poster, names, after_in=True):
        verb = pick(("in", "in", "in", "written in", "set in", "printed in", "in", "lettered in"))
        parts.append(f"{verb} {style}")
    if ground := _ground(pick, poster, names, told, ground_told):
        parts.append(_on(pick, ground))
    if pick.chance(0.3):
        parts.reverse()
    parts += [f", {extra}" for extra in english.extras(pick, poster)]
    for _ in range(_how_many(pick) // 2):
        parts.append(f", {texts.clause(rng)}")
    text = " ".join([head, *parts]).replace(" ,", ",")
    if ground and pick.chance(0.12):
        text = f"{_on(pick, ground)}, {text}"
    elif pick.chance(0.12):
        text = f"{texts.clause(rng)}, {text}"
    text = _around(pick, _cased(pick, text), texts, rng)
    return _ended(text, pick((".", ".", "", "", "!", "?")))


def _sentences(pick: Pick, poster, quotes, names, texts, rng) -> str:
    """Several short sentences, with distracting ones between them."""
    noun, told, ground_told = english.thing(pick, poster, names)
    first = f"{pick(('', '', 'there is ', 'make ', 'I need ', 'please draw ', 'this is '))}{article(noun)}"
    if pick.chance(0.3):
        first = f"{first} {texts.purpose(rng)}"
    ground = _ground(pick, poster, names, told, ground_told)
    found = []
    if ground and pick.chance(0.5):
        first = f"{first} {_on(pick, ground)}"
    elif ground:
        verb = pick(
            ("the background is", "behind it:", "it has", "I want", "for the ground use", "use")
        )
        found.append(f"{verb} {english.with_article(ground)}")
    clauses = english.clauses(pick, poster, quotes, names)
    said = pick(("it says", "the text is", "write", "it reads", "the words:", "put", "add", "text:",
                 "it shows the words", "on it is written", "the sign reads", "please write"))  # fmt: skip
    if clauses[0][0] not in "\"“'‘「『«„":
        said = pick(
            ("it has the", "add the", "show the", "with the", "put the", "write the", "the")
        )
    found.append(f"{said} {pick((' and ', ', ')).join(clauses)}")
    if style := english.style(pick, poster, names):
        verb = pick(("the letters are in", "use", "set it in", "written in", "letters:", "font:",
                     "it is written in", "please use", "the text should be in", "style:"))  # fmt: skip
        found.append(f"{verb} {style}")
    found += english.extras(pick, poster)
    if pick.chance(0.35):
        found = pick.shuffled(found)
    found.insert(0, first)
    ends = (".", ".", ".", "!", ".")
    found = [capital(part) + pick(ends) for part in found]
    for _ in range((_how_many(pick) + 1) // 2):
        found.insert(int(pick.number() * (len(found) + 1)), texts.sentence(rng))
    text = " ".join(found)
    return text if pick.chance(0.8) else text.rstrip(".")


def _terse(pick: Pick, poster, quotes, names) -> str:
    """As little as possible: `"OPEN" sign`."""
    noun, told, ground_told = english.thing(pick, poster, names)
    clauses = english.clauses(pick, poster, quotes, names)
    text = pick((" and ", ", ", " ")).join(clauses)
    roll = pick.number()
    if roll < 0.25:
        text = f"{text} {noun}"
    elif roll < 0.45:
        text = f"{noun} {text}"
    elif roll < 0.6:
        text = f"{noun}: {text}"
    elif roll < 0.7:
        text = f"{article(noun)} {pick(english.VERBS)} {text}"
    elif told:
        text = f"{text}, {noun}"
    rest = [english.style(pick, poster, names) if _must_style(poster, names) else ""]
    rest.append(_ground(pick, poster, names, told and roll < 1, ground_told))
    rest = [part for part in rest + english.extras(pick, poster) if part]
    if len(rest) == 2 and pick.chance(0.3):
        return _cased(pick, f"{text} {rest[0]} on {rest[1]}")
    return _cased(pick, pick((", ", ", ", " ")).join([text, *rest]))


def _must_style(poster: Poster, names: Naming) -> bool:
    return names.ink or names.family


def _fields(pick: Pick, poster, quotes, names, texts, rng) -> str:
    """A form: "Text: “A”; font: Courier; background: blue"."""
    noun, told, ground_told = english.thing(pick, poster, names)
    rows = [f"{pick(('text', 'headline', 'title', 'copy', 'words', 'content'))}: " + pick((", ", " + ", " and ")).join(
        english.clauses(pick, poster, quotes, names))]  # fmt: skip
    if told or ground_told or pick.chance(0.6):
        rows.append(f"{pick(('type', 'format', 'kind', 'object', 'subject'))}: {noun}")
    if style := english.style(pick, poster, names):
        rows.append(
            f"{pick(('font', 'lettering', 'letters', 'typography', 'text style'))}: {style}"
        )
    if ground := _ground(pick, poster, names, told, ground_told):
        rows.append(f"{pick(('background', 'ground', 'setting', 'backdrop'))}: {ground}")
    rows += english.extras(pick, poster)
    for _ in range(_how_many(pick)):
        rows.append(
            f"{pick(('mood', 'style', 'notes', 'scene', 'details', 'audience', 'theme', 'camera'))}: {texts.clause(rng)}"
        )
    rows = pick.shuffled(rows)
    if pick.chance(0.6):
        rows = [capital(row) for row in rows]
    return pick(("\n", "; ", ", ", ". ", " | ")).join(rows)


def _unquoted(pick: Pick, poster, fields, names, texts, rng) -> str:
    """Words without quotes after a colon; they end at a comma, a full stop or the prompt's end."""
    noun, told, ground_told = english.thing(pick, poster, names)
    parts = [_cased(pick, noun)]
    for field, phrase in zip(fields, poster.phrases, strict=True):
        placed = phrase.position != "center" or phrase.size != "large" or len(fields) > 1
        words = [pick(scenes.SIZES[phrase.size])] if phrase.size != "large" else []
        if placed:
            words.append(pick(scenes.POSITION_WORDS[phrase.position]))
        parts.append(" ".join([*words, field]))
    parts += [english.style(pick, poster, names), _ground(pick, poster, names, told, ground_told)]
    parts += english.extras(pick, poster)
    parts = [part for part in parts if part]
    for _ in range(_how_many(pick)):
        parts.insert(int(pick.number() * (len(parts) + 1)), texts.clause(rng))
    return pick((", ", ", ", ". ")).join(parts)


def _without_text(pick: Pick, poster, names, texts, rng) -> str:
    """A prompt that asks for no words: a ground and any scene."""
    noun, told, ground_told = english.thing(pick, poster, names)
    ground = _ground(pick, poster, names, told, ground_told)
    parts = [part for part in (ground, *english.extras(pick, poster)) if part]
    if told or ground_told or pick.chance(0.4):
        parts.insert(0, article(noun) if pick.chance(0.5) else noun)
    if pick.chance(0.15):
        parts.append(
            pick(("no text", "without any text", "no letters", "nothing written on it", "empty"))
        )
    count = 1 + int(pick.number() * 4)
    if not parts or pick.chance(0.6):
        for _ in range(count):
            parts.insert(int(pick.number() * (len(parts) + 1)), texts.clause(rng))
    text = pick(JOINTS).join(parts)
    if pick.chance(0.3):
        text = f"{pick(WISHES)} {text}"
    return _around(pick, _cased(pick, text), texts, rng, 0.4)
