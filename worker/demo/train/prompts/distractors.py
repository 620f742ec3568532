"""Text around the quotes that no poster shows, from word lists and from Debian packages.

    python3 -m prompts.distractors OUT     gathers the texts from the installed packages

Packages: wordnet-base (WordNet 3.0's licence, permissive), fortunes-min (BSD), wamerican (public
domain and permissive, by SCOWL), fortunes-zh (GPL 3; of it only the poems of the Tang dynasty, in
the public domain), debian-reference-zh-cn (GPL 2 or later), python3-jieba (Expat).
"""

import gzip
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from posters.colors import COLORS
from prompts import distractor_words as words
from prompts.color_names import CHINESE_SHORT
from prompts.pick import Pick, article, capital

SHARE = Path("/usr/share")
FOLDER = "distractors"
"""Name of the folder inside the assets."""

# Numbers of lines that are kept of each file; the whole stays below 3 MB.
SENTENCES, PHRASES, WORDS = 16000, 8000, 12000

# Words that would say something about a poster. Sentences with them are left out.
_MEANINGFUL = re.compile(
    r"\b(red|orange|yellow|green|blue|purple|pink|brown|black|white|gr[ae]y|gold\w*|silver\w*|violet|"
    r"cream|beige|teal|navy|scarlet|crimson|dark\w*|light\w*|pale|neon|pastel|colou?r\w*|letters?|"
    r"lettering|font\w*|type|typed|serif|script|cursive|stencil\w*|marker|bold|condensed|narrow|"
    r"rounded|wood\w*|brick\w*|paper\w*|strip\w*|night\w*|mugs?|cups?|cards?|bags?|tote|ribbons?|"
    r"banners?|border\w*|frame\w*|shadow\w*|gradient|background|top|bottom|center\w*|middle|screen|"
    r"headline|title|text|poster|caption|says?|said|reads?|quot\w+)\b"
)
_UNFIT = re.compile(
    r"\b(sex\w*|rap[ei]\w*|kill\w*|nazi\w*|fuck\w*|shit|whore\w*|slut|nigg\w*|jew\w*|drug\w*|"
    r"murder\w*|suicid\w*|breast\w*|naked|nud\w+|negro\w*|genital\w*|penis|vagina\w*|virgin\w*)\b"
)
_CHINESE_MEANINGFUL = re.compile(
    "[红橙黄绿蓝紫粉棕灰黑白金银色青墨碧翠丹朱]|字体|字符|标题|文字|背景|边框|阴影|屏幕|木|砖|纸|条纹|夜|杯|卡|袋|横幅|杀|死"
)


def is_clean(text: str) -> bool:
    """Whether the text says nothing about a poster, has no quotes and is decent."""
    lower = text.lower()
    return not (
        re.search(r"[\"“”\u2018`«»()\[\]{}<>|_*\\]|(?<!\w)'|'(?!\w)", text)
        or _MEANINGFUL.search(lower)
        or _UNFIT.search(lower)
    )


def _wordnet(share: Path) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """Example sentences, definitions, and words by part of speech, of WordNet."""
    examples, meanings = [], []
    for part in ("noun", "verb", "adj", "adv"):
        for row in (share / f"wordnet/data.{part}").read_text("latin-1").splitlines():
            _, _, gloss = row.partition(" | ")
            found = re.findall(r'"([^"]+)"', gloss)
            examples += [text for text in found if 3 <= len(text.split()) <= 11]
            meaning = gloss.partition(";")[0].strip()
            if 3 <= len(meaning.split()) <= 9:
                meanings.append(meaning)
    kinds = {}
    for part in ("noun", "verb", "adj"):
        entries = []
        for row in (share / f"wordnet/index.{part}").read_text("latin-1").splitlines():
            if re.match(r"[a-z]{3,12} ", row):
                fields = row.split()
                # The field before the offsets: how many senses occur in tagged texts.
                senses = int(fields[2])
                tagged = int(fields[-senses - 1])
                if tagged:
                    entries.append(fields[0])
        kinds[part] = entries
    return examples, meanings, kinds


def _fortunes(share: Path) -> list[str]:
    lines = (share / "games/fortunes/fortunes").read_text("utf-8", "replace")
    texts = [" ".join(cookie.split()) for cookie in lines.split("\n%\n")]
    return [text for text in texts if 3 <= len(text.split()) <= 14]


def _poems(share: Path) -> list[str]:
    text = (share / "games/fortunes/tang300").read_text("utf-8", "replace")
    text = re.sub(r"\x1b\[\d*m", "", text)
    return re.findall(r"^([\u4e00-\u9fff]{4,9}，[\u4e00-\u9fff]{4,9}。)", text, re.M)


def _manual(share: Path) -> list[str]:
    """Chinese sentences of Debian's reference manual."""
    file = share / "debian-reference/debian-reference.zh-cn.txt.gz"
    text = re.sub(r"(?<=[\u4e00-\u9fff，])\n +(?=[\u4e00-\u9fff])", "", _unzipped(file))
    found = re.findall(
        r"(?:(?<=[。！？；])|(?<=\n\n)) *([\u4e00-\u9fffA-Za-z ，、]{6,26}[。！？])", text
    )
    return [s.strip() for s in found if len(re.findall(r"[\u4e00-\u9fff]", s)) >= 5]


def _unzipped(file: Path) -> str:
    return gzip.decompress(file.read_bytes()).decode("utf-8", "replace")


def _chinese_words(root: Path) -> dict[str, list[str]]:
    """Frequent Chinese words of two or three characters by part of speech."""
    kinds: dict[str, list[tuple[int, str]]] = {"n": [], "v": [], "a": []}
    dictionary = root / "lib/python3/dist-packages/jieba/dict.txt"
    for row in dictionary.read_text("utf-8").splitlines():
        word, count, part = row.split(" ")
        if part in kinds and re.fullmatch(r"[\u4e00-\u9fff]{2,3}", word):
            kinds[part].append((int(count), word))
    return {part: [w for _, w in sorted(rows, reverse=True)[:3000]] for part, rows in kinds.items()}


def gather(out: Path, root: Path = Path("/usr")) -> None:
    """Writes the texts of the packages below `root` to small files in `out`/distractors."""
    folder, share = out / FOLDER, root / "share"
    folder.mkdir(parents=True, exist_ok=True)
    pick = random.Random(0)

    def write(name: str, lines: list[str], limit: int, clean=is_clean) -> None:
        kept = sorted({line for line in lines if clean(line)})
        if len(kept) > limit:
            kept = sorted(pick.sample(kept, limit))
        (folder / name).write_text("\n".join(kept) + "\n", "utf-8")

    def is_clean_chinese(text: str) -> bool:
        return not _CHINESE_MEANINGFUL.search(text)

    examples, meanings, kinds = _wordnet(share)
    write("sentences.txt", examples + _fortunes(share), SENTENCES)
    write("phrases.txt", meanings, PHRASES)
    for part, entries in kinds.items():
        write(f"{part}.txt", entries, WORDS // 3)
    everything = (share / "dict/american-english").read_text("utf-8").split()
    write("words.txt", [w for w in everything if w.isascii() and 2 < len(w) < 13], WORDS)
    write("sentences_zh.txt", _poems(share) + _manual(share), SENTENCES, is_clean_chinese)
    for part, entries in _chinese_words(root).items():
        write(f"{part}_zh.txt", entries, WORDS, is_clean_chinese)


class Distractors:
    """Random clauses and sentences that no poster shows.

    Without the gathered texts they are composed of the lists in `distractor_words` alone.
    """

    def __init__(self, assets: Path | None = None):
        def read(name: str, otherwise: Sequence[str]) -> Sequence[str]:
            file = assets / FOLDER / name if assets else None
            return file.read_text("utf-8").splitlines() if file and file.exists() else otherwise

        self.sentences = read("sentences.txt", words.ASIDES)
        self.phrases = read("phrases.txt", words.SCENES)
        self.nouns = read("noun.txt", words.SUBJECTS)
        self.verbs = read("verb.txt", ("jump", "sing", "wait", "walk", "dream"))
        self.adjectives = read("adj.txt", words.ADJECTIVES)
        self.words = read("words.txt", words.NAMES)
        self.chinese_sentences = read("sentences_zh.txt", words.CHINESE_ASIDES)
        self.chinese_nouns = read("n_zh.txt", words.CHINESE_SUBJECTS)
        self.chinese_verbs = read("v_zh.txt", ("散步", "唱歌", "等待"))
        self.chinese_adjectives = read("a_zh.txt", ("热闹", "安静", "美丽"))

    def clause(self, pick: Pick) -> str:
        """A clause that stands between commas."""
        return pick(_CLAUSES)(self, pick)

    def sentence(self, pick: Pick) -> str:
        """A sentence with a capital letter and a mark at its end (most of the time)."""
        roll = pick.number()
        if roll < 0.45:
            text = pick(self.sentences)
        elif roll < 0.6:
            text = pick(words.ASIDES)
        elif roll < 0.8:
            text = f"{article(pick(words.SUBJECTS))} {pick(words.DEEDS)}"
        else:
            text = f"{pick(_OPENINGS)} {self._noun_phrase(pick)} {self._deed(pick)}"
        text = capital(text)
        return text if text[-1] in ".!?,:" else text + pick((".", ".", ".", "!", ""))

    def chinese_clause(self, pick: Pick) -> str:
        """A Chinese clause that stands between commas."""
        roll = pick.number()
        if roll < 0.22:
            return pick(words.CHINESE_SUBJECTS) + pick(words.CHINESE_DEEDS)
        if roll < 0.42:
            return pick(words.CHINESE_SCENES)
        if roll < 0.66:
            return pick(words.CHINESE_MOODS)
        if roll < 0.7:
            return pick(words.CAMERA)
        if roll < 0.73:
            color = pick(tuple(CHINESE_SHORT.values()))
            return f"{color}色的{pick(words.CHINESE_COLORED)}"
        if roll < 0.86:
            return f"{pick(self.chinese_adjectives)}的{pick(self.chinese_nouns)}"
        if roll < 0.93:
            return pick(self.chinese_nouns) + pick(self.chinese_verbs)
        return pick(self.chinese_sentences).rstrip("。！？；，")

    def chinese_sentence(self, pick: Pick) -> str:
        """A Chinese sentence with a mark at its end."""
        roll = pick.number()
        if roll < 0.5:
            text = pick(self.chinese_sentences)
        elif roll < 0.7:
            text = pick(words.CHINESE_ASIDES)
        else:
            text = f"{self.chinese_clause(pick)}，{self.chinese_clause(pick)}"
        return text if text[-1] in "。！？，；" else text + "。"

    def purpose(self, pick: Pick) -> str:
        """What the poster is for, as in "for a bakery"."""
        roll = pick.number()
        if roll < 0.5:
            return f"for {article(pick(words.BUSINESSES))}"
        if roll < 0.65:
            return f"for {article(pick(words.BUSINESSES))} in {pick(words.NAMES)}"
        if roll < 0.75:
            return f"for {pick(words.NAMES)}"
        if roll < 0.85:
            return f"about {self._noun_phrase(pick)}"
        return f"for {article(self._adjective_noun(pick))}"

    def chinese_purpose(self, pick: Pick) -> str:
        """A business in Chinese."""
        return pick(words.CHINESE_BUSINESSES if pick.number() < 0.7 else self.chinese_nouns)

    def _adjective_noun(self, pick: Pick) -> str:
        return f"{pick(self.adjectives)} {pick(self.nouns)}"

    def _noun_phrase(self, pick: Pick) -> str:
        return article(self._adjective_noun(pick) if pick.number() < 0.6 else pick(self.nouns))

    def _deed(self, pick: Pick) -> str:
        if pick.number() < 0.4:
            return f"that can {pick(self.verbs)}"
        return pick(words.DEEDS)


_LOOKS = ("style", "theme", "vibe", "motif", "pattern", "mood", "inspired", "aesthetic")
_OPENINGS = (
    "There is",
    "Show",
    "I saw",
    "We like",
    "In it,",
    "Imagine",
    "Think of",
    "It looks like",
)


def _random_words(texts: Distractors, pick: Pick) -> str:
    """One to three words of the dictionary, in any case."""
    found = [pick(texts.words) for _ in range(1 + int(pick.number() * 3))]
    text = " ".join(found)
    roll = pick.number()
    return text.upper() if roll < 0.35 else text.title() if roll < 0.6 else text


_CLAUSES = (
    *[lambda texts, pick: pick(words.CAMERA)] * 3,
    *[lambda texts, pick: pick(words.MOODS)] * 3,
    *[lambda texts, pick: pick(words.SCENES)] * 3,
    lambda texts, pick: article(f"{pick(tuple(COLORS))} {pick(words.COLORED)}"),
    *[lambda texts, pick: f"{article(pick(words.SUBJECTS))} {pick(words.DEEDS)}"] * 2,
    lambda texts, pick: f"{pick(words.ADJECTIVES)} {pick(words.SUBJECTS)} {pick(words.DEEDS)}",
    lambda texts, pick: f"{pick(words.SUBJECTS)} {pick(words.DEEDS)}",
    lambda texts, pick: pick(words.MEDIA),
    lambda texts, pick: pick(words.MEASURES),
    lambda texts, pick: pick(words.ASIDES).rstrip(".!?,"),
    lambda texts, pick: pick(texts.phrases),
    lambda texts, pick: texts._adjective_noun(pick),
    lambda texts, pick: texts._noun_phrase(pick) + " " + texts._deed(pick),
    lambda texts, pick: f"{pick(texts.nouns)} and {pick(texts.nouns)}",
    lambda texts, pick: f"{pick(texts.nouns)} {pick(_LOOKS)}",
    lambda texts, pick: f"{pick(texts.verbs)} the {pick(texts.nouns)}",
    lambda texts, pick: pick(texts.sentences).rstrip(".!?,"),
    lambda texts, pick: pick(words.NAMES),
    _random_words,
)  # fmt: skip


if __name__ == "__main__":
    gather(Path(sys.argv[1]))
