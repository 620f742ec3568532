"""English and Chinese names of the colours.

A name has exactly one key of `posters.colors.COLORS`. Plain names, shades of them ("deep red") and
names with a shade in themselves ("crimson") each list the keys that they may stand for, the best
first, so that every name stays sensible whichever shades have a key of their own.
"""

from posters.colors import COLORS, luminance
from prompts.color_synonyms import CHINESE_SYNONYMS, ENGLISH_SYNONYMS

# Key of a plain colour: its English names, and its Chinese names without 色.
PLAIN = {
    "red": (("red",), ("红", "大红", "正红")),
    "orange": (("orange",), ("橙", "橘", "橘黄")),
    "yellow": (("yellow",), ("黄", "明黄")),
    "green": (("green",), ("绿",)),
    "blue": (("blue",), ("蓝",)),
    "purple": (("purple",), ("紫",)),
    "pink": (("pink",), ("粉", "粉红")),
    "brown": (("brown",), ("棕", "褐", "咖啡")),
    "gray": (("gray", "grey"), ("灰",)),
    "black": (("black",), ("黑",)),
    "white": (("white",), ("白",)),
    "teal": (("teal",), ("蓝绿", "水鸭")),
    "cyan": (("cyan",), ("青",)),
    "turquoise": (("turquoise",), ("绿松石", "松石绿")),
    "magenta": (("magenta",), ("品红", "洋红")),
    "navy": (("navy", "navy blue"), ("藏青", "海军蓝", "藏蓝")),
    "beige": (("beige",), ("米", "米黄")),
    "cream": (("cream", "cream-white"), ("奶油", "米白")),
    "gold": (("gold", "golden"), ("金", "金黄")),
    "silver": (("silver", "silvery"), ("银",)),
    "violet": (("violet",), ("紫罗兰", "蓝紫")),
    "lavender": (("lavender",), ("薰衣草紫", "薰衣草")),
    "olive": (("olive", "olive-green"), ("橄榄绿", "橄榄")),
    "maroon": (("maroon",), ("褐红", "栗红")),
    "coral": (("coral",), ("珊瑚", "珊瑚红")),
    "salmon": (("salmon", "salmon-pink"), ("三文鱼", "鲑红")),
    "lime": (("lime", "lime-green"), ("青柠", "酸橙绿")),
    "mint": (("mint", "mint-green"), ("薄荷", "薄荷绿")),
    "peach": (("peach",), ("桃", "蜜桃")),
    "tan": (("tan",), ("棕褐", "小麦")),
    "indigo": (("indigo",), ("靛", "靛蓝", "靛青")),
    "crimson": (("crimson",), ("绯红", "深绯")),
}

# Shades: the prefixes of keys that they may stand for, the best first ("": the plain colour), their
# English and their Chinese words.
SHADES = (
    (("dark", "deep"), ("dark", "very dark", "darker", "deep", "rich deep"), ("深", "暗", "浓")),
    (("light", "pale"), ("light", "lighter", "soft light"), ("浅",)),
    (("pale", "light"), ("pale", "pastel", "very pale", "faint", "soft"), ("淡", "柔和的")),
    (("neon",), ("neon", "fluorescent", "glowing neon", "electric"), ("霓虹", "荧光")),
    (("bright", "vivid", ""), ("bright", "vivid", "brilliant", "intense"), ("亮", "鲜艳的")),
)
SHADED = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "teal", "violet",
    "turquoise", "gold", "magenta", "lime",
)  # fmt: skip
"""Plain colours that have shades."""

# Names that have a shade in themselves. The first key that exists has the name.
ENGLISH = {
    "scarlet": "scarlet|red", "cherry-red": "cherry|red", "fire-engine red": "bright red|red",
    "tomato-red": "red", "ruby": "ruby|crimson|dark red|red",
    "wine-red": "burgundy|maroon|dark red", "burgundy": "burgundy|maroon|dark red|red",
    "blood-red": "crimson|dark red|red", "crimson": "crimson|dark red|red",
    "maroon": "maroon|burgundy|dark red|brown", "brick-red": "brick red|brick|dark red|red",
    "rust": "rust|dark orange|brown", "terracotta": "terracotta|rust|dark orange|brown",
    "tangerine": "orange", "pumpkin": "orange", "apricot": "apricot|peach|light orange|orange",
    "peach": "peach|light orange|pale orange|orange", "amber": "amber|gold|orange",
    "burnt orange": "burnt orange|dark orange|orange", "coral": "coral|salmon|light red|pink",
    "salmon": "salmon|coral|light red|pink", "lemon-yellow": "bright yellow|yellow",
    "lemon": "yellow", "sunny yellow": "yellow", "canary-yellow": "yellow",
    "mustard": "mustard|dark yellow|gold", "gold": "gold|dark yellow|yellow",
    "metallic gold": "gold|yellow", "butter-yellow": "pale yellow|light yellow|yellow",
    "forest-green": "forest green|dark green|green",
    "forest green": "forest green|dark green|green", "bottle-green": "dark green|green",
    "emerald": "emerald|green", "emerald-green": "emerald|green", "grass-green": "green",
    "leaf-green": "green", "hunter green": "dark green|green", "pine-green": "dark green|green",
    "olive": "olive|dark green|green", "sage": "sage|pale green|light green",
    "sage-green": "sage|pale green|light green", "mint": "mint|pale green|light green|green",
    "mint-green": "mint|pale green|light green|green", "lime": "lime|bright green|light green",
    "lime-green": "lime|bright green|light green", "apple-green": "lime|light green|green",
    "turquoise": "turquoise|cyan|teal", "aqua": "aqua|cyan|turquoise",
    "aquamarine": "turquoise|cyan", "teal": "teal|turquoise|cyan",
    "petrol": "dark teal|teal|dark cyan", "sky-blue": "sky blue|light blue|blue",
    "sky blue": "sky blue|light blue|blue", "baby blue": "pale blue|light blue|blue",
    "powder-blue": "pale blue|light blue|blue", "ice-blue": "pale blue|light blue|blue",
    "royal blue": "royal blue|blue", "cobalt": "cobalt|blue", "cobalt-blue": "cobalt|blue",
    "sapphire": "blue", "azure": "azure|sky blue|light blue|blue", "ocean-blue": "blue",
    "navy": "navy|dark blue|blue", "navy blue": "navy|dark blue|blue",
    "midnight blue": "midnight blue|navy|dark blue|blue", "indigo": "indigo|dark purple|dark blue",
    "violet": "violet|purple", "lilac": "lilac|lavender|light purple|pale purple|purple",
    "lavender": "lavender|lilac|light purple|pale purple|purple",
    "plum": "plum|dark purple|purple", "aubergine": "dark purple|purple",
    "eggplant": "dark purple|purple", "mauve": "mauve|light purple|lavender", "amethyst": "purple",
    "grape": "purple", "magenta": "magenta|hot pink|pink",
    "fuchsia": "fuchsia|magenta|hot pink|pink", "hot pink": "hot pink|neon pink|magenta|pink",
    "shocking pink": "hot pink|neon pink|pink", "rose": "rose|pink", "rose-pink": "rose|pink",
    "bubblegum pink": "pink", "blush": "pale pink|light pink|pink",
    "blush pink": "pale pink|light pink|pink", "baby pink": "pale pink|light pink|pink",
    "chocolate": "chocolate|dark brown|brown", "chocolate-brown": "chocolate|dark brown|brown",
    "coffee-brown": "dark brown|brown", "espresso": "dark brown|brown", "chestnut": "brown",
    "caramel": "light brown|tan|brown", "tan": "tan|light brown|beige", "sand": "sand|tan|beige",
    "sandy": "sand|tan|beige", "khaki": "khaki|tan|beige", "beige": "beige|cream|tan",
    "cream": "cream|beige|pale yellow", "ivory": "ivory|cream|beige",
    "off-white": "off-white|ivory|cream|white", "eggshell": "ivory|cream|beige",
    "snow-white": "white", "pure white": "white",
    "charcoal": "charcoal|dark gray|dark grey|gray|grey", "slate": "slate|dark gray|gray",
    "graphite": "dark gray|dark grey|charcoal|gray", "silver": "silver|light gray|light grey|gray",
    "ash-grey": "light gray|light grey|gray|grey", "jet-black": "black", "pitch-black": "black",
    "ebony": "black", "jade": "jade|green", "seafoam": "mint|pale green|light green",
    "mahogany": "dark brown|maroon|brown", "copper": "copper|rust|brown", "bronze": "bronze|brown",
    "orchid": "orchid|light purple|magenta", "slate-gray": "slate|dark gray",
    "slate-grey": "slate|dark gray", "slate blue": "slate", "dark yellow": "mustard|gold",
    "deep yellow": "mustard|gold", "ochre": "mustard|dark yellow",
    "light purple": "lavender|pale purple", "light brown": "light brown|tan", "wine": "burgundy",
    "cyan": "cyan|neon blue|turquoise", "dark turquoise": "teal", "dark cyan": "dark teal|teal",
    "electric blue": "neon blue|blue", "dark lime": "olive|green", "dark gold": "mustard|gold",
    "dark magenta": "dark pink|magenta", "raspberry": "dark pink|magenta",
    "light gold": "light yellow", "pale gold": "light yellow", "light turquoise": "mint|turquoise",
    "pale turquoise": "mint|turquoise", "dark violet": "indigo|purple", "light violet": "lavender",
    "pale violet": "lavender", "acid green": "neon green|bright green|lime|green",
    "acid yellow": "neon yellow|bright yellow|yellow",
}  # fmt: skip
CHINESE = {
    "朱红": "scarlet|red", "鲜红": "bright red|red", "中国红": "red", "正红": "red",
    "酒红": "burgundy|maroon|dark red|red", "绛红": "maroon|dark red|red",
    "砖红": "brick red|brick|dark red|red", "玫红": "hot pink|magenta|rose|pink",
    "玫瑰红": "hot pink|magenta|rose|pink", "樱花粉": "pale pink|light pink|pink",
    "桃红": "hot pink|pink", "珊瑚": "coral|salmon|pink", "橘红": "dark orange|orange",
    "橙黄": "orange", "杏": "apricot|peach|light orange|orange", "琥珀": "amber|gold|orange",
    "柠檬黄": "bright yellow|yellow", "鹅黄": "pale yellow|light yellow|yellow",
    "土黄": "mustard|dark yellow|tan|brown", "金": "gold|dark yellow|yellow",
    "烫金": "gold|yellow", "墨绿": "forest green|dark green|green",
    "森林绿": "forest green|dark green|green", "翠绿": "emerald|green", "祖母绿": "emerald|green",
    "草绿": "green", "嫩绿": "light green|pale green|green", "橄榄绿": "olive|dark green|green",
    "薄荷绿": "mint|pale green|light green|green", "青柠": "lime|bright green|light green",
    "青绿": "teal|turquoise|cyan", "湖蓝": "turquoise|cyan|teal",
    "天蓝": "sky blue|light blue|blue", "宝蓝": "royal blue|blue", "宝石蓝": "blue",
    "海蓝": "blue", "湛蓝": "blue", "粉蓝": "pale blue|light blue|blue",
    "藏青": "navy|dark blue|blue", "午夜蓝": "midnight blue|navy|dark blue",
    "靛蓝": "indigo|dark blue|blue", "丁香紫": "lilac|lavender|light purple|purple",
    "薰衣草": "lavender|lilac|light purple|purple", "葡萄紫": "dark purple|purple",
    "洋红": "magenta|hot pink|pink", "紫红": "magenta|fuchsia|purple",
    "巧克力": "chocolate|dark brown|brown", "咖啡": "brown", "焦糖": "light brown|tan|brown",
    "卡其": "khaki|tan|beige", "沙": "sand|tan|beige", "米黄": "beige|cream", "米": "beige|cream",
    "米白": "ivory|cream|beige", "象牙白": "ivory|cream|beige", "奶油": "cream|beige",
    "雪白": "white", "纯白": "white", "乳白": "off-white|ivory|cream|white",
    "炭灰": "charcoal|dark gray|dark grey|gray|grey", "银": "silver|light gray|light grey|gray",
    "银灰": "light gray|light grey|silver|gray", "漆黑": "black", "纯黑": "black", "墨": "black",
    "铁锈": "rust|brown", "赤陶": "terracotta|rust|brown", "古铜": "bronze|copper|brown",
    "青灰": "slate", "石板": "slate", "青": "cyan|turquoise|teal", "深黄": "mustard|gold",
    "浅紫": "lavender|pale purple", "浅棕": "light brown|tan", "深青": "dark teal|teal",
    "浅粉": "pale pink|light pink", "葡萄酒红": "burgundy", "芥末黄": "mustard|dark yellow|gold",
    "玉绿": "jade|green",
}  # fmt: skip


def _first(options: list[str] | tuple[str, ...]) -> str | None:
    """The first of the keys that exists, in either spelling of grey."""
    for key in options:
        for form in (key, key.replace("gray", "grey")):
            if form in COLORS:
                return form
    return None


def _shaded(prefixes: tuple[str, ...], plain: str) -> str | None:
    return _first([f"{prefix} {plain}".strip() for prefix in prefixes])


def _collect() -> tuple[dict[str, str], dict[str, str]]:
    """Each English and each Chinese name with its key. A key's own name and the plain names come
    before made-up shades, which come after names with a shade in themselves."""
    english = {key: key for key in COLORS}
    chinese: dict[str, str] = {}
    for plain, (names, han) in PLAIN.items():
        if key := _first((plain,)):
            for name in names:
                english.setdefault(name, key)
            for name in han:
                chinese.setdefault(name, key)
    for table, names in ((ENGLISH, english), (CHINESE, chinese)):
        for name, options in table.items():
            if key := _first(options.split("|")):
                names.setdefault(name, key)
    for table, names in ((ENGLISH_SYNONYMS, english), (CHINESE_SYNONYMS, chinese)):
        for name, key in table.items():
            names.setdefault(name, key)
    for prefixes, words, han_words in SHADES:
        for plain in SHADED:
            names, han = PLAIN[plain]
            if not (key := _shaded(prefixes, plain)):
                continue
            for word in words:
                for name in names:
                    english.setdefault(f"{word} {name}", key)
            # Only the first Chinese name: 深大红 is no word.
            for word in han_words:
                chinese.setdefault(word + han[0], key)
    return english, chinese


_ENGLISH, _CHINESE = _collect()


def _by_key(names: dict[str, str], suffix: str = "") -> dict[str, tuple[str, ...]]:
    table: dict[str, list[str]] = {key: [] for key in COLORS}
    for name, key in names.items():
        table[key].append(name + suffix)
    return {key: tuple(found) for key, found in table.items()}


ENGLISH_NAMES = _by_key(_ENGLISH)
"""All English names of each key."""

CHINESE_NAMES = _by_key(_CHINESE, "色")
"""All Chinese names of each key, with 色."""

CHINESE_SHORT = {
    key: min(names, key=lambda name: (len(name) != 2, name[0] not in "深浅淡"))[:-1]
    for key, names in CHINESE_NAMES.items()
}
"""A Chinese name of each key without 色, of one character where there is one, as in 红底白字."""

# Keys that "pastel" and "neon" may stand for when no colour is named.
PASTEL = tuple(
    key
    for key in COLORS
    if luminance(key) > 0.55
    and key not in ("white", "yellow", "bright yellow")
    and not key.startswith("neon")
)
NEON = tuple(key for key in COLORS if key.startswith("neon"))
