"""Wording of the held-out lists that are not written by hand. It shares nothing with the wording
of the training prompts, on purpose: names, templates and phrases here are the evaluation's own."""

import numpy as np

CHINESE_COLORS = {
    "black": "黑色", "white": "白色", "gray": "灰色", "dark gray": "深灰色", "light gray": "浅灰色",
    "cream": "奶油色", "beige": "米色", "brown": "棕色", "dark brown": "深棕色", "red": "红色",
    "dark red": "深红色", "coral": "珊瑚色", "orange": "橙色", "gold": "金色", "yellow": "黄色",
    "pale yellow": "淡黄色", "green": "绿色", "dark green": "深绿色", "light green": "浅绿色",
    "mint": "薄荷绿", "teal": "蓝绿色", "sky blue": "天蓝色", "blue": "蓝色", "dark blue": "深蓝色",
    "light blue": "浅蓝色", "navy": "藏青色", "purple": "紫色", "dark purple": "深紫色",
    "lavender": "淡紫色", "pink": "粉色", "hot pink": "亮粉色", "magenta": "洋红色",
    "burgundy": "酒红色",
}  # fmt: skip
"""The Chinese names that the lists use; colours without one are named in English prompts only."""

ONE = (
    "design {a_thing} for me. It should say {q}, {ink} lettering, {ground} behind it",
    "{thing}, {q}, {ink} on {ground}",
    "{q} as {a_thing} — background in {ground}, the letters {ink}",
    "Can you do {a_thing}? Words: {q}. Use {ink} for the words and {ground} for everything else.",
    "simple {thing} on {ground}. lettering {ink}. it reads {q}",
    "We need {a_thing} with {ground} all over and {q} set in {ink}",
    "{ground} {thing}, with {q} in {ink} type",
    "clean layout, {ground} backdrop, {q} written in {ink}, fit for {a_thing}",
)
ONE_OPEN = (
    "{a_thing} for our {place}: {q}",
    "just {q}, big and readable",
    "{thing} I can hang up in the {place}. The text is {q}.",
    "mock up {a_thing}, copy: {q}, keep it tidy",
    "{q} — {thing}, photographed straight on, soft light",
)
TWO = (
    "{thing} with {p} on top and {q} down at the bottom, {ink} letters, {ground} ground",
    "upper line {p}, lower line {q}; {ink} on {ground}; meant as {a_thing}",
    "{a_thing} that has {p} along the top edge, and along the bottom {q}, {ink}, over {ground}",
)  # fmt: skip
THREE = (
    "{thing}, three lines of {ink} text on {ground}: {q}",
    "stack the words {q} in {ink} on {ground} for {a_thing}",
    "a tall block of {ink} lettering on {ground} that reads {q}",
)
CHINESE_ONE = (
    "{ground}的{thing}，上面是{ink}的字{q}",
    "做一个{thing}，文字{q}用{ink}，底色用{ground}",
    "{thing}，{q}，{ink}文字，{ground}背景，干净一些",
    "在{ground}的底上用{ink}写{q}，用来做{thing}",
)
CHINESE_OPEN = ("{thing}：{q}", "给我们的店设计一个{thing}，只写{q}", "{q}，{thing}，简单大方")
CHINESE_TWO = ("{thing}，上面一行{p}，最下面一行{q}，{ink}的字，{ground}的底",)

THINGS = (
    "placard", "window poster", "wall print", "notice", "cover", "leaflet", "hoarding", "handbill",
    "title slide", "gift tag", "shelf label", "playbill", "web header", "door sign", "sticker",
)  # fmt: skip
CHINESE_THINGS = ("海报", "招牌", "封面", "标签", "告示", "传单", "宣传画", "门牌", "贴纸", "展板")
PLACES = ("kitchen", "studio", "clinic", "workshop", "bike shed", "classroom", "lobby", "garage")
QUOTES = ('""', "“”", "''", "‘’", "«»")
CHINESE_QUOTES = ("“”", "「」", "『』", '""', "‘’")

PHRASES = (
    "Ring twice", "OPEN LATE", "Mind the dog", "20 YEARS", "Fresh eggs", "STAFF ONLY", "Room 14",
    "Take one", "NEW HERE?", "Pay inside", "Book club", "HOT DOGS", "Back at 3", "WE MOVED",
    "Lost cat", "PUSH", "Bike sale", "No milk", "Rainy day", "FINAL CALL",
)  # fmt: skip
CHINESE_PHRASES = (
    "正在开会", "小店", "请走后门", "手工面", "最后三天", "老地方", "北方水果", "一路平安", "听海",
    "下周开业", "电话", "回家吃饭",
)  # fmt: skip

SUBJECTS = (
    "a pear on a plate", "calm sea before sunrise", "rolling hills in fog", "an empty bench",
    "a sleeping fox", "two red umbrellas", "a paper boat", "sand dunes", "a blue door",
    "a bowl of ramen", "pine forest after snow", "a hot air balloon", "an orange cat by a window",
    "a lonely cactus", "a stack of pancakes", "the moon over a lake", "a bicycle against a wall",
    "tulips in a vase", "an old wooden table", "a folded blanket", "soft pink clouds",
    "a striped beach towel", "a plain brick wall", "a white coffee mug", "a canvas bag on a hook",
)  # fmt: skip
CHINESE_SUBJECTS = (
    "一只睡觉的猫", "海边的日落", "一片竹林", "雪后的山", "一碗热汤面", "空空的木桌", "蓝天白云",
    "一面红砖墙", "湖上的小船", "春天的樱花", "一杯清茶", "夜里的街道", "白色的杯子", "山间的小路",
    "一朵向日葵",
)  # fmt: skip
MANNERS = (
    "{s}, no text", "{s}", "flat illustration of {s}, no lettering anywhere", "poster of {s}",
    "{s}, muted colours", "background image: {s}, without words",
)  # fmt: skip
CHINESE_MANNERS = ("{s}", "{s}，不要文字", "{s}的插画，没有字", "背景图：{s}")


def _pick(rng: np.random.Generator, choices):
    return choices[int(rng.integers(len(choices)))]


def quoted(rng: np.random.Generator, text: str, chinese: bool) -> str:
    """The text in quotes of a random kind, but not in quotes that it has inside."""
    kinds = CHINESE_QUOTES if chinese else QUOTES
    quotes = _pick(rng, [q for q in kinds if not set(q) & set(text)])
    return quotes[0] + text + quotes[1]


def prompt(
    rng: np.random.Generator,
    texts: list[str],
    ink: str | None = None,
    ground: str | None = None,
    chinese: bool = False,
) -> str:
    """A prompt for one phrase (three lines of which if it has three words), or for two phrases at
    the top and at the bottom. Colours are named if both are given."""
    thing = _pick(rng, CHINESE_THINGS if chinese else THINGS)
    if chinese:
        kinds = CHINESE_TWO if len(texts) == 2 else CHINESE_ONE if ink else CHINESE_OPEN
        ink, ground = CHINESE_COLORS.get(ink or ""), CHINESE_COLORS.get(ground or "")
    elif len(texts) == 2:
        kinds = TWO
    elif ink:
        kinds = THREE if len(texts[0].split()) == 3 else ONE
    else:
        kinds = ONE_OPEN
    article = "an " if thing[0] in "aeiou" else "a "
    *first, last = (quoted(rng, text, chinese) for text in texts)
    return _pick(rng, kinds).format(
        thing=thing, a_thing=article + thing, place=_pick(rng, PLACES), ink=ink, ground=ground,
        p="".join(first), q=last,
    )  # fmt: skip


def without_text(rng: np.random.Generator, chinese: bool) -> str:
    """A prompt that quotes nothing."""
    subjects, manners = (SUBJECTS, MANNERS) if not chinese else (CHINESE_SUBJECTS, CHINESE_MANNERS)
    return _pick(rng, manners).format(s=_pick(rng, subjects))
