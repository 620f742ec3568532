"""English and Chinese wording of surfaces, positions, sizes, borders and shadows.

In the wording of a surface, `{g}` is the ground's colour with a space behind it, or nothing, and
`{a}` the accent's colour. Wording with `{a}` is for posters with an accent, and only for them.
"""

# Kinds of things that are drawn like any poster.
THINGS = (
    "poster", "sign", "flyer", "advert", "advertisement", "billboard", "book cover", "album cover",
    "label", "sticker", "logo", "title page", "magazine cover", "placard", "leaflet", "notice",
    "sale poster", "movie poster", "concert poster", "event poster", "travel poster", "shop sign",
    "street sign", "door sign", "road sign", "menu cover", "print", "handbill", "slide",
    "thumbnail", "graphic", "typographic poster", "invitation", "ticket", "badge",
    "banner ad", "promotional poster", "picture", "image", "design", "screen print",
    "announcement", "window display", "T-shirt print", "meme", "motivational poster",
    "warning sign", "name tag",
)  # fmt: skip
COLORFUL_THINGS = (
    "stop sign", "fire exit sign", "chalkboard", "blueprint", "valentine", "caution sign",
    "Christmas poster", "Halloween flyer", "wedding invitation", "thank-you note", "love letter",
    "eco label", "recycling label", "first-aid sign", "taxi sign", "funeral notice",
    "baby shower invitation", "ocean poster", "jungle poster", "lemonade sign",
    "sunset poster", "snow report", "coffee label", "wine label", "no-parking sign",
)  # fmt: skip
"""Things that make one think of a colour. They stand beside named colours, which alone count."""

CHINESE_THINGS = (
    "海报", "招牌", "传单", "广告", "广告牌", "书籍封面", "专辑封面", "标签", "贴纸", "标志",
    "杂志封面", "促销海报", "电影海报", "音乐会海报", "活动海报", "旅行海报", "店铺招牌", "路牌",
    "门牌", "宣传单", "通知", "邀请函", "门票", "图片", "宣传画", "封面", "公告", "指示牌",
    "菜单封面", "节日海报", "插画",
)  # fmt: skip

CHINESE_COLORFUL_THINGS = (
    "停车标志", "安全出口牌", "喜帖", "春联", "圣诞海报", "婚礼请帖", "感谢信",
    "情书", "环保标签", "急救牌", "出租车牌", "警示牌", "海洋海报", "咖啡标签", "茶叶标签",
)  # fmt: skip

# Things that name their surface by themselves.
SURFACE_THINGS = {
    "night": (
        "neon sign", "cyberpunk sign", "night-market sign", "nightclub sign", "neon bar sign",
    ),
    "splash": (
        "splash screen", "mobile splash screen", "app splash screen", "phone start screen",
        "launch screen of an app", "app loading screen", "smartphone welcome screen",
    ),
    "tote": (
        "tote bag", "canvas tote", "shopping bag", "cotton tote bag", "grocery bag", "cloth bag",
    ),
    "mug": ("mug", "coffee mug", "ceramic cup", "tea cup", "coffee cup", "enamel mug"),
    "card": (
        "business card", "greeting card", "postcard", "card", "visiting card", "place card",
        "thank-you card", "birthday card", "gift card", "invitation card", "loyalty card",
    ),
    "banner": ("ribbon banner", "banner", "ribbon", "scroll banner", "award ribbon"),
}  # fmt: skip
CHINESE_SURFACE_THINGS = {
    "night": ("霓虹招牌", "霓虹灯牌", "赛博朋克招牌", "夜店招牌", "夜景霓虹招牌"),
    "splash": ("手机启动页", "应用启动页", "手机开屏页", "开屏界面", "应用启动画面"),
    "tote": ("帆布袋", "购物袋", "手提袋", "布袋", "环保袋"),
    "mug": ("马克杯", "咖啡杯", "陶瓷杯", "杯子", "茶杯"),
    "card": ("名片", "贺卡", "明信片", "卡片", "生日卡", "感谢卡", "礼品卡", "邀请卡"),
    "banner": ("横幅", "丝带横幅", "条幅", "缎带", "彩带横幅"),
}  # fmt: skip

# Wording with the ground's colour, for posters with and without an accent.
GROUNDS = {
    "plain": (
        "{g}background", "{g}backdrop", "plain {g}background", "solid {g}background",
        "flat {g}ground", "{g}ground", "empty {g}background", "simple {g}backdrop", "{g}bg",
        "uniform {g}background",
    ),
    "gradient": (
        "{g}gradient", "{g}gradient background", "smooth {g}gradient", "soft {g}gradient backdrop",
        "{g}color gradient", "{g}ombre background", "{g}gradient backdrop", "{g}fade background",
    ),
    "paper": (
        "{g}paper", "textured {g}paper", "{g}paper texture", "{g}recycled paper",
        "sheet of {g}paper", "crumpled {g}paper", "{g}kraft paper", "{g}parchment",
        "grainy {g}paper background",
    ),
    "wood": (
        "{g}wooden board", "{g}wood", "{g}wooden planks", "{g}wood grain", "{g}timber wall",
        "rustic {g}wooden background", "weathered {g}wood", "{g}plank wall", "{g}wooden sign",
    ),
    "brick": (
        "{g}brick wall", "{g}bricks", "wall of {g}bricks", "{g}brickwork", "old {g}brick wall",
        "{g}brick background", "painted {g}brick wall",
    ),
    "stripes": (
        "{g}striped background", "{g}stripes", "striped {g}backdrop", "{g}striped wallpaper",
        "background of {g}stripes", "{g}diagonal stripes", "{g}stripe pattern",
    ),
    "sunburst": (
        "{g}sunburst", "{g}sunburst background", "{g}starburst", "{g}burst of rays", "{g}sun rays",
        "{g}background with rays", "retro {g}sunburst", "{g}rising-sun rays",
    ),
    "night": (
        "{g}night street", "dark {g}street at night", "{g}night scene with a neon glow",
        "wet {g}street at night", "{g}night city", "rainy {g}night", "{g}night with a neon glow",
        "{g}cyberpunk night", "{g}night background",
    ),
    "splash": (
        "{g}phone screen", "{g}app screen", "{g}mobile start screen", "{g}splash screen",
        "{g}smartphone screen", "{g}launch screen", "{g}welcome screen of an app",
    ),
    "tote": (
        "{g}tote bag", "{g}canvas bag", "{g}cotton bag", "{g}shopping bag", "{g}cloth bag",
        "{g}canvas tote",
    ),
    "mug": (
        "{g}mug", "{g}coffee mug", "{g}ceramic mug", "{g}cup", "{g}coffee cup", "{g}enamel mug",
    ),
    "card": ("{g}card", "{g}business card", "{g}card stock", "{g}greeting card", "{g}postcard"),
    "banner": (
        "{g}background with a ribbon", "{g}background with a ribbon banner",
        "ribbon on {g}background", "{g}backdrop behind a ribbon",
        "{g}background and a ribbon across it",
    ),
}  # fmt: skip
ACCENTED = {
    "plain": ("{g}background",),
    "gradient": (
        "{g}to {a} gradient", "gradient from {g}to {a}", "{g}and {a} gradient",
        "{g}background fading to {a}", "{g}gradient into {a}", "blend of {g}and {a}",
    ),
    "paper": ("{g}paper with {a} fibres", "{g}paper with {a} specks", "{g}and {a} paper"),
    "wood": ("{g}wood with {a} grain", "{g}and {a} wooden planks", "{g}planks with {a} gaps"),
    "brick": (
        "{g}brick wall with {a} mortar", "{g}bricks with {a} joints", "{g}and {a} brick wall",
    ),
    "stripes": (
        "{g}and {a} stripes", "{g}background with {a} stripes", "{a} stripes on {g}ground",
        "{g}and {a} striped background", "{a} stripes across {g}backdrop",
    ),
    "sunburst": (
        "{a} sunburst on {g}background", "{a} burst behind it on {g}ground",
        "{g}background with {a} rays", "{a} starburst over {g}ground", "{a} rays on {g}backdrop",
        "{g}and {a} sunburst",
    ),
    "night": (
        "{g}night with {a} glow", "{a} neon glow on {g}night street",
        "{g}night street and {a} glow",
    ),
    "splash": (
        "{g}phone screen with {a} icon", "{g}app screen and {a} accents",
        "{a} icon on {g}splash screen",
    ),
    "tote": (
        "{g}tote bag on {a} background", "{g}canvas bag on {a} ground",
        "{g}bag in front of {a} wall",
    ),
    "mug": ("{g}mug on {a} background", "{g}coffee mug on {a} table", "{g}cup on {a} tabletop"),
    "card": (
        "{g}card on {a} table", "{g}business card lying on {a} surface", "{g}card, {a} tabletop",
    ),
    "banner": (
        "{a} ribbon on {g}background", "{g}background with {a} ribbon",
        "{a} banner across {g}backdrop", "{a} ribbon banner, {g}ground",
    ),
}  # fmt: skip
CHINESE_GROUNDS = {
    "plain": ("{g}背景", "{g}底", "纯{g}背景", "{g}底色", "{g}的背景", "简洁的{g}背景"),
    "gradient": ("{g}渐变背景", "{g}渐变", "柔和的{g}渐变", "{g}渐变底色"),
    "paper": ("{g}纸张", "{g}纸张纹理", "{g}再生纸质感", "{g}牛皮纸", "{g}纸质背景", "{g}宣纸"),
    "wood": ("{g}木板", "{g}木纹背景", "{g}木质背景", "{g}木墙", "{g}木头纹理"),
    "brick": ("{g}砖墙", "{g}砖墙背景", "{g}砖块", "{g}的老砖墙"),
    "stripes": ("{g}条纹背景", "{g}条纹", "{g}斜条纹", "{g}条纹底纹"),
    "sunburst": ("{g}放射光芒背景", "{g}光芒四射的背景", "{g}放射线", "{g}太阳光芒"),
    "night": ("{g}夜景", "{g}霓虹夜景", "{g}夜晚街道", "{g}雨夜街头", "{g}夜色中的霓虹光"),
    "splash": ("{g}手机屏幕", "{g}启动页", "{g}应用界面", "{g}手机界面"),
    "tote": ("{g}帆布袋", "{g}购物袋", "{g}布袋", "{g}手提袋"),
    "mug": ("{g}马克杯", "{g}杯子", "{g}陶瓷杯", "{g}咖啡杯"),
    "card": ("{g}卡片", "{g}名片", "{g}卡纸", "{g}贺卡"),
    "banner": ("{g}背景上的丝带", "{g}背景加横幅", "{g}背景，中间一条丝带"),
}  # fmt: skip
CHINESE_ACCENTED = {
    "plain": ("{g}背景",),
    "gradient": ("{g}到{a}的渐变", "从{g}渐变到{a}", "{g}和{a}的渐变背景"),
    "paper": ("带{a}斑点的{g}纸", "{g}纸张，{a}纤维"),
    "wood": ("带{a}木纹的{g}木板", "{g}和{a}相间的木板"),
    "brick": ("{g}砖墙，{a}砖缝", "{a}砖缝的{g}砖墙"),
    "stripes": ("{g}和{a}条纹", "{g}底{a}条纹", "{g}背景加{a}条纹", "{g}与{a}相间的条纹背景"),
    "sunburst": ("{g}背景，{a}放射光芒", "{a}光芒，{g}底", "{g}底上的{a}放射线"),
    "night": ("{g}夜景，{a}霓虹光", "{g}夜色，{a}光晕"),
    "splash": ("{g}手机启动页，{a}点缀", "{g}手机屏幕，{a}图标"),
    "tote": ("{a}背景上的{g}帆布袋", "{g}布袋，{a}背景"),
    "mug": ("{a}背景上的{g}杯子", "{g}马克杯，{a}桌面"),
    "card": ("{a}桌面上的{g}卡片", "{g}名片，放在{a}桌上"),
    "banner": ("{g}背景上的{a}丝带", "{g}背景，{a}横幅", "{a}条幅，{g}底"),
}  # fmt: skip

POSITIONS = {
    "center": (
        "in the center", "in the middle", "centered", "in the centre", "centred", "dead center",
        "in the middle of the picture", "right in the middle", "placed centrally",
    ),
    "top": (
        "at the top", "on top", "along the top", "near the top edge", "across the top",
        "in the upper part", "at the very top", "in the top third",
    ),
    "bottom": (
        "at the bottom", "along the bottom", "near the bottom edge", "across the bottom",
        "in the lower part", "at the very bottom", "in the bottom third", "down at the bottom",
    ),
}  # fmt: skip
POSITION_WORDS = {
    "center": ("centered", "center", "central", "middle", "centred"),
    "top": ("top", "upper", "topmost"),
    "bottom": ("bottom", "lower", "bottommost"),
}
"""Words that stand before "text"."""

CHINESE_POSITIONS = {
    "center": ("居中", "中央", "中间", "正中间", "画面中央", "正中"),
    "top": ("顶部", "上方", "最上面", "画面上方", "上面", "顶端"),
    "bottom": ("底部", "下方", "最下面", "画面下方", "下面", "底端"),
}
SIZES = {
    "large": ("large", "big", "huge", "giant", "oversized", "massive", "full-width", "enormous"),
    "small": ("small", "tiny", "little", "fine-print", "modest-sized", "miniature", "smaller"),
}
CHINESE_SIZES = {
    "large": ("大", "巨大的", "大号", "超大", "特大"),
    "small": ("小", "小号", "较小的", "细小的", "很小的"),
}

BORDERS = (
    "with a {a}border", "{a}border", "framed by a {a}border", "a {a}frame around it", "{a}frame",
    "thin {a}border around the edge", "surrounded by a {a}border", "{a}outline around the page",
)  # fmt: skip
CHINESE_BORDERS = ("带{a}边框", "{a}边框", "四周有{a}边框", "外加{a}画框", "{a}的边框")
SHADOWS = (
    "with a shadow", "subtle shadow", "drop shadow", "soft drop shadow", "with a drop shadow",
    "the letters cast a shadow", "shadowed letters", "gentle shadow behind the letters",
    "slight shadow", "long shadow under the text",
)  # fmt: skip
CHINESE_SHADOWS = ("带阴影", "柔和的阴影", "轻微的投影", "文字有阴影", "字下有投影", "淡淡的阴影")
