"""Chinese prompts: clauses about the parts of a poster, in many orders, among distractors."""

from posters.poster import Phrase, Poster
from prompts import chinese_color_roles, chinese_frames
from prompts import family_names as families
from prompts import scene_names as scenes
from prompts.color_names import CHINESE_NAMES, CHINESE_SHORT, NEON, PASTEL
from prompts.distractors import Distractors
from prompts.frames import Parts
from prompts.mentions import chinese_mention
from prompts.naming import HAN, Naming, naming
from prompts.pick import Pick
from prompts.quotes import CLOSING, OPENING, UNQUOTED, quoted

NOUNS = (
    "标题", "文字", "字样", "主标题", "大字", "标语", "口号", "字", "大标题", "主题文字", "文案",
    "题字", "内容",
)  # fmt: skip
WISHES = (
    "请画", "请设计", "帮我做", "请生成", "制作", "设计", "画", "生成", "我想要", "我需要", "来",
    "做", "给我设计", "能不能帮我画", "可以做", "请帮我设计", "麻烦做", "创作", "想要", "请给我",
    "需要", "绘制", "这是",
)  # fmt: skip
VERBS = (
    "上面写着", "写着", "，上面写着", "，内容是", "，文字是", "，写有", "，标题为", "，标题是",
    "，印着", "，上面有", "写有", "，题为", "，上书", "，文字：", "，主标题", "，写上",
)  # fmt: skip
ROLES = 0.6
"""Share of the prompts in which statements of `chinese_color_roles` name the colours."""
MENTIONS = 0.2
"""Share of the distracting clauses that mention text which must not be drawn."""
FRAMED = 0.4
"""Share of the prompts in one of the `chinese_frames`."""
COMMAS = ("，",) * 12
JOINTS = (*COMMAS, "。", "；", "、", ", ", " ", "\n")
ABOVE = (
    "{0}和{1}",
    "{0}，下面是{1}",
    "{0}，下方{1}",
    "{0}、{1}",
    "{0}与{1}",
    "{0}，其下为{1}",
    "{0}，再写{1}",
)


def color(pick: Pick, key: str) -> str:
    """A name of the colour with 色; half of the time its shortest one."""
    return CHINESE_SHORT[key] + "色" if pick.chance(0.5) else pick(CHINESE_NAMES[key])


def chinese_prompt(pick: Pick, poster: Poster, texts: Distractors) -> str:
    """A Chinese prompt for the poster."""
    names = naming(pick, poster)
    quotes = quoted(pick, [phrase.text for phrase in poster.phrases], chinese=True)
    noun, told, ground_told = _thing(pick, poster, names)
    ground = "" if ground_told else _ground(pick, poster, names, told)
    extras = _extras(pick, poster)
    if quotes and pick.chance(ROLES):
        roles, ground_done = _roles(pick, poster, names, noun, told, ground_told)
        extras = [*roles, *extras]
        ground = "" if ground_done else ground
    if not quotes:
        return _without_text(pick, noun, told or ground_told, [ground, *extras], texts)
    unquoted = pick.chance(0.03) and all(UNQUOTED.fullmatch(p.text) for p in poster.phrases)
    if unquoted:
        marks = pick(("标题：", "文字：", "标题:", "大标题：", "字："))
        quotes = [marks + phrase.text for phrase in poster.phrases]
        clauses = [_placed(pick, p, quote) for p, quote in zip(poster.phrases, quotes, strict=True)]
    else:
        clauses = _clauses(pick, poster, quotes, names)
    style = _style(pick, poster, names)
    if not unquoted and pick.chance(FRAMED):
        kind = noun if told or ground_told or pick.chance(0.7) else ""
        facts = [part for part in (style, ground, *extras) if part]
        extra = [_distraction(pick, texts) for _ in range(_how_many(pick) // 2)]
        return pick(chinese_frames.FRAMES)(pick, Parts(kind, clauses, facts, facts, extra))
    roll = pick.number()
    if roll < 0.12:
        parts = [pick((f"{clauses[0]}{noun}", f"{noun}{clauses[0]}", f"{noun}：{clauses[0]}"))]
        if unquoted or not clauses[0].endswith(CLOSING) or "：" in clauses[0]:
            parts = [noun, clauses[0]]
        parts += [*clauses[1:], style, ground, *extras]
        joint = "，" if unquoted else pick(("，", "，", " ", ","))
        return joint.join(part for part in parts if part)
    short = _short_form(poster) if names.ink and names.ground and not poster.accent else ""
    if short and style and poster.surface == "plain" and not ground_told and pick.chance(0.35):
        style = f"{short}，{_family(pick, poster)}" if names.family else short
        ground = ""
    parts = [part for part in [*clauses, style, ground, *extras] if part]
    if len(quotes) == 1 and pick.chance(0.4):
        parts = pick.shuffled(parts)
    count = pick(("一张", "一个", "一幅", "", "", "一份", "一款"))
    purpose = f"{texts.chinese_purpose(pick)}{pick(('的', ''))}" if pick.chance(0.3) else ""
    head = f"{count}{purpose}{noun}"
    if roll < 0.55:
        wish = pick(WISHES) if pick.chance(0.6) else ""
        joint = pick(VERBS) if parts[0].startswith(OPENING) else "，"
        parts[0] = f"{wish}{head}{joint}{parts[0]}"
    elif told or ground_told or pick.chance(0.7):
        parts.insert(0 if pick.chance(0.85) else len(parts), head)
    for _ in range(_how_many(pick)):
        parts.insert(pick.index(len(parts) + 1), _distraction(pick, texts))
    return _joined(pick, parts, texts, COMMAS if unquoted else JOINTS)


def _distraction(pick: Pick, texts: Distractors) -> str:
    """A clause that no poster shows; at times it mentions text that is not drawn."""
    return chinese_mention(pick, texts) if pick.chance(MENTIONS) else texts.chinese_clause(pick)


def _roles(
    pick: Pick, poster: Poster, names: Naming, noun: str, told: bool, ground_told: bool
) -> tuple[list[str], bool]:
    """Statements of the colours' roles, and whether they say all of the ground."""
    ink = color(pick, poster.ink) if names.ink else None
    ground, grounds, bare = None, chinese_color_roles.GROUNDS, True
    plain = poster.surface == "plain" and (not poster.accent or poster.border)
    if names.ground and not ground_told and (plain or not poster.accent):
        if poster.surface != "plain" and told:
            own = poster.surface in ("tote", "mug", "card")
            grounds = (noun,) if own else ("背景", "底色", "底")
        elif poster.surface != "plain":
            kinds = [text for text in scenes.CHINESE_GROUNDS[poster.surface] if text[:3] == "{g}"]
            grounds, bare = [text[3:].removeprefix("的") for text in kinds], False
        if poster.surface != "banner":
            ground = color(pick, poster.ground)
    names.ink = False
    short = (CHINESE_SHORT[poster.ink], CHINESE_SHORT[poster.ground])
    short = short if bare and len("".join(short)) <= 4 else None
    alone = len(poster.phrases) == 1
    if not (ink or ground):
        return [], False
    found = chinese_color_roles.statements(pick, ink, ground, grounds, bare, alone, short)
    return found, ground is not None


def _how_many(pick: Pick) -> int:
    roll = pick.number()
    return 0 if roll < 0.36 else 1 if roll < 0.7 else 2 if roll < 0.9 else 3


def _joined(pick: Pick, parts: list[str], texts: Distractors, joints: tuple[str, ...]) -> str:
    text = pick(joints).join(parts) + pick(("。", "", "", "！"))
    if pick.chance(0.2):
        text = f"{text.rstrip('。！')}。{texts.chinese_sentence(pick)}"
    if pick.chance(0.1):
        text = texts.chinese_sentence(pick) + text
    return text


def _thing(pick: Pick, poster: Poster, names: Naming) -> tuple[str, bool, bool]:
    """The kind of picture, whether it names the surface, and whether it names the ground."""
    if poster.surface in scenes.CHINESE_SURFACE_THINGS and pick.chance(0.6):
        noun = pick(scenes.CHINESE_SURFACE_THINGS[poster.surface])
        if names.ground and not poster.accent and poster.surface in ("tote", "mug", "card"):
            return color(pick, poster.ground) + pick(("", "的")) + noun, True, True
        return noun, True, False
    plain = poster.surface == "plain" and (not poster.accent or poster.border)
    if plain and names.ground and pick.chance(0.12):  # as in 红色海报
        noun = pick(scenes.CHINESE_THINGS)
        return color(pick, poster.ground) + pick(("", "", "的")) + noun, False, True
    if poster.surface == "plain" and names.ink and names.ground and pick.chance(0.1):
        return pick(scenes.CHINESE_COLORFUL_THINGS), False, False
    return pick(scenes.CHINESE_THINGS), False, False


def _ground(pick: Pick, poster: Poster, names: Naming, told: bool) -> str:
    if poster.accent and not (poster.surface == "plain" and poster.border):
        wording = pick(scenes.CHINESE_ACCENTED[poster.surface])
        return wording.format(g=color(pick, poster.ground), a=color(pick, poster.accent))
    if told or poster.surface == "plain":
        if not names.ground:
            return ""
        if pick.chance(0.3):
            return color(pick, poster.ground) + pick(chinese_color_roles.SURFACES)
        return pick(scenes.CHINESE_GROUNDS["plain"]).format(g=color(pick, poster.ground))
    name = color(pick, poster.ground) if names.ground else ""
    if poster.surface == "gradient" and poster.ground in PASTEL and pick.chance(0.3):
        name = pick(("柔和的", "马卡龙色", "粉彩", "淡彩"))
    return pick(scenes.CHINESE_GROUNDS[poster.surface]).format(g=name).removeprefix("的")


def _extras(pick: Pick, poster: Poster) -> list[str]:
    found = []
    if poster.border:
        named = poster.accent and (poster.surface == "plain" or pick.chance(0.4))
        accent = color(pick, poster.accent) if named else ""
        found.append(pick(scenes.CHINESE_BORDERS).format(a=accent).removeprefix("的"))
    if poster.shadow:
        found.append(pick(scenes.CHINESE_SHADOWS))
    return found


def _family(pick: Pick, poster: Poster) -> str:
    return pick(families.CHINESE[poster.family])


def _style(pick: Pick, poster: Poster, names: Naming) -> str:
    """The letters' colour, weight and family: "红色粗体圆体字"; may be empty."""
    ink = color(pick, poster.ink) if names.ink else ""
    if poster.ink in NEON and poster.surface == "night" and pick.chance(0.3):
        ink = pick(("霓虹", "霓虹灯"))
    weight = pick(families.CHINESE_WEIGHTS) if pick.chance(0.35) else ""
    family = ""
    if names.family:
        family = _family(pick, poster)
    elif poster.family == families.FAMILY and pick.chance(0.15):
        family = pick(families.UNKNOWN_CHINESE)
    if not (ink or weight or family):
        return ""
    if family and pick.chance(0.2):
        return f"{pick(('字体为', '使用', '采用', '字体：', '用'))}{ink}{family}"
    letters = family or pick(("字", "文字", "字体", "大字", "字样"))
    if family and not family.endswith(("字", "字体")) and pick.chance(0.3):
        letters += pick(("字", "文字"))
    if ink and (weight or family) and pick.chance(0.12):
        return f"{weight}{letters}，字是{ink}的"
    joint = "的" if ink and pick.chance(0.3) else ""
    return pick((f"{ink}{joint}{weight}{letters}", f"{weight}{ink}{letters}"))


def _short_form(poster: Poster) -> str:
    """As in 红底白字; empty if a name is too long for it."""
    ground, ink = CHINESE_SHORT[poster.ground], CHINESE_SHORT[poster.ink]
    return f"{ground}底{ink}字" if len(ground) + len(ink) <= 4 else ""


def _placed(pick: Pick, phrase: Phrase, text: str) -> str:
    """The text with position and size where they differ from the defaults."""
    place = pick(scenes.CHINESE_POSITIONS[phrase.position]) if phrase.position != "center" else ""
    return place + ("小" if phrase.size == "small" else "") + text


def _clause(pick: Pick, phrase: Phrase, quote: str, position: bool, size: bool) -> str:
    place = pick(scenes.CHINESE_POSITIONS[phrase.position]) if position else ""
    extent = pick(scenes.CHINESE_SIZES[phrase.size]) if size else ""
    if place == "居中":
        return f"{place}{pick(('', '的', '显示')) if not extent else '的' + extent + '字'}{quote}"
    noun = pick(NOUNS) if extent or pick.chance(0.65) else ""
    if noun and not HAN.search(phrase.text) and pick.chance(0.3):
        noun = pick(("英文", "英文标题", "英文字母", "英文大字", "单词"))
    if place and not noun and pick.chance(0.5):
        return f"{quote}{pick(('位于', '在', '放在'))}{place}"
    if place and pick.chance(0.25):
        return f"{extent}{noun}{quote}{pick(('在', '位于', '放在'))}{place}"
    verb = pick(("", "", "", "是", "为", "：")) if noun else ""
    if place:
        place += pick(("", "", "写着", "有", "的")) if not noun else pick(("", "", "的", "有"))
        if place.endswith("的") and not (noun or extent):
            place = place[:-1]
    return f"{place}{extent}{noun}{verb}{quote}"


def _clauses(pick: Pick, poster: Poster, quotes: list[str], names: Naming) -> list[str]:
    phrases = poster.phrases
    if names.together(phrases) and pick.chance(0.7):
        together = pick(ABOVE).format(*quotes)
        return [_clause(pick, phrases[0], together, any(names.positions), False)]
    return [
        _clause(pick, *row)
        for row in zip(phrases, quotes, names.positions, names.sizes, strict=True)
    ]


def _without_text(pick: Pick, noun, must, parts, texts) -> str:
    parts = [part for part in parts if part]
    if must or pick.chance(0.4):
        parts.insert(0, noun)
    if pick.chance(0.15):
        parts.append(pick(("没有文字", "不要文字", "无字", "空白")))
    if not parts or pick.chance(0.6):
        for _ in range(1 + int(pick.number() * 3)):
            parts.insert(pick.index(len(parts) + 1), texts.chinese_clause(pick))
    if pick.chance(0.3):
        parts[0] = pick(WISHES) + parts[0]
    return _joined(pick, parts, texts, JOINTS)
