"""English frames: how people lay out what they want, put together from openings, separators,
wrappings and endings.

A frame takes a `Parts`: the kind of picture, the clauses with the quoted words in their order, and
the other facts in any order.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prompts.pick import Pick, article, capital


@dataclass
class Parts:
    """What a prompt has to say. `thing` is the kind of picture without article, or empty; `texts`
    are the clauses with quoted words; `facts` and `sentences` say the rest in clauses and in whole
    sentences; `extra` are distracting clauses."""

    thing: str
    texts: list[str]
    facts: list[str]
    sentences: list[str]
    extra: list[str]


QUALITY = (
    "4k", "8k", "highly detailed", "sharp", "best quality", "masterpiece", "ultra detailed", "HD",
    "high resolution", "crisp edges", "professional", "award winning", "vector", "no blur",
    "studio light", "50mm", "f/2.8", "centered composition", "flat lay", "35mm film", "eye level",
    "macro lens", "wide shot", "front view", "high quality", "print ready", "trending", "clean",
)  # fmt: skip
TAGS = (
    "design", "poster", "typography", "minimal", "art", "lettering", "graphic", "print", "retro",
    "love", "sale", "shop", "style", "modern", "type", "new", "daily", "inspo", "studio", "ad",
)  # fmt: skip
PARAMETERS = ("--ar 1:1", "--v 6", "--style raw", "--q 2", "--no blur", "--s 250", "--hd")
SEPARATORS = (
    ", ", ", ", " / ", " // ", " - ", " — ", " – ", " + ", " | ", "; ", " > ", ". ", "\n", ",",
    " :: ", " ~ ", " * ", "... ", " && ", " -> ",
)  # fmt: skip
WRAPS = (("", ""),) * 8 + (("[", "]"), ("(", ")"), ("<", ">"), ("{", "}"), ("*", "*"), ("((", "))"))
BULLETS = ("- ", "* ", "+ ", "-- ", "> ", "o ", "# ", "~ ")
GREETINGS = (
    "Hi", "Hello", "Hey", "Hi all", "Dear team", "Good morning", "Hi there", "Hey folks", "Morning",
    "Dear designer", "Hi again", "Hello everyone", "To whom it may concern", "Hey guys", "Ok", "So",
)  # fmt: skip
REQUESTS = (
    "we need", "I need", "could you make", "please send me", "I am looking for", "can you do",
    "we would like", "please prepare", "would you mind making", "I want", "can someone make",
    "anyone able to do", "trying to get", "I have to make", "our team needs", "please create",
    "here is the brief for", "a friend asked for", "let us do", "next up:", "request:",
    "looking for", "help with", "quick one:", "todo:", "task:", "job:", "could I have",
)  # fmt: skip
DETAILS = (
    "Details:", "Details below:", "Specs:", "What matters:", "It needs:", "Must have:", "Brief:",
    "The rest:", "Notes:", "As follows:", "With:", "Requirements:", "Here goes:", "Please mind:",
)  # fmt: skip
SIGNED = (
    "Thanks", "Thank you", "Best", "Cheers", "Regards", "Kind regards", "Thanks in advance",
    "Many thanks", "Best wishes", "Bye", "thx", "ty", "lol", "See you", "Talk soon", "Greetings",
)  # fmt: skip
SENDERS = ("", "", "", ", Anna", ", Tom", ", M.", ", the team", ", Jo", ", Sam", "!", ".")
SUBJECTS = ("Subject: ", "Re: ", "Title: ", "FW: ", "[Request] ", "[Help] ", "Topic: ", "Q: ")
ITEM_KEYS = ("Item", "Product", "Deliverable", "Type", "Format", "Object", "What", "Kind", "Piece")
TEXT_KEYS = ("Copy", "Text", "Wording", "Reads", "Says", "Content", "Words", "Message", "Claim")
FACT_KEYS = ("Look", "Style", "Design", "Notes", "Colors", "Art direction", "Visual", "Detail")
EXTRA_KEYS = ("Mood", "Extras", "Context", "Camera", "Remarks", "Scene", "Other")
SAYS = (
    "it says", "the text reads", "it must say", "the words are", "on it we read", "text:",
    "it should read", "write", "you can read", "the copy is", "wording:", "it spells out",
    "what it says:", "with this on it:", "put this on it:", "it reads", "spelling",
)  # fmt: skip
FIRST = (
    "Picture this:", "Imagine", "Think of", "Close your eyes:", "View of", "Shot of", "Scene:",
    "Frame:", "Prompt:", "Idea:", "Concept:", "Draft:", "Mock-up:", "Photo:", "Image:", "Output:",
    "Result:", "Now showing:", "Camera on", "Close-up:", "Wide shot:", "Still life:", "Sketch:",
)  # fmt: skip


def _kind(pick: Pick, parts: Parts) -> str:
    """The kind of picture, with or without article."""
    thing = parts.thing or pick(("picture", "image", "design", "graphic", "piece"))
    return article(thing) if pick.chance(0.6) else thing


def _end(pick: Pick, text: str) -> str:
    """The text with what people put behind a prompt."""
    roll = pick.number()
    if roll < 0.62:
        return text
    if roll < 0.76:
        found = ", ".join(pick(QUALITY) for _ in range(1 + pick.index(2)))
        return f"{text}{pick((', ', '. ', ' '))}{found}"
    if roll < 0.82:
        return text + " " + " ".join("#" + pick(TAGS) for _ in range(1 + pick.index(3)))
    if roll < 0.87:
        return text + " " + " ".join(pick(PARAMETERS) for _ in range(1 + pick.index(2)))
    return text + pick((".", "!", " please", " - thanks", " ...", " pls", "?", ", ok?", " :)"))


def _any_order(pick: Pick, parts: Parts, thing: str) -> list[str]:
    """All clauses: those with words keep their order, everything else stands anywhere."""
    found = list(parts.texts)
    for fact in (*parts.facts, *parts.extra):
        found.insert(pick.index(len(found) + 1), fact)
    if thing:
        found.insert(0 if pick.chance(0.6) else pick.index(len(found) + 1), thing)
    return found


def _said(pick: Pick, parts: Parts) -> str:
    """A clause that says which words are shown."""
    return f"{pick(SAYS)} {pick((' and ', ', ', ' + ', ' then ')).join(parts.texts)}"


def telegram(pick: Pick, parts: Parts) -> str:
    """Clauses between any separators, at times each in brackets."""
    left, right = pick(WRAPS)
    rows = [f"{left}{row}{right}" for row in _any_order(pick, parts, parts.thing)]
    head = pick(FIRST) + " " if pick.chance(0.15) else ""
    return _end(pick, head + pick(SEPARATORS).join(rows))


def bullets(pick: Pick, parts: Parts) -> str:
    """A line that asks for the thing, and a list."""
    rows = _any_order(pick, parts, "")
    mark = pick(BULLETS)
    if pick.chance(0.3):
        closing = pick((". ", ") ", ": "))
        rows = [f"{number}{closing}{row}" for number, row in enumerate(rows, 1)]
    else:
        rows = [mark + (capital(row) if pick.chance(0.3) else row) for row in rows]
    head = f"{pick(REQUESTS)} {_kind(pick, parts)}" if pick.chance(0.7) else _kind(pick, parts)
    head = capital(head) + pick((":", "", " with:", ".", " - "))
    return "\n".join([head, *rows])


def brief(pick: Pick, parts: Parts) -> str:
    """Keys and values, as in a product brief."""
    rows = [f"{pick(ITEM_KEYS)}: {parts.thing}"] if parts.thing else []
    rows.append(f"{pick(TEXT_KEYS)}: {pick((' / ', ', ', ' + ', ' and ')).join(parts.texts)}")
    key = pick(FACT_KEYS)
    rows += [row if ":" in row or pick.chance(0.3) else f"{key}: {row}" for row in parts.facts]
    rows += [f"{pick(EXTRA_KEYS)}: {row}" for row in parts.extra]
    rows = pick.shuffled(rows) if pick.chance(0.6) else rows
    if pick.chance(0.2):
        rows = [row.upper() if '"' not in row and ":" not in row else row for row in rows]
    return pick(("\n", "\n", "; ", " | ", " / ", ". ", ", ")).join(rows)


def email(pick: Pick, parts: Parts) -> str:
    """A greeting, sentences, and a farewell; parts of it may be missing."""
    head = f"{pick(GREETINGS)}{pick((', ', '! ', ' - ', '. ', chr(10)))}"
    wish = f"{pick(REQUESTS)} {_kind(pick, parts)}"
    rows = [_said(pick, parts), *parts.sentences, *parts.extra]
    rows = pick.shuffled(rows) if pick.chance(0.5) else rows
    if pick.chance(0.35):
        body = f"{wish}{pick((', ', ': ', '. ', ' - '))}{pick((', ', '; ', ' and ')).join(rows)}."
    else:
        body = " ".join(_sentence(pick, row) for row in (wish, *rows))
    if pick.chance(0.3):
        head = f"{pick(SUBJECTS)}{parts.thing or 'design'}\n{head}"
    end = f"{pick((' ', chr(10)))}{pick(SIGNED)}{pick(SENDERS)}" if pick.chance(0.7) else ""
    return head + body + end


def _sentence(pick: Pick, text: str) -> str:
    text = capital(text) if pick.chance(0.65) else text
    return text if text[-1] in ".?!" else text + pick((".", ".", ".", "!"))


def notes(pick: Pick, parts: Parts) -> str:
    """Whole sentences one after the other, the thing in any of them."""
    rows = [_said(pick, parts), *parts.sentences]
    kind = _kind(pick, parts)
    first = pick((f"{pick(FIRST)} {kind}", kind, f"{pick(REQUESTS)} {kind}", f"this is {kind}"))
    rows = pick.shuffled([*rows, *parts.extra]) if pick.chance(0.6) else [*rows, *parts.extra]
    rows.insert(0 if pick.chance(0.8) else len(rows), first)
    return _end(pick, " ".join(_sentence(pick, row) for row in rows))


def forum(pick: Pick, parts: Parts) -> str:
    """A post: a subject, the wish, details in clauses."""
    head = pick((*SUBJECTS, "", "", "")) + f"{pick(REQUESTS)} {_kind(pick, parts)}"
    details = pick((", ", "; ", " / ", " and ")).join(_any_order(pick, parts, ""))
    text = f"{capital(head)}{pick(('. ', ': ', ' - ', '? ', chr(10), ' (details below). '))}"
    text += f"{pick(DETAILS)} {details}" if pick.chance(0.5) else details
    return f"{text}. {pick(SIGNED)}" if pick.chance(0.35) else _end(pick, text)


def question(pick: Pick, parts: Parts) -> str:
    """One question."""
    start = pick((
        "Can you make", "Could you draw", "How about", "Would it be possible to get", "What about",
        "Can I have", "Do you think you could do", "Is it possible to draw", "May I ask for",
    ))  # fmt: skip
    rows = _any_order(pick, parts, "")
    return f"{start} {_kind(pick, parts)}{pick((' with ', ', ', ': ', ' - '))}{', '.join(rows)}?"


def caption(pick: Pick, parts: Parts) -> str:
    """The caption of a picture: the thing, then details in brackets or behind a dash."""
    rows = _any_order(pick, parts, "")
    head = f"{pick((*FIRST, '', '', '', ''))} {_kind(pick, parts)}".strip()
    if len(rows) > 1 and pick.chance(0.5):
        inside = ", ".join(rows[1:])
        return _end(pick, f"{head}{pick((': ', ', ', ' - ', ' | '))}{rows[0]} ({inside})")
    return _end(pick, f"{head}{pick((' - ', ' — ', ': ', ' with ', '. '))}{', '.join(rows)}")


FRAMES: tuple[Callable[[Pick, Parts], str], ...] = (
    *[telegram] * 6, *[bullets] * 2, *[brief] * 3, *[email] * 3, *[notes] * 5, *[forum] * 3,
    *[question] * 2, *[caption] * 4,
)  # fmt: skip
"""The frames, each as often as it is used."""
