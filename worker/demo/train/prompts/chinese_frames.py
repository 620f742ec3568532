"""Chinese frames: openings, separators, wrappings and endings around the same clauses."""

from collections.abc import Callable

from prompts.frames import BULLETS, Parts
from prompts.pick import Pick

QUALITY = (
    "4k", "8k", "高清", "超清", "细节丰富", "最佳质量", "大师作品", "清晰锐利", "高分辨率", "写实",
    "专业设计", "平面设计", "特写镜头", "正面视角", "广角", "微距", "可打印", "构图简洁", "HD",
)  # fmt: skip
TAGS = ("设计", "海报", "文字", "排版", "简约", "艺术", "平面", "生活", "好看", "日常", "复古")
SEPARATORS = (
    "，",
    "，",
    "，",
    "、",
    "；",
    "。",
    " ",
    "\n",
    " / ",
    " | ",
    " - ",
    " + ",
    ", ",
    "—",
    "·",
)
WRAPS = (("", ""),) * 8 + (("[", "]"), ("（", "）"), ("(", ")"), ("【", "】"), ("<", ">"))
GREETINGS = (
    "你好", "您好", "大家好", "设计师你好", "老师好", "早上好", "各位", "在吗", "同学们好", "亲",
    "朋友", "嗨", "请问",
)  # fmt: skip
REQUESTS = (
    "我们需要", "我需要", "请做", "请帮忙做", "想要", "求", "求做", "麻烦设计", "能不能做",
    "可以画",
    "要做", "请给我", "公司需要", "店里要", "帮我画", "来", "急需", "有没有人会做", "请安排",
    "客户要", "打算做", "计划做", "希望得到", "请生成",
)  # fmt: skip
DETAILS = ("要求：", "具体要求：", "细节：", "说明：", "内容如下：", "注意：", "备注：", "需求：")
SIGNED = ("谢谢", "多谢", "谢谢大家", "感谢", "辛苦了", "拜托了", "就这样", "先谢过", "等你消息")
ITEM_KEYS = ("类型", "物品", "项目", "产品", "形式", "画什么", "载体", "用途")
TEXT_KEYS = ("内容", "文字", "文案", "上面写", "字", "标题", "写", "文字内容")
FACT_KEYS = ("设计", "样式", "风格", "视觉", "要求", "画面", "配色")
EXTRA_KEYS = ("其他", "气氛", "备注", "场景", "镜头", "感觉")
SAYS = ("上面写着", "写着", "文字是", "内容是", "要写", "请写", "上面的字是", "能看到", "文案：",
        "写上", "印上", "上面有", "应该写", "里面写", "读作")  # fmt: skip
FIRST = ("想象", "画面：", "场景：", "提示词：", "创意：", "方案：", "草图：", "照片：", "图片：",
         "镜头：",
         "效果图：", "近景：", "特写：", "作品：", "一眼看去：")  # fmt: skip
COUNTS = ("一张", "一个", "一幅", "", "一份", "一款", "")


def _kind(pick: Pick, parts: Parts) -> str:
    return pick(COUNTS) + (parts.thing or pick(("图片", "图", "设计", "作品", "画")))


def _end(pick: Pick, text: str) -> str:
    roll = pick.number()
    if roll < 0.5:
        return text
    if roll < 0.7:
        joint = pick(("，", "，", " "))
        return text + joint + joint.join(pick(QUALITY) for _ in range(1 + pick.index(3)))
    if roll < 0.78:
        return text + " " + " ".join("#" + pick(TAGS) for _ in range(1 + pick.index(3)))
    return text + pick(("。", "！", "，谢谢", "…", "，拜托", "？可以吗", "，好吗？", " --ar 1:1"))


def _any_order(pick: Pick, parts: Parts, thing: str) -> list[str]:
    found = list(parts.texts)
    for fact in (*parts.facts, *parts.extra):
        found.insert(pick.index(len(found) + 1), fact)
    if thing:
        found.insert(0 if pick.chance(0.6) else pick.index(len(found) + 1), thing)
    return found


def _said(pick: Pick, parts: Parts) -> str:
    return pick(SAYS) + pick(("和", "、", "，下面是", " + ")).join(parts.texts)


def telegram(pick: Pick, parts: Parts) -> str:
    """Clauses between any separators, at times each in brackets."""
    left, right = pick(WRAPS)
    rows = [f"{left}{row}{right}" for row in _any_order(pick, parts, parts.thing)]
    head = pick(FIRST) if pick.chance(0.15) else ""
    return _end(pick, head + pick(SEPARATORS).join(rows))


def bullets(pick: Pick, parts: Parts) -> str:
    """A line that asks for the thing, and a list."""
    rows = _any_order(pick, parts, "")
    mark = pick((*BULLETS, "·", "—"))
    if pick.chance(0.4):
        closing = pick((". ", "、", "）", "."))
        rows = [f"{number}{closing}{row}" for number, row in enumerate(rows, 1)]
    else:
        rows = [mark + row for row in rows]
    head = pick((*REQUESTS, "", "", "")) + _kind(pick, parts) + pick(("：", "", "，", "。"))
    return "\n".join([head, *rows])


def brief(pick: Pick, parts: Parts) -> str:
    """Keys and values."""
    rows = [f"{pick(ITEM_KEYS)}：{parts.thing}"] if parts.thing else []
    rows.append(f"{pick(TEXT_KEYS)}：{pick(('、', '和', '，')).join(parts.texts)}")
    key = pick(FACT_KEYS)
    rows += [row if "：" in row or pick.chance(0.35) else f"{key}：{row}" for row in parts.facts]
    rows += [f"{pick(EXTRA_KEYS)}：{row}" for row in parts.extra]
    rows = pick.shuffled(rows) if pick.chance(0.6) else rows
    return pick(("\n", "\n", "；", " | ", "，", "。", " ")).join(rows)


def letter(pick: Pick, parts: Parts) -> str:
    """A greeting, sentences, and thanks; parts of it may be missing."""
    head = pick(GREETINGS) + pick(("，", "！", "。", "\n", "：")) if pick.chance(0.6) else ""
    rows = [_said(pick, parts), *parts.sentences, *parts.extra]
    rows = pick.shuffled(rows) if pick.chance(0.5) else rows
    joint = pick(("，", "。", "，", "；"))
    body = joint.join([f"{pick(REQUESTS)}{_kind(pick, parts)}", *rows])
    return f"{head}{body}{pick(('。', '！', '，', ''))}{pick(SIGNED) if pick.chance(0.6) else ''}"


def notes(pick: Pick, parts: Parts) -> str:
    """Sentences one after the other, the thing in any of them."""
    rows = [_said(pick, parts), *parts.sentences, *parts.extra]
    rows = pick.shuffled(rows) if pick.chance(0.6) else rows
    kind = _kind(pick, parts)
    first = pick((pick(FIRST) + kind, kind, pick(REQUESTS) + kind, "这是" + kind))
    rows.insert(0 if pick.chance(0.8) else len(rows), first)
    return _end(pick, "".join(row if row[-1] in "。？！" else row + "。" for row in rows))


def forum(pick: Pick, parts: Parts) -> str:
    """A post: the wish, then details in clauses."""
    head = pick(("求助：", "【求助】", "[求图]", "主题：", "", "", "")) + pick(REQUESTS)
    rows = pick(("，", "；", "、", " ")).join(_any_order(pick, parts, ""))
    text = head + _kind(pick, parts) + pick(("。", "：", "，", "\n", "？"))
    text += pick(DETAILS) + rows if pick.chance(0.5) else rows
    return f"{text}。{pick(SIGNED)}" if pick.chance(0.35) else _end(pick, text)


FRAMES: tuple[Callable[[Pick, Parts], str], ...] = (
    *[telegram] * 6, *[bullets] * 2, *[brief] * 3, *[letter] * 3, *[notes] * 4, *[forum] * 3,
)  # fmt: skip
"""The frames, each as often as it is used."""
