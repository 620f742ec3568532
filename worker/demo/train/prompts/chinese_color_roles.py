"""Chinese statements of which colour belongs to the letters and which to the ground.

As in `color_roles`: `{c}` is the colour of the noun `{n}`; in `BOTH`, `{i}` is the colour of the
letters `{n}`, and `{g}` that of the ground `{b}`. `{i}` and `{g}` end with 色 except in `SHORT`.
"""

from collections.abc import Sequence

from prompts.pick import Pick

LETTERS = (
    "字", "文字", "字体", "字样", "大字", "文字部分", "字", "文字", "所有文字", "字的部分",
    "上面的字", "这些字", "写的字", "字本身",
)  # fmt: skip
ALONE = ("标题", "标语", "主标题", "文案", "口号", "题字")
GROUNDS = (
    "背景", "背景", "底", "底色", "画面", "底板", "背板", "版面", "墙面", "其余部分", "其余",
    "周围", "后面", "整个画面", "背景部分", "衬底", "底面", "其他地方", "四周", "字的后面",
    "文字周围", "整个底面", "背后",
)  # fmt: skip
SURFACES = ("背景", "底", "底板", "背板", "版面", "墙面", "画面", "衬底", "底面")
"""Nouns for the ground that may follow its colour, as in 红色墙面."""
CLAUSES = (
    "{c}{n}", "{c}{n}", "{c}的{n}", "{n}{c}", "{n}是{c}", "{n}为{c}", "{n}：{c}", "{n}:{c}",
    "{n}用{c}", "{n}要{c}的", "{n}采用{c}", "把{n}做成{c}", "用{c}做{n}", "{n}颜色：{c}",
    "{n}的颜色是{c}", "{c}作为{n}的颜色", "{n}选{c}", "{n}请用{c}", "{n}全部{c}", "{n}画成{c}",
    "{n}是{c}的", "{n}要求{c}", "{n}全是{c}", "{n}统一用{c}", "{n}（{c}）", "{c}（{n}）",
    "{n}一定要{c}", "让{n}是{c}", "{n}的颜色为{c}", "{n}应该是{c}", "{n}想要{c}", "{n}配{c}",
    "{n}都用{c}", "{n}={c}", "{n}-{c}", "{n}设为{c}", "{n}改成{c}", "{n}最好是{c}",
)  # fmt: skip
ADJECTIVE = ("{c}{n}", "{c}的{n}", "{c}（{n}）")
"""Patterns in which the noun follows its colour."""
SENTENCES = (
    "{n}是{c}的", "{n}要用{c}", "请把{n}画成{c}", "{n}的颜色请用{c}", "我想让{n}是{c}",
    "{n}能不能用{c}？", "{n}用什么颜色？{c}", "{n}必须是{c}", "希望{n}是{c}的", "{n}选用{c}",
    "{c}是{n}的颜色", "至于{n}，用{c}", "关于{n}：{c}", "{n}可以是{c}吗？", "{n}请做成{c}",
)  # fmt: skip
GROUND_CLAUSES = (
    "{c}打底", "以{c}为底", "{c}衬底", "写在{c}上", "印在{c}上", "放在{c}上面", "后面是{c}",
    "其余都是{c}", "周围全是{c}", "铺满{c}", "底下是{c}", "除了字都是{c}", "下面一片{c}",
    "衬在{c}上", "背后{c}", "四周{c}",
)  # fmt: skip
INK_CLAUSES = ("用{c}写", "用{c}写成", "写成{c}", "以{c}书写", "用{c}印", "{c}书写")
BOTH = (
    "{g}{b}{i}{n}", "{g}{b}，{i}{n}", "{i}{n}，{g}{b}", "{g}{b}上{i}{n}", "{g}{b}上的{i}{n}",
    "{g}{b}上写{i}{n}", "{i}{n}配{g}{b}", "{g}{b}配{i}{n}", "{i}{n}写在{g}{b}上",
    "{i}的{n}在{g}的{b}上", "在{g}{b}上用{i}写字", "{b}{g}、{n}{i}", "{n}{i}、{b}{g}",
    "{b}{g}，{n}{i}", "{n}{i}，{b}{g}", "{b}：{g}；{n}：{i}", "{n}：{i}；{b}：{g}",
    "{n}和{b}分别是{i}和{g}", "{b}和{n}分别为{g}、{i}", "{b}用{g}，{n}用{i}",
    "{n}用{i}，{b}用{g}", "{b}是{g}，{n}是{i}", "{n}是{i}，{b}是{g}", "{n}为{i}，{b}为{g}",
    "{g}做{b}，{i}做{n}", "{i}做{n}，{g}做{b}", "{g}{b}加{i}{n}", "{i}{n}加{g}{b}",
    "{g}{b}与{i}{n}", "{b}选{g}而{n}选{i}", "{g}{b}衬着{i}{n}", "{i}{n}下面是{g}{b}",
    "{g}{b}前面是{i}{n}", "配色：{g}{b}、{i}{n}", "颜色：{n}{i}，{b}{g}", "{n}/{b}：{i}/{g}",
    "{b}/{n}：{g}/{i}", "{b}要{g}的，{n}要{i}的", "把{b}做成{g}、把{n}做成{i}",
)  # fmt: skip
BARE = (
    "{g}打底，{i}写字", "以{g}为底，以{i}写字", "{g}上写{i}{n}", "{g}上的{i}{n}", "{i}{n}，其余{g}",
    "除了{i}的{n}，其余都是{g}", "全是{g}，只有{n}是{i}", "{i}{n}写在{g}上", "{g}衬{i}{n}",
    "{i}{n}衬在{g}上", "一片{g}上有{i}{n}", "用{i}写在{g}上",
)  # fmt: skip
SHORT = ("{g}底{i}字", "{i}字{g}底", "底{g}字{i}", "字{i}底{g}", "{g}底上{i}字", "{g}底，{i}字",
         "{i}字，{g}底", "{g}底写{i}字", "{i}字配{g}底", "{g}底配{i}字")  # fmt: skip
JOINTS = ("，", "，", "；", "、", " ", " + ", "，而", "，并且")


def statements(
    pick: Pick,
    ink: str | None,
    ground: str | None,
    grounds: Sequence[str] = GROUNDS,
    bare: bool = True,
    alone: bool = True,
    short: tuple[str, str] | None = None,
) -> list[str]:
    """One or two statements that give each named colour its role, in any order.

    `grounds` are nouns for the ground; `bare` allows a ground without its noun; `short` are the
    names of both colours without 色, if they may be used.
    """
    noun = pick(ALONE) if alone and pick.chance(0.2) else pick.often(LETTERS, 4)
    if ink and ground and pick.chance(0.55):
        if short and pick.chance(0.4):
            return [pick(SHORT).format(i=short[0], g=short[1])]
        if bare and pick.chance(0.3):
            return [pick(BARE).format(n=pick(("字", "文字", "大字")), i=ink, g=ground)]
        below = pick.often(SURFACES, 2) if grounds is GROUNDS else pick(grounds)
        return [pick.often(BOTH, 6).format(n=noun, b=below, i=ink, g=ground)]
    found = []
    if ink:
        patterns = pick((CLAUSES, CLAUSES, CLAUSES, SENTENCES, INK_CLAUSES))
        found.append(pick.often(patterns, 3).format(n=noun, c=ink))
    if ground:
        if bare and pick.chance(0.3):
            found.append(pick(GROUND_CLAUSES).format(c=ground))
        else:
            pattern = pick.often(CLAUSES if pick.chance(0.8) else SENTENCES, 3)
            nouns = SURFACES if grounds is GROUNDS and pattern in ADJECTIVE else grounds
            found.append(pattern.format(n=pick.often(nouns, 2), c=ground))
    if len(found) == 2 and pick.chance(0.5):
        found.reverse()
    if len(found) == 2 and pick.chance(0.45) and "？" not in "".join(found):
        return [pick(JOINTS).join(found)]
    return found
