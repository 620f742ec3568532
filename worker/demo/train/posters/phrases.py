"""Random phrases in English and Chinese, none of which is held out for the evaluation."""

import json
import re
import string
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from .families import CHARACTERS, HAN, LATIN

TRAIN = Path(__file__).parents[1]

CONTRACTIONS = (
    "I'm", "I'll", "I've", "I'd", "you're", "you'll", "it's", "that's", "he's", "she's", "we're",
    "we'll", "we've", "they're", "can't", "don't", "won't", "isn't", "aren't", "didn't",
    "doesn't", "wasn't", "couldn't", "let's", "what's", "who's", "there's", "here's", "y'all",
    "rock'n'roll", "o'clock",
)  # fmt: skip
SMALL_WORDS = (
    "a", "the", "of", "and", "in", "on", "at", "to", "for", "my", "your", "our", "no", "is", "am",
    "I", "be", "we", "it", "by", "up", "go", "or", "all", "new", "big", "one", "so", "me", "us",
)  # fmt: skip
"""Words that stand between others in phrases."""
TRIES = 100
"""Words looked at before a longer one than wanted is taken."""
ENDS = ("!", "!", "?", ".", ".", ",", ":", ";", "...", "!!", "?!", " !", " ?")
"""What a phrase may end with."""
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "June", "July", "Aug", "Sept", "Oct", "Nov", "Dec")
SALE = ("OFF", "off", "Off", "SALE", "Sale", "discount", "LESS", "more", "FREE", "折")
TIMES = ("am", "pm", "AM", "PM")
APOSTROPHES = "'’"


@dataclass(frozen=True)
class HeldOut:
    """What the evaluation asks for, in lower case: whole phrases, single English words, and
    Chinese phrases of two or more characters without their spaces."""

    phrases: frozenset[str]
    words: frozenset[str]
    chinese: tuple[str, ...]

    def contains(self, text: str) -> bool:
        """Whether training must not draw a text: it is a held-out phrase, or has a held-out
        English word or a held-out Chinese phrase inside."""
        text = _plain(text)
        if text in self.phrases or any(phrase in text.replace(" ", "") for phrase in self.chinese):
            return True
        return not self.words.isdisjoint(re.findall(r"[a-z]+(?:'[a-z]+)*", text))


def _plain(text: str) -> str:
    """A text in lower case with single spaces and straight apostrophes."""
    return " ".join(text.lower().replace("’", "'").split())


WORD_LISTS = ("english", "two_lines", "three_lines", "new_sizes")
"""Held-out lists of dictionary words, no word of which is trained in any phrase."""


@cache
def held_out(folder: Path = TRAIN / "held_out") -> HeldOut:
    """All held-out texts of the lists in a folder, and the single words of `WORD_LISTS`."""
    phrases, words = set(), set()
    for file in sorted(folder.glob("*.jsonl")):
        for row in file.read_text("utf-8").splitlines():
            texts = {_plain(phrase["text"]) for phrase in json.loads(row).get("phrases", ())}
            phrases |= texts
            if file.stem in WORD_LISTS:
                words |= {word for text in texts for word in text.split()}
    chinese = {text.replace(" ", "") for text in phrases}
    chinese = {text for text in chinese if len(text) >= 2 and set(text) <= HAN}
    return HeldOut(frozenset(phrases), frozenset(words), tuple(sorted(chinese)))


@dataclass(frozen=True)
class Words:
    """Real words: English ones in lower case of at most 12 letters, parts of English sentences
    between punctuation, Chinese words by frequency, and Chinese phrases as on posters."""

    english: tuple[str, ...]
    spoken: tuple[tuple[str, ...], ...]
    chinese: tuple[str, ...]
    headlines: tuple[str, ...]


@cache
def words(assets: Path) -> Words:
    """The words in the assets folder, without those that are held out."""

    def read(path: Path, longest: int) -> tuple[str, ...]:
        rows = path.read_text("utf-8").split()
        return tuple(row for row in rows if len(row) <= longest and not held_out().contains(row))

    sentences = Path(assets) / "distractors" / "sentences.txt"
    return Words(
        read(Path(assets) / "english.txt", 12),
        _parts(sentences.read_text("utf-8")) if sentences.exists() else (),
        read(Path(assets) / "chinese.txt", 7),
        read(TRAIN / "lists" / "phrases.txt", 7),
    )


def _parts(text: str) -> tuple[tuple[str, ...], ...]:
    """The words between two signs of punctuation, in lower case, where none is longer than ten
    letters. Common words are as frequent as in the sentences, and stand in their usual order."""
    parts = (part.split() for part in re.split(r"[^A-Za-z' ]+", text.replace("’", "'")))
    return tuple(
        tuple(word.lower() for word in words)
        for words in parts
        if words and all(re.fullmatch(r"[A-Za-z]+('[A-Za-z]+)?", w) and len(w) <= 10 for w in words)
    )


def phrase(rng: np.random.Generator, shares: dict[str, float], source: Words) -> str:
    """A random phrase that is not held out. `shares` gives the probability of each of `KINDS`."""
    kinds = list(shares)
    kind = KINDS[kinds[rng.choice(len(kinds), p=np.array(list(shares.values())))]]
    while True:
        text = kind(rng, source)
        if not held_out().contains(text):
            return text


def _pick(rng: np.random.Generator, choices):
    return choices[rng.integers(len(choices))]


def any_case(rng: np.random.Generator, text: str) -> str:
    """The text in upper case (half of the time, as on posters), title case or lower case."""
    choice = rng.random()
    if choice < 0.5:
        return text.upper()
    return string.capwords(text) if choice < 0.75 else text


def _english(rng: np.random.Generator, source: Words) -> str:
    """One to five words, three of four times more than one; those of phrases have at most ten
    letters, and shorter ones are more frequent."""
    count = 1 + int(rng.choice(5, p=(0.26, 0.30, 0.25, 0.12, 0.07)))
    chosen = []
    for number in range(count):
        between = 0 < number < count - 1 or (count > 1 and number == 0 and rng.random() < 0.2)
        if between and rng.random() < 0.5:
            chosen.append(_pick(rng, SMALL_WORDS))
            continue
        if rng.random() < 0.06:
            word = _pick(rng, CONTRACTIONS).replace("'", _pick(rng, APOSTROPHES))
        else:
            word = _short(rng, source, 12 if count == 1 else int(rng.integers(5, 13 - count)))
            if rng.random() < 0.05:
                word += _pick(rng, APOSTROPHES) + "s"
        chosen.append(word)
    if count > 2 and rng.random() < 0.08:
        place = int(rng.integers(1, count - 1))
        chosen[place - 1] += ","
    elif count > 1 and rng.random() < 0.07:
        place = int(rng.integers(1, count))
        chosen.insert(place, _pick(rng, "&+-/"))
    text = _cased(rng, chosen)
    return text + (_pick(rng, ENDS) if rng.random() < 0.16 else "")


def _spoken(rng: np.random.Generator, source: Words) -> str:
    """One to five words that follow one another in a sentence, often in lower case. Without
    sentences, random words."""
    if not source.spoken:
        return _english(rng, source)
    part = _pick(rng, source.spoken)
    count = min(1 + int(rng.choice(5, p=(0.18, 0.34, 0.27, 0.14, 0.07))), len(part))
    start = int(rng.integers(len(part) - count + 1))
    chosen = ["I" if word == "i" else word for word in part[start : start + count]]
    if rng.random() < 0.3:
        chosen = [word.replace("'", "’") for word in chosen]
    text = " ".join(chosen) if rng.random() < 0.3 else _cased(rng, chosen)
    return text + (_pick(rng, ENDS) if rng.random() < 0.16 else "")


def _cased(rng: np.random.Generator, chosen: list[str]) -> str:
    """The words in one of the usual ways to write a phrase."""
    choice = rng.random()
    text = " ".join(chosen)
    if len(chosen) < 2 or choice < 0.42:
        return any_case(rng, text)
    if choice < 0.66:  # as a sentence
        return text[:1].upper() + text[1:]
    if choice < 0.78:  # each word in a case of its own
        return " ".join(any_case(rng, word) for word in chosen)
    if choice < 0.87:  # as a title, with small words in lower case
        rest = [w if w in SMALL_WORDS else w[:1].upper() + w[1:] for w in chosen[1:]]
        return " ".join([chosen[0][:1].upper() + chosen[0][1:], *rest])
    place = int(rng.integers(len(chosen)))  # one word stands out
    return " ".join(w.upper() if i == place else w.lower() for i, w in enumerate(chosen))


def _short(rng: np.random.Generator, source: Words, longest: int) -> str:
    """A word of at most `longest` letters, or the shortest of those looked at."""
    found = _pick(rng, source.english)
    for _ in range(TRIES):
        if len(found) <= longest:
            break
        found = min(found, _pick(rng, source.english), key=len)
    return found


def _letters(rng: np.random.Generator, source: Words) -> str:
    """Random letters, mostly of one case, and now and then any letters and signs."""
    choice = rng.random()
    if choice < 0.25:
        letters = LATIN
        length = int(rng.integers(1, 9))
    else:
        letters = string.ascii_lowercase
        length = int(rng.integers(1, 15))
    text = "".join(_pick(rng, letters) for _ in range(length))
    if choice < 0.25:
        return text
    if length > 5 and rng.random() < 0.4:
        place = int(rng.integers(2, length - 1))
        text = text[:place] + " " + text[place:]
    return any_case(rng, text)


def _signs(rng: np.random.Generator, source: Words) -> str:
    """Numbers, prices, percentages, times, names with signs, as they stand on posters."""
    number = int(rng.integers(100))
    large = int(rng.integers(10 ** int(rng.integers(1, 7))))
    currency = _pick(rng, "$€")
    capital, other = (_pick(rng, string.ascii_uppercase) for _ in range(2))
    word = _short(rng, source, 8)
    makers = (
        lambda: f"{number}{_pick(rng, ('', ' '))}% {_pick(rng, SALE)}",
        lambda: f"{number}{_pick(rng, ('', ' '))}%",
        lambda: f"{_pick(rng, '-+')}{number}%",
        lambda: f"{currency}{number}.{_pick(rng, ('99', '50', '95', '49', '00', '25'))}",
        lambda: f"{currency}{large}",
        lambda: f"{large} {currency}",
        lambda: str(large),
        lambda: f"{int(rng.integers(1900, 2060))}",
        lambda: f"{number}/{int(rng.integers(1, 32))}",
        lambda: f"{int(rng.integers(1, 13))}:{int(rng.integers(60)):02d} {_pick(rng, TIMES)}",
        lambda: f"{int(rng.integers(24)):02d}:{int(rng.integers(60)):02d}",
        lambda: f"{int(rng.integers(1, 32))}.{int(rng.integers(1, 13))}.",
        lambda: f"{capital}{_pick(rng, '&-/+')}{other}",
        lambda: f"@{word}",
        lambda: f"#{_pick(rng, (word, str(number)))}",
        lambda: f"{_pick(rng, ('No. ', 'NO. ', 'No.', '#'))}{number}",
        lambda: any_case(rng, word) + _pick(rng, ("!", "?", "!!", "?!", "...", ".", ":")),
        lambda: any_case(rng, word) + f"{_pick(rng, ' -')}{number}",
        lambda: any_case(rng, f"{word} & {_short(rng, source, 7)}"),
        lambda: any_case(rng, f"{word[:6]}-{_short(rng, source, 6)}"),
        lambda: any_case(rng, f"{word[:6]}/{_short(rng, source, 6)}"),
        lambda: any_case(rng, f"{word}, {_short(rng, source, 7)}"),
        lambda: f"{number} + {int(rng.integers(1, 10))}",
        lambda: f"{int(rng.integers(1, 10))} for {int(rng.integers(1, 10))}",
        lambda: f"{number}; {large}",
        lambda: any_case(rng, f"only {currency}{number}"),
        lambda: any_case(rng, f"from {currency}{number}.{int(rng.integers(10))}0"),
        lambda: any_case(rng, f"{word} {number}"),
        lambda: any_case(rng, f"{_pick(rng, ('room', 'gate', 'hall', 'floor', 'unit'))} {number}"),
        lambda: any_case(
            rng, f"{_pick(rng, DAYS)} {int(rng.integers(1, 32))} {_pick(rng, MONTHS)}"
        ),
        lambda: any_case(rng, f"{_pick(rng, DAYS)}-{_pick(rng, DAYS)}"),
        lambda: f"{int(rng.integers(1, 13))}-{int(rng.integers(1, 13))} {_pick(rng, TIMES)}",
        lambda: any_case(rng, f"{number} {_short(rng, source, 7)} {_short(rng, source, 6)}"),
        lambda: f"{int(rng.integers(100, 1000))}-{int(rng.integers(1000, 10000))}",
    )
    return _pick(rng, makers)()


def _chinese(rng: np.random.Generator, source: Words) -> str:
    """One to eight characters: by chance, so that each is equally frequent, or real words and
    phrases, or doubled ones; now and then in two parts with a space."""
    choice = rng.random()
    if choice < 0.58:
        length = 1 + int(rng.choice(8, p=(0.08, 0.19, 0.2, 0.23, 0.12, 0.07, 0.06, 0.05)))
        text = "".join(_pick(rng, CHARACTERS) for _ in range(length))
    elif choice < 0.66:
        text = _doubled(rng)
    elif choice < 0.86:
        text = _pick(rng, source.chinese)
        if len(text) <= 4 and rng.random() < 0.45:
            text += _pick(rng, source.chinese)
    else:
        text = _pick(rng, source.headlines)
    text = text[:8]
    if len(text) >= 4 and rng.random() < 0.2:
        place = len(text) // 2
        text = text[:place] + " " + text[place:]
    return text + (_pick(rng, "!?") if rng.random() < 0.03 else "")


def _doubled(rng: np.random.Generator) -> str:
    """Two characters with one or both of them doubled: AA, AAB, ABB, ABAB, AABB or ABA."""
    a, b = (_pick(rng, CHARACTERS) for _ in range(2))
    return _pick(rng, (a + a, a + a + b, a + b + b, a + b + a + b, a + a + b + b, a + b + a))


def _mixed(rng: np.random.Generator, source: Words) -> str:
    """Both scripts in one phrase: a Latin part before the Chinese one, behind it, or both."""
    parts = [_chinese(rng, source).replace(" ", "")[:4], _short(rng, source, 7)]
    if rng.random() < 0.4:
        parts[1] = _signs(rng, source)[:8].strip()
    else:
        parts[1] = any_case(rng, parts[1])
    if rng.random() < 0.5:
        parts.reverse()
        if rng.random() < 0.25:
            parts.append(any_case(rng, _short(rng, source, 6)))
    return _pick(rng, (" ", " ", "")).join(parts)


KINDS = {
    "english": _english,
    "spoken": _spoken,
    "letters": _letters,
    "signs": _signs,
    "chinese": _chinese,
    "mixed": _mixed,
}
"""Kinds of phrases."""
