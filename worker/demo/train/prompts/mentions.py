"""Mentions of text that must not be drawn: negations, titles and names without quotes, and words
that are quoted a second time."""

from prompts import distractor_words as words
from prompts.distractors import Distractors
from prompts.pick import Pick

PLAIN = (
    "no other text", "nothing else written", "no further words", "without any small print",
    "no date, no address", "no phone number", "no extra letters", "and no other words at all",
    "do not add any other text", "no subtitle", "leave out the address", "only these words",
    "just that text and nothing more", "no second line of text", "don't repeat the words",
)  # fmt: skip
MENTIONS = (
    "do not write {w}", "don't write {w}", "not {w}", "instead of {w}", "no longer {w}",
    "without the word {w}", "please leave out {w}", "the name {w} must not appear",
    "ignore the old name {w}", "never mention {w}", "it used to say {w}", "it replaces {w}",
    "for the book {w}", "based on the film {w}", "inspired by the song {w}", "as in {w}",
    "formerly {w}", "by the people behind {w}", "omit {w}", "skip {w}", "do not spell {w}",
    "the word {w} is not on it", "like the one at {w}", "commissioned by {w}", "drop the word {w}",
)  # fmt: skip
CHINESE_PLAIN = (
    "不要其他文字", "不要写别的字", "没有别的文字", "只写这些字", "不要加日期", "不要写地址",
    "不要电话", "除此之外不写字", "别加小字", "不要多写字", "不要重复文字", "只要这几个字",
)  # fmt: skip
CHINESE_MENTIONS = (
    "不要写{w}", "不写{w}", "而不是{w}", "不要出现{w}", "以前写的是{w}", "请去掉{w}",
    "为《{w}》而作", "来自电影《{w}》", "像《{w}》那样", "书名是《{w}》但不要写", "不要加{w}两个字",
    "代替原来的{w}", "不是{w}", "别写{w}", "想起了《{w}》", "和《{w}》一样的风格",
)  # fmt: skip

REPEATS = (
    "only {q}, please", "so just {q}", "spelled exactly {q}", "I repeat: {q}", "it must read {q}",
    "the text is {q} and that is all", "{q} should be easy to read", "check the spelling of {q}",
    "make {q} stand out", "{q} is all it says",
)  # fmt: skip
CHINESE_REPEATS = (
    "只写{q}", "只要{q}", "{q}要醒目", "{q}要清晰", "{q}不要写错", "再说一遍：{q}", "内容就是{q}",
)  # fmt: skip


def mention(pick: Pick, texts: Distractors) -> str:
    """An English clause."""
    if pick.chance(0.35):
        return pick(PLAIN)
    if pick.chance(0.2):
        return pick(MENTIONS).format(w=pick(words.NAMES))
    name = " ".join(pick(texts.words) for _ in range(1 + pick.index(3)))
    name = (str.title, str.upper, str.lower, str.title)[pick.index(4)](name).replace("'S", "'s")
    return pick(MENTIONS).format(w=name)


def chinese_mention(pick: Pick, texts: Distractors) -> str:
    """A Chinese clause."""
    if pick.chance(0.35):
        return pick(CHINESE_PLAIN)
    name = pick(texts.chinese_nouns)
    if pick.chance(0.3):
        name += pick(texts.chinese_verbs)
    pattern = pick(CHINESE_MENTIONS)
    if "两个字" in pattern and len(name) != 2:
        pattern = "不要加{w}"
    return pattern.format(w=name)


def repeat(pick: Pick, prompt: str, quoted: str, chinese: bool) -> str:
    """The prompt with a clause that quotes its words a second time, as if they were to be drawn
    twice."""
    if chinese:
        return f"{prompt.rstrip('。，')}，{pick(CHINESE_REPEATS).format(q=quoted)}"
    return f"{prompt.rstrip('.,')}{pick((', ', '. ', '; '))}{pick(REPEATS).format(q=quoted)}"
