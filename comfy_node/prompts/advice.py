"""Advice on a prompt, before an image is made from it.

The rules look at words and know nothing of the model, so they advise and never refuse. Text in
quotation marks is what the image shows. Only the rules about ``$`` and about quotation marks look
at it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .. import wire
from ..texts import LANGUAGES

MAX_CFG = 7.0
VERTICAL_STEPS = 60
LATE = 0.6
"""The share of the prompt after which a word counts as late."""
LONG_ENOUGH = 160
"""A prompt of less than this width, in Latin letters, is too short to have late words."""

_QUOTED = re.compile('"[^"]*"|“[^”]*”|「[^」]*」|『[^』]*』')
_CJK = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_FONT = re.compile(
    r"\b(?:sans[- ]serif|serif|fonts?|typefaces?|typography|lettering|calligraphy|italics?)\b"
    "|字体|宋体|黑体|楷体|隶书|行书|草书|书法",
    re.IGNORECASE,
)
_COLOUR = re.compile(
    r"\b(?:red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|gr[ae]y|gold(?:en)?"
    r"|silver|teal|turquoise|crimson|navy|beige|cream|magenta|cyan)\b"
    "|[红橙黄绿青蓝紫粉棕黑白灰金银]色",
    re.IGNORECASE,
)
_VERTICAL = re.compile(
    r"\bvertical(?:ly)?[- ](?:text|layout|lettering|writing|typography|headline|title|written"
    r"|arranged|set)\b|\b(?:text|letters|lettering|title|headline|characters|written|arranged)\s+"
    r"(?:runs?\s+|running\s+)?vertically\b|竖排|竖写|竖向文字|直排|纵向排列",
    re.IGNORECASE,
)
_PAIRS = (("“", "”"), ("「", "」"), ("『", "』"), ("《", "》"))

_SENTENCES = {
    "font_late": (
        "`{0}` comes late in the prompt. Say the font right where the text is introduced, "
        "near the beginning.",
        "“{0}”在提示词中出现得太晚。请在靠前的位置、引出文字时就说明字体。",
    ),
    "colour_late": (
        "`{0}` comes late in the prompt. Say the colours near the beginning.",
        "“{0}”在提示词中出现得太晚。请把颜色写在靠前的位置。",
    ),
    "cjk_late": (
        "`{0}` is a Chinese clause after English ones. Describe in one language, and keep the "
        "other for what stands in quotation marks.",
        "“{0}”是英文描述之后的中文。描述请只用一种语言，另一种只放在引号里。",
    ),
    "dollar": (
        "`$` is often drawn wrong; the full-width ＄ is drawn better.",
        "“$”常常画错，改用全角的“＄”效果更好。",
    ),
    "vertical": (
        "Vertical text needs more steps: set steps to {0}.",
        "竖排文字需要更多步数：请把 steps 设为 {0}。",
    ),
    "guidance": (
        "cfg {0} is high: above {1} colours burn and letters break. 5 is the model's own.",
        "cfg {0} 偏高：超过 {1} 时颜色会过饱和，笔画会断裂。模型的默认值是 5。",
    ),
    "quotes": (
        "A quotation mark `{0}` has no partner. What the image shows stands between two.",
        "引号“{0}”不成对。要显示的文字应放在一对引号之间。",
    ),
    "cut": (
        "The prompt is too long: its last {0} tokens were cut to fit {1}. Shorten it, or set "
        "max_sequence_length above 256, where nothing is cut.",
        "提示词太长：为了不超过 {1} 个词元，末尾的 {0} 个被截掉了。请缩短它，"
        "或把 max_sequence_length 设为 256 以上，那样不会截断。",
    ),
    "cut_template": (
        "The whole prompt fits, but {0} tokens of the chat template's ending were cut to fit {1}.",
        "提示词本身放得下，但为了不超过 {1} 个词元，对话模板末尾的 {0} 个被截掉了。",
    ),
}


@dataclass(frozen=True)
class Advice:
    """One piece of advice: the rule, the values in its sentence, and the corrected prompt."""

    rule: str
    about: tuple[str, ...] = ()
    fixed: str | None = None

    def sentence(self, language: str = "en") -> str:
        """The advice in ``language``, or in English if the language is unknown."""
        texts = _SENTENCES[self.rule]
        text = texts[LANGUAGES.index(language)] if language in LANGUAGES else texts[0]
        return text.format(*self.about)


def advise(prompt: str, steps: int | None = None, cfg: float | None = None) -> list[Advice]:
    """All advice on a prompt.

    If ``steps`` is unknown, a vertical layout is always mentioned.
    """
    # Replace quoted text by blanks of the same length, so that positions stay the same.
    described = _QUOTED.sub(lambda quote: " " * len(quote[0]), prompt)
    found = [*_late(described), *_balance(prompt)]
    if "$" in prompt:
        found.append(Advice("dollar", fixed=prompt.replace("$", "＄")))
    if _VERTICAL.search(described) and (steps is None or steps < VERTICAL_STEPS):
        found.append(Advice("vertical", (str(VERTICAL_STEPS),)))
    if cfg is not None and cfg > MAX_CFG:
        found.append(Advice("guidance", (f"{cfg:g}", f"{MAX_CFG:g}")))
    return found


def about_cut(cut: wire.PromptCut, length: int) -> Advice:
    """The advice for a prompt that the worker had to cut to ``length`` tokens."""
    if cut.lost_tokens:
        return Advice("cut", (str(cut.lost_tokens), str(length)))
    return Advice("cut_template", (str(cut.lost_template_tokens), str(length)))


def _width(text: str) -> int:
    """Length in Latin letters; a Chinese character counts as three."""
    return len(text) + 2 * sum(len(run) for run in _CJK.findall(text))


def _late(described: str) -> list[Advice]:
    whole = _width(described.rstrip())
    if whole < LONG_ENOUGH:
        return []

    def is_late(place: int) -> bool:
        return _width(described[:place]) > LATE * whole

    found = []
    for rule, words in (("font_late", _FONT), ("colour_late", _COLOUR)):
        first = words.search(described)
        if first and is_late(first.start()):
            found.append(Advice(rule, (first[0],)))
    first = _CJK.search(described)
    if first and is_late(first.start()):
        found.append(Advice("cjk_late", (first[0],)))
    return found


def _balance(prompt: str) -> list[Advice]:
    if prompt.count('"') % 2:
        return [Advice("quotes", ('"',))]
    for opening, closing in _PAIRS:
        difference = prompt.count(opening) - prompt.count(closing)
        if difference:
            return [Advice("quotes", (opening if difference > 0 else closing,))]
    return []
