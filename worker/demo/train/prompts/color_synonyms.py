"""Every-day names of colours with the RGB value that stands for each.

A name belongs to the key of `posters.colors.COLORS` that is nearest in CIELAB, so that a picture in
that key is what the name asks for. Sources of the values: the named colours of CSS Color Module
Level 4 (which are those of X11), and the list of the xkcd colour name survey (CC0). Of names that
both have, the value closer to what people mean is taken. Chinese names (without 色) have the value
of the English name that they translate.
"""

from posters.colors import nearest

CSS = {
    "wheat": "f5deb3", "bisque": "ffe4c4",
    "snow": "fffafa", "seashell": "fff5ee", "honeydew": "f0fff0", "antique white": "faebd7",
    "cornsilk": "fff8dc", "lemon chiffon": "fffacd", "goldenrod": "daa520", "sea green": "2e8b57",
    "medium sea green": "3cb371", "olive drab": "6b8e23", "cornflower blue": "6495ed",
    "dodger blue": "1e90ff", "steel blue": "4682b4", "cadet blue": "5f9ea0",
    "deep sky blue": "00bfff", "light sky blue": "87cefa", "alice blue": "f0f8ff",
    "thistle": "d8bfd8", "rebecca purple": "663399", "gainsboro": "dcdcdc", "dim gray": "696969",
    "white smoke": "f5f5f5", "ghost white": "f8f8ff", "misty rose": "ffe4e1",
    "light coral": "f08080", "light salmon": "ffa07a", "saddle brown": "8b4513",
    "burlywood": "deb887", "moccasin": "ffe4b5", "navajo white": "ffdead",
    "dark slate blue": "483d8b", "yellow-green": "9acd32",
    "sienna": "a0522d", "floral white": "fffaf0", "mint cream": "f5fffa",
    "blanched almond": "ffebcd",
}  # fmt: skip
XKCD = {
    "tomato": "ef4026", "cherry": "cf0234", "cranberry": "9e003a", "merlot": "730039",
    "lipstick red": "c0022f", "carmine": "9d0216", "rouge": "ab1239", "sepia": "985e2b",
    "cocoa": "875f42", "mocha": "9d7651", "taupe": "b9a281", "camel": "c69f59", "fawn": "cfaf7b",
    "buff": "fef69e", "sunflower": "ffc512", "sunflower yellow": "ffda03",
    "marigold": "fcc006", "saffron": "feb209", "banana": "ffff7e", "mango": "ffa62b",
    "pumpkin orange": "fb7d07", "melon": "ff7855", "kelly green": "02ab2e",
    "shamrock green": "02c14d", "fern": "63a950", "fern green": "548d44", "moss": "769958",
    "moss green": "658b38", "avocado": "90b134", "avocado green": "87a922", "pistachio": "c0fa8b",
    "pear": "cbf85f", "pea green": "8eab12", "pine": "2b5d34", "spruce": "0a5f38",
    "racing green": "014600", "army green": "4b5d16", "celadon": "befdb7", "cerulean": "0485d1",
    "marine": "042e60", "marine blue": "01386a", "periwinkle": "8e82fe", "denim": "3b638c",
    "denim blue": "3b5b92", "carolina blue": "8ab8fe", "wisteria": "a87dc2", "heather": "a484ac",
    "dusty rose": "c0737a", "dusty pink": "d58a94", "carnation pink": "ff7fa7", "cerise": "de0c62",
    "royal purple": "4b006e", "mulberry": "920a4e", "gunmetal": "536267", "steel": "738595",
    "steel grey": "6f828a", "charcoal grey": "3c4142", "azul": "1d5dec", "bordeaux": "7b002c",
    "claret": "680018", "forest": "0b5509", "midnight": "03012d", "burnt sienna": "b04e0f",
    "cinnamon": "ac4f06", "berry": "990f4b", "blueberry": "464196", "sun yellow": "ffdf22",
    "golden yellow": "fec615", "dandelion": "fedf08", "butterscotch": "fdb147",
    "chocolate brown": "411900",
    "baby green": "8cff9e", "baby purple": "ca9bf7", "dusty orange": "f0833a",
    "dusty green": "76a973", "dusty teal": "4c9085", "light teal": "90e4c1", "light aqua": "8cffdb",
    "blue-grey": "607c8e", "medium grey": "7d7f7c", "bright cyan": "41fdfe", "light rose": "ffc5cb",
    "dark rose": "b5485d", "pale salmon": "ffb19a", "powder pink": "ffb2d0", "pale teal": "82cbb2",
    "dark mustard": "a88905", "dark maroon": "3c0008", "dark navy": "000435",
    "dark coral": "cf524e", "toxic green": "61de2a", "water blue": "0e87cc", "rosy pink": "f6688e",
}  # fmt: skip
CHINESE = {
    "番茄红": "ef4026", "樱桃红": "cf0234",
    "枣红": "680018", "火砖红": "b22222", "可可": "875f42", "摩卡": "9d7651", "驼": "c69f59",
    "向日葵黄": "ffda03", "香蕉黄": "ffff7e",
    "芒果黄": "ffa62b", "南瓜": "fb7d07", "蜜瓜橙": "ff7855", "苔绿": "658b38",
    "牛油果绿": "87a922", "开心果绿": "c0fa8b", "松绿": "2b5d34", "松针绿": "0a5f38",
    "军绿": "4b5d16", "海绿": "2e8b57", "黄绿": "9acd32", "钢蓝": "4682b4",
    "牛仔蓝": "3b5b92", "长春花蓝": "8e82fe", "灰蓝": "607c8e", "灰粉": "d58a94",
    "豆沙": "c0737a", "樱桃": "cf0234", "皇家紫": "4b006e", "铁灰": "536267",
    "炭黑": "3c4142", "暗灰": "696969", "烟白": "f5f5f5", "雪花白": "fffafa", "亚麻": "faf0e6",
    "月白": "f0f8ff", "玉米": "fff8dc", "金黄麦": "daa520", "肉桂": "ac4f06", "焦茶": "411900",
    "皮革": "ac7434", "石榴红": "9d0216", "蒲公英黄": "fedf08", "水蓝": "0e87cc", "雾粉": "ffe4e1",
}  # fmt: skip


def rgb(value: str) -> tuple[int, int, int]:
    """Red, green and blue in 0..255 of six hexadecimal digits."""
    return tuple(bytes.fromhex(value))


ENGLISH_SYNONYMS = {name: nearest(rgb(value)) for name, value in {**CSS, **XKCD}.items()}
CHINESE_SYNONYMS = {name: nearest(rgb(value)) for name, value in CHINESE.items()}
