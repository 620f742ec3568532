"""English prompts: the clauses of `english` in many orders and forms, among distractors."""

from collections.abc import Callable

from posters.poster import Poster
from prompts import color_roles, english, frames
from prompts import scene_names as scenes
from prompts.distractors import Distractors
from prompts.mentions import mention
from prompts.naming import naming
from prompts.pick import Pick, article, capital
from prompts.quotes import OPENING, UNQUOTED, quoted
from prompts.recasing import careless

WISHES = (
    "please make me", "please make", "make", "create", "design", "draw", "generate", "draw me",
    "I need", "I want", "I'd like", "we need", "give me", "produce", "could you make",
    "can you draw", "can you design", "would you please create", "imagine", "show me", "paint",
    "I'm looking for", "let's have", "help me make", "could I get", "we're looking for",
    "my boss wants", "render", "how about", "compose", "craft", "picture", "may I have", "sketch",
    "do you have", "a photo of", "an image of", "a picture of", "photo of", "a drawing of",
    "illustration of", "a close-up of", "a photograph of", "a mock-up of", "think of", "here is",
    "this is", "it's", "Hi, please make", "Dear AI, draw", "I would love", "we want to print",
)  # fmt: skip
JOINTS = (", ",) * 16 + ("; ", " - ", " | ", ". ", "\n", " / ", ". ", " – ")
FIELDS = ("headline", "title", "text", "Headline", "Title", "Text", "slogan", "caption", "words")
WRITE = (
    "it says", "the text is", "write", "it reads", "the words:", "put", "add", "text:",
    "it shows the words", "on it is written", "the sign reads", "please write",
)  # fmt: skip
HAVE = ("it has the", "add the", "show the", "with the", "put the", "write the", "the")
LETTERED = (
    "the letters are in", "use", "set it in", "written in", "letters:", "font:", "style:",
    "it is written in", "please use", "the text should be in",
)  # fmt: skip
ORDERS = (
    "write", "print", "put", "paint", "show", "draw", "letter", "spell", "render", "set", "stamp",
    "please write", "could you write", "I want to read", "typeset", "display", "carve", "place",
    "make it say", "have it say", "let it read", "engrave", "add", "please print",
)  # fmt: skip
ROLES = 0.6
"""Share of the prompts in which statements of `color_roles` name the colours."""

CROWDED = 20
"""Letters in quotes above which a prompt has few distracting clauses."""

MENTIONS = 0.2
"""Share of the distracting clauses that mention text which must not be drawn."""

BEHIND = ("the background is", "behind it:", "it has", "I want", "for the ground use", "use")


class EnglishPrompt:
    """Writes one prompt for one poster."""

    def __init__(self, pick: Pick, poster: Poster, texts: Distractors):
        self.pick, self.poster, self.texts = pick, poster, texts
        self.names = naming(pick, poster)
        self.noun, self.surface_told, ground_told = english.thing(pick, poster, self.names)
        self.ground = ""
        if not ground_told:
            self.ground = english.ground(pick, poster, self.names, self.surface_told)
        # The kind of picture must be named if it tells something of the poster.
        self.noun_needed = self.surface_told or ground_told
        # Letters in quotes are a token each, so that prompts with many have little beside them.
        self.crowded = sum(len(phrase.text) for phrase in poster.phrases) > CROWDED
        self.roles = (None, None)
        if poster.phrases and pick.chance(ROLES):
            self._take_roles(ground_told)
        self.extras = [*self._roles(), *english.extras(pick, poster)]
        self.clauses: list[str] = []

    def _take_roles(self, ground_told: bool) -> None:
        """Leaves the colours to statements of their roles where a statement can say all."""
        pick, poster, names = self.pick, self.poster, self.names
        ink = english.color(pick, poster.ink) if names.ink else None
        ground, self.grounds, self.bare = None, color_roles.GROUNDS, True
        plain = poster.surface == "plain" and (not poster.accent or poster.border)
        if names.ground and not ground_told and (plain or not poster.accent):
            if poster.surface == "plain":
                if pick.chance(0.25):
                    self.grounds = color_roles.OBJECTS
            elif self.surface_told:
                last = self.noun.partition(" of ")[0].split()[-1]
                own = poster.surface in ("tote", "mug", "card")
                self.grounds = (last,) if own else color_roles.GROUNDS[:5]
            else:
                kinds = [text for text in scenes.GROUNDS[poster.surface] if text.startswith("{g}")]
                self.grounds = [text.format(g="") for text in kinds]
                self.bare = False
            if poster.surface != "banner":
                ground, self.ground = english.color(pick, poster.ground), ""
        names.ink = False
        self.roles = (ink, ground)

    def _roles(self, sentences: bool = False) -> list[str]:
        """Statements of the colours' roles; see `color_roles`."""
        ink, ground = self.roles
        if not (ink or ground):
            return []
        alone = len(self.poster.phrases) == 1
        return color_roles.statements(
            self.pick, ink, ground, self.grounds, self.bare, alone, sentences
        )

    def write(self) -> str:
        """The prompt."""
        phrases = self.poster.phrases
        if not phrases:
            return careless(self.pick, self._without_text(), [])
        if self.pick.chance(0.035) and all(UNQUOTED.fullmatch(p.text) for p in phrases):
            return self._unquoted()
        quotes = quoted(self.pick, [phrase.text for phrase in phrases], chinese=False)
        self.clauses = english.clauses(self.pick, self.poster, quotes, self.names)
        form = self.pick(FORMS)
        return careless(self.pick, form(self), quotes)

    def _cased(self, text: str) -> str:
        return capital(text) if self.pick.chance(0.6) else text

    def _style(self, after_in: bool = False) -> str:
        return english.style(self.pick, self.poster, self.names, after_in)

    def _on_ground(self) -> str:
        """The ground with a preposition: "on a white background"."""
        place = self.pick(("on", "on", "on", "against", "over", "in front of"))
        bare = self.poster.surface == "plain" or self.surface_told
        if bare and self.ground and not self.poster.accent and self.pick.chance(0.3):
            color = english.color(self.pick, self.poster.ground)
            return f"{self.pick(('on', 'on', 'against'))} {color}"
        return f"{place} {english.with_article(self.ground)}"

    def _around(self, text: str, share: float) -> str:
        """The text, with a distracting sentence after it in this share of all cases, and before
        it in half as many."""
        if self.crowded:
            share /= 4
        if self.pick.chance(share):
            joint = "" if text[-1] in ".!?" else self.pick((".", ".", ",", ""))
            text = f"{text}{joint} {self.texts.sentence(self.pick)}"
        if self.pick.chance(share / 2):
            text = f"{self.texts.sentence(self.pick)} {text}"
        return text

    def _scatter(self, parts: list[str], count: int) -> None:
        """Inserts distracting clauses anywhere."""
        for _ in range(count):
            parts.insert(self.pick.index(len(parts) + 1), self._distraction())

    def _distraction(self) -> str:
        """A clause that no poster shows; at times it mentions text that is not drawn."""
        if self.poster.phrases and self.pick.chance(MENTIONS):
            return mention(self.pick, self.texts)
        return self.texts.clause(self.pick)

    def _distractions(self) -> int:
        """Number of distracting clauses."""
        roll = self.pick.number()
        if self.crowded:
            return int(roll > 0.7)
        return 0 if roll < 0.48 else 1 if roll < 0.82 else 2 if roll < 0.96 else 3

    def _for(self, text: str, share: float) -> str:
        """The text, with a purpose in this share of all cases."""
        return f"{text} {self.texts.purpose(self.pick)}" if self.pick.chance(share) else text

    def clause_list(self) -> str:
        """Clauses between commas, in the order that people like or in any other."""
        pick = self.pick
        kind = self._for(self.noun if pick.chance(0.6) else article(self.noun), 0.3)
        parts = list(self.clauses)
        merged = pick.chance(0.65)
        style = self._style(after_in=merged)
        if style and merged:
            # The style belongs to all phrases: with two of them, it follows the last.
            joint = pick(("in", "in", "in", "set in", "written in", "done in"))
            parts[-1] = f"{parts[-1]} {joint} {style}"
            style = ""
        parts += [part for part in (style, self.ground, *self.extras) if part]
        if len(self.clauses) == 1 and pick.chance(0.4):
            parts = pick.shuffled(parts)
        if self.noun_needed or pick.chance(0.75):
            parts.insert(0 if pick.chance(0.85) else len(parts), kind)
        self._scatter(parts, self._distractions())
        text = self._around(self._cased(pick(JOINTS).join(parts)), 0.08)
        return _ended(text, pick((".", "", "", "")))

    def sentence(self) -> str:
        """One sentence, from a noun phrase to a wish or a question."""
        pick = self.pick
        head = article(self.noun) if pick.chance(0.8) else self.noun
        if pick.chance(0.5):
            head = f"{pick(WISHES)} {article(self.noun)}"
        head = self._for(head, 0.35)
        joint = pick(("with", "with the", "with the", "that has the", "and the", "showing the"))
        if self.clauses[0].startswith((*OPENING, "first")):
            joint = pick(english.VERBS)
        head = f"{head} {joint} {self.clauses[0]}"
        for other in self.clauses[1:]:
            head = f"{head}{pick((' and ', ', ', ' and the ', ' with '))}{other}"
        parts = []
        if style := self._style(after_in=True):
            verb = pick(("in", "in", "in", "written in", "set in", "printed in", "lettered in"))
            parts.append(f"{verb} {style}")
        ground_first = bool(self.ground) and pick.chance(0.12)
        if self.ground and not ground_first:
            parts.append(self._on_ground())
        if pick.chance(0.3):
            parts.reverse()
        parts += [f", {extra}" for extra in self.extras]
        parts += [f", {self._distraction()}" for _ in range(self._distractions() // 2)]
        text = " ".join([head, *parts]).replace(" ,", ",")
        if ground_first:
            text = f"{self._on_ground()}, {text}"
        elif pick.chance(0.12):
            text = f"{self.texts.clause(pick)}, {text}"
        text = self._around(self._cased(text), 0.17)
        return _ended(text, pick((".", ".", "", "", "!", "?")))

    def order(self) -> str:
        """What to write, and where: "Write “A” in red on a white wall"."""
        pick = self.pick
        if self.clauses[0].startswith(OPENING):
            head = pick(ORDERS)
            head = f"{head} {pick(('', '', 'the words ', 'the text '))}{self.clauses[0]}"
        else:
            head = f"{pick(ORDERS)} {pick(('the', 'a', 'the', 'one'))} {self.clauses[0]}"
        for other in self.clauses[1:]:
            head = f"{head}{pick((' and ', ', then ', ' and also '))}{other}"
        parts = [head]
        if style := self._style(after_in=True):
            verb = pick(("in", "in", "using", "with")) if " " in style else "in"
            parts.append(f"{verb} {style}")
        if self.noun_needed or pick.chance(0.4):
            parts.append(f"on {article(self.noun)}")
        if self.ground:
            parts.append(self._on_ground())
        text = ", ".join([" ".join(parts), *self.extras])
        for _ in range(self._distractions() // 2):
            text = f"{text}, {self._distraction()}"
        return _ended(self._around(self._cased(text), 0.17), pick((".", "", "", "!")))

    def sentences(self) -> str:
        """Several short sentences, with distracting ones between them."""
        pick = self.pick
        opening = pick(("", "", "there is ", "make ", "I need ", "please draw ", "this is "))
        first = self._for(f"{opening}{article(self.noun)}", 0.3)
        found = []
        if self.ground and pick.chance(0.5):
            first = f"{first} {self._on_ground()}"
        elif self.ground:
            found.append(f"{pick(BEHIND)} {english.with_article(self.ground)}")
        said = pick(WRITE if self.clauses[0].startswith(OPENING) else HAVE)
        found.append(f"{said} {pick((' and ', ', ')).join(self.clauses)}")
        if style := self._style():
            found.append(f"{pick(LETTERED)} {style}")
        found += self.extras
        if pick.chance(0.35):
            found = pick.shuffled(found)
        found = [capital(part) + pick((".", ".", ".", "!")) for part in (first, *found)]
        for _ in range(self._distractions() // 2):
            found.insert(pick.index(len(found) + 1), self.texts.sentence(pick))
        text = " ".join(found)
        return text if pick.chance(0.8) else text.rstrip(".")

    def terse(self) -> str:
        """As little as possible: `"OPEN" sign`."""
        pick, noun = self.pick, self.noun
        text = pick((" and ", ", ", " ")).join(self.clauses)
        roll = pick.number()
        if roll < 0.25:
            text = f"{text} {noun}"
        elif roll < 0.45:
            text = f"{noun} {text}"
        elif roll < 0.6:
            text = f"{noun}: {text}"
        elif roll < 0.75 and self.clauses[0].startswith(OPENING):
            text = f"{article(noun)} {pick(english.VERBS)} {text}"
        elif self.noun_needed:
            text = f"{text}, {noun}"
        style = self._style() if self.names.ink or self.names.family else ""
        rest = [part for part in (style, self.ground, *self.extras) if part]
        if len(rest) == 2 and style and self.ground and pick.chance(0.3):
            return self._cased(f"{text} {style} on {self.ground}")
        return self._cased(pick((", ", ", ", " ")).join([text, *rest]))

    def form(self) -> str:
        """A form: "Text: “A”; font: Courier; background: blue"."""
        pick = self.pick
        name = pick(("text", "headline", "title", "copy", "words", "content"))
        rows = [f"{name}: {pick((', ', ' + ', ' and ')).join(self.clauses)}"]
        if self.noun_needed or pick.chance(0.6):
            rows.append(f"{pick(('type', 'format', 'kind', 'object', 'subject'))}: {self.noun}")
        if style := self._style():
            name = pick(("font", "lettering", "letters", "typography", "text style"))
            rows.append(f"{name}: {style}")
        if self.ground:
            name = pick(("background", "ground", "setting", "backdrop"))
            rows.append(f"{name}: {self.ground}")
        rows += self.extras
        for _ in range(self._distractions() // 2):
            name = pick(("mood", "style", "notes", "scene", "details", "theme", "camera"))
            rows.append(f"{name}: {self.texts.clause(pick)}")
        rows = pick.shuffled(rows)
        if pick.chance(0.6):
            rows = [capital(row) for row in rows]
        return pick(("\n", "; ", ", ", ". ", " | ")).join(rows)

    def framed(self) -> str:
        """The clauses in one of the `frames`."""
        pick = self.pick
        thing = self.noun if self.noun_needed or pick.chance(0.7) else ""
        style = self._style()
        facts = [part for part in (style, self.ground, *self.extras) if part]
        sentences = self._roles(sentences=True)
        if style:
            sentences.append(f"{pick(LETTERED)} {style}")
        if self.ground:
            sentences.append(f"{pick(BEHIND)} {english.with_article(self.ground)}")
        sentences += english.extras(pick, self.poster)
        extra = [self._distraction() for _ in range(self._distractions() // 2)]
        parts = frames.Parts(thing, self.clauses, facts, sentences, extra)
        return pick(frames.FRAMES)(pick, parts)

    def _unquoted(self) -> str:
        """Words without quotes after a colon; they end at a comma, a full stop or the end."""
        pick, phrases = self.pick, self.poster.phrases
        parts = [self._cased(self.noun)]
        for phrase in phrases:
            words = [pick(scenes.SIZES[phrase.size])] if phrase.size != "large" else []
            if phrase.position != "center" or len(phrases) > 1:
                words.append(pick(scenes.POSITION_WORDS[phrase.position]))
            parts.append(" ".join([*words, f"{pick(FIELDS)}: {phrase.text}"]))
        parts += [part for part in (self._style(), self.ground, *self.extras) if part]
        self._scatter(parts, self._distractions())
        return pick((", ", ", ", ". ")).join(parts)

    def _without_text(self) -> str:
        """A prompt that asks for no words: a ground and any scene."""
        pick = self.pick
        parts = [part for part in (self.ground, *self.extras) if part]
        if self.noun_needed or pick.chance(0.4):
            parts.insert(0, article(self.noun) if pick.chance(0.5) else self.noun)
        if pick.chance(0.15):
            none = ("no text", "without any text", "no letters", "nothing written on it", "empty")
            parts.append(pick(none))
        if not parts or pick.chance(0.6):
            self._scatter(parts, 1 + pick.index(4))
        text = pick(JOINTS).join(parts)
        if pick.chance(0.3):
            text = f"{pick(WISHES)} {text}"
        return self._around(self._cased(text), 0.4)


FORMS: tuple[Callable[[EnglishPrompt], str], ...] = (
    *[EnglishPrompt.clause_list] * 35,
    *[EnglishPrompt.sentence] * 33,
    *[EnglishPrompt.order] * 12,
    *[EnglishPrompt.sentences] * 13,
    *[EnglishPrompt.terse] * 12,
    *[EnglishPrompt.form] * 5,
    *[EnglishPrompt.framed] * 75,
)
"""The forms of prompts with quotes, each as often as it is used."""


def _ended(text: str, mark: str) -> str:
    """The text with `mark` at its end unless it has one."""
    return text if text[-1] in ".!?" else text + mark


def english_prompt(pick: Pick, poster: Poster, texts: Distractors) -> str:
    """An English prompt for the poster."""
    return EnglishPrompt(pick, poster, texts).write()
