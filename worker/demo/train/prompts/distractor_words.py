"""Clauses of prompts that no poster shows: subjects, scenes, moods, media, businesses, measures.

They name no surface, family, position, border or shadow, and no colour but that of things in
`COLORED`, so they contradict no poster.
"""

BUSINESSES = (
    "bakery", "coffee shop", "bookshop", "florist", "barber", "jazz club", "yoga studio", "gym",
    "hardware store", "farmers market", "pet shop", "dentist", "school", "library", "museum",
    "startup", "law firm", "ice cream van", "hotel", "surf school", "bike shop", "garage", "zoo",
    "wedding", "birthday party", "charity run", "film festival", "football club", "chess club",
    "theatre", "restaurant", "noodle bar", "pizzeria", "tea house", "brewery", "record label",
    "travel agency", "airline", "ski resort", "spa", "toy store", "shoe brand", "podcast",
    "newsletter", "bank", "pharmacy", "garden centre", "kindergarten", "choir", "orchestra",
    "game studio", "delivery service", "hostel", "vineyard", "car dealer", "dance school",
    "clothing brand", "community centre", "food truck", "swimming pool", "tailor", "photographer",
)  # fmt: skip

SUBJECTS = (
    "panda", "cat", "dog", "fox", "owl", "horse", "elephant", "dragon", "robot", "astronaut",
    "chef", "dancer", "surfer", "cyclist", "child", "old man", "young woman", "couple", "crowd",
    "farmer", "pirate", "wizard", "knight", "mermaid", "dinosaur", "whale", "penguin", "rabbit",
    "squirrel", "bear", "tiger", "lion", "parrot", "bee", "butterfly", "fish", "sailor",
    "violinist", "skateboarder", "teacher", "businessman", "grandmother", "monkey", "goat",
    "turtle", "frog", "unicorn", "detective", "barista", "drummer", "hiker", "fisherman",
    "ballerina", "pilot",
)  # fmt: skip
DEEDS = (
    "holding an umbrella", "eating noodles", "playing the guitar", "reading a book",
    "riding a bicycle", "looking at the sea", "jumping over a puddle", "sleeping under a tree",
    "carrying flowers", "drinking coffee", "waving at the viewer", "flying over mountains",
    "dancing in the rain", "baking bread", "walking along a beach", "climbing a ladder",
    "chasing a ball", "singing", "smiling", "sitting on a bench", "wearing sunglasses",
    "with a big hat", "in a spacesuit", "wearing headphones", "with balloons",
    "in front of a castle", "next to a window", "on a hill", "feeding pigeons", "playing chess",
    "painting a fence", "waiting for a train", "in a forest", "at a market stall",
    "under the moon", "on a skateboard", "peeling a banana", "watering plants",
)  # fmt: skip

SCENES = (
    "mountains in the distance", "palm trees and a beach", "city skyline", "rolling hills",
    "a field of sunflowers", "coffee beans", "steam rising from a bowl", "fresh vegetables",
    "fireworks", "falling leaves", "snowflakes", "lanterns", "balloons and confetti",
    "musical notes", "a vintage car", "a sailing boat on calm water", "tropical leaves",
    "cherry blossoms", "a waterfall", "an old lighthouse", "crowded market stalls",
    "people walking by", "clouds drifting past", "a stack of books", "a bowl of fruit",
    "a slice of cake", "a hot air balloon", "waves", "geometric shapes", "abstract shapes",
    "floral ornaments", "hand-drawn flowers", "halftone dots", "film grain", "lens flare",
    "bokeh lights", "puddles", "smoke", "fog over a lake", "a spaceship", "planets and stars",
    "sports equipment", "tools on a bench", "a cup of tea", "kitchen utensils", "a running track",
    "ice cubes", "splashes of paint", "rubber ducks", "an open window", "a campfire",
)  # fmt: skip

MOODS = (
    "cheerful mood", "minimalist", "minimal layout", "very elegant mood", "retro style",
    "vintage look", "futuristic", "cozy atmosphere", "dreamy", "dramatic lighting",
    "soft lighting", "golden hour", "playful", "festive", "calm and quiet", "energetic",
    "luxurious", "professional", "hand-made look", "1970s style", "art deco", "Bauhaus",
    "Swiss design", "pop art", "ukiyo-e", "surrealism", "cubism", "steampunk", "vaporwave",
    "lots of empty space", "generous white space", "flat design", "grunge style",
    "Scandinavian design", "hygge", "kawaii", "boho", "mid-century modern",
    "trending on ArtStation", "award-winning design", "for kids", "family friendly", "high energy",
    "nostalgic", "romantic", "mysterious", "epic", "whimsical", "clean composition", "timeless",
)  # fmt: skip

CAMERA = (
    "photorealistic", "8k", "4K", "highly detailed", "ultra HD", "HDR", "35mm", "50 mm lens",
    "f/1.8", "shallow depth of field", "wide angle", "macro", "close-up", "bird's-eye view",
    "low angle shot", "cinematic", "studio lighting", "rim light", "octane render",
    "Unreal Engine 5", "3D render", "volumetric light", "DSLR", "Kodak Portra 400", "ISO 100",
    "long exposure", "sharp focus", "masterpiece", "best quality", "intricate details",
    "ray tracing", "product photography", "isometric", "top-down view", "film still", "tilt-shift",
    "--ar 16:9", "--v 6", "--q 2", "masterpiece, best quality", "(high quality:1.2)", "RAW photo",
    "high resolution", "300 dpi",
)  # fmt: skip

MEDIA = (
    "watercolour", "oil painting", "vector art", "linocut", "woodcut", "pencil drawing",
    "collage", "screen print", "risograph", "lithograph", "gouache", "ink drawing",
    "digital art", "photograph", "embroidery", "mosaic", "etching", "pixel art",
    "clay model", "anime style", "line art", "silkscreen", "letterpress", "engraving", "airbrush",
)  # fmt: skip

MEASURES = (
    "24 x 36 inches", "A4", "A3 format", "60 x 90 cm", "US letter size", "1080 x 1350", "16:9",
    "3:2", "5 by 7 inches", "DIN A2", "300 dpi", "2 metres wide", "10 cm tall", "1920x1080 px",
    "9:16 vertical", "square format", "landscape format", "portrait orientation", "50% larger",
    "no. 12", "version 2.0", "12pt", "100 copies", "size XL", "since 1987", "on 3 July", "at 8 pm",
    "$20", "No 5", "Vol. 3", "#ff6600", "#1A2B3C", "#0f0", "CMYK", "RGB", "PDF", "PNG", "SVG",
    "75 %", "€15", "24/7",
)  # fmt: skip

ASIDES = (
    "I don't know what else to say.", "It's for my sister's birthday.", "Nothing else, please.",
    "Don't add anything else.", "No other text.", "no extra words", "spelled exactly like that",
    "It has to look great.", "We'll print it next week.", "Make it pop!", "Thanks!", "Thank you.",
    "Please hurry.", "My boss wants it today.", "That's all I need.", "You're the best.",
    "It's going on our website.", "Let's keep it simple.", "Be creative.", "Surprise me!",
    "correct spelling", "sharp readable text", "easy to read from far away", "legible",
    "no people", "no watermark", "without any logo", "The client can't stand clutter.",
    "We're open all year.", "They'll hang it in the hallway.", "Use your imagination.",
    "I'd like to print it.", "Mum's favourite style.", "The children's choir is going to love it.",
    "WOW factor", "ASAP", "FYI this is for NASA", "URGENT", "IMPORTANT: keep it simple", "DIY look",
    "as seen on TV", "OK?", "What do you think?", "Hi there!", "Hello,", "Dear designer,",
)  # fmt: skip

ADJECTIVES = (
    "happy", "old", "tiny", "giant", "sleepy", "brave", "curious", "wooden-legged", "shiny",
    "fluffy", "lonely", "famous", "friendly", "quiet", "wild", "hungry", "young", "strange",
    "clever", "rainy",
)  # fmt: skip
COLORED = (
    "umbrella", "taxi", "scarf", "apple", "rose", "butterfly", "bicycle", "door", "balloon", "hat",
    "dress", "boat", "car", "bird", "sofa", "tulip", "shoes", "kite", "tractor", "roof", "jacket",
    "bus", "flag", "parrot", "teapot", "lamp", "sunglasses", "tie", "frog", "suitcase",
)  # fmt: skip
"""Things whose colour is none of the poster."""

CHINESE_COLORED = (
    "雨伞", "围巾", "苹果", "玫瑰", "蝴蝶", "自行车", "气球", "帽子", "裙子", "小船", "汽车",
    "小鸟", "沙发", "风筝", "屋顶", "旗子", "茶壶", "台灯", "花瓶", "小猫",
)  # fmt: skip
NAMES = (
    "Alice", "Mr. Brown-Smith", "Maria", "Tokyo", "Paris", "Berlin", "London", "New York",
    "Crumb & Sons", "Blue Note Ltd", "Acme", "Kyoto", "Lisbon", "Dr. Chen", "Omar", "Nairobi",
    "Café Luna", "Studio Nine", "Green Peace Farm", "Hamburg", "Oslo", "Riverside",
    "Sunny Side Up", "The Daily Bean", "Luigi", "Toledo", "BMW", "IKEA", "NASA", "UNESCO", "BBC",
    "USA", "UK", "EU", "Sydney", "Old Town", "Mrs. Lopez",
)  # fmt: skip
NAMES = tuple(n for n in NAMES if not any(c in n for c in ("Brown", "Blue", "Green")))

CHINESE_BUSINESSES = (
    "面包店", "咖啡馆", "书店", "花店", "理发店", "瑜伽馆", "健身房", "宠物店", "学校", "图书馆",
    "博物馆", "酒店", "餐厅", "面馆", "茶馆", "火锅店", "婚礼", "生日派对", "电影节", "足球俱乐部",
    "旅行社", "航空公司", "银行", "药店", "幼儿园", "合唱团", "游戏公司", "民宿", "服装品牌",
    "社区中心", "奶茶店", "音乐节", "水果店", "超市",
)  # fmt: skip
CHINESE_SUBJECTS = (
    "熊猫", "小猫", "小狗", "狐狸", "机器人", "宇航员", "厨师", "舞者", "小女孩", "老爷爷",
    "一对情侣", "人群", "农夫", "巨龙", "兔子", "老虎", "大象", "蝴蝶", "企鹅", "少年", "渔夫",
    "画家", "医生", "学生", "骑士", "仙鹤",
)  # fmt: skip
CHINESE_DEEDS = (
    "在吃竹子", "撑着伞", "吃着面条", "弹吉他", "看书", "骑自行车", "望着大海", "在雨中跳舞",
    "喝咖啡", "烤面包", "在海边散步", "放风筝", "戴着墨镜", "坐在长椅上", "拿着气球", "打太极",
    "下棋", "等火车", "爬山", "微笑着",
)  # fmt: skip
CHINESE_SCENES = (
    "远处的山峦", "城市天际线", "樱花飘落", "烟花", "灯笼", "热气腾腾的面条", "新鲜蔬菜", "海浪",
    "椰子树", "落叶", "雪花", "祥云图案", "竹林", "荷花", "古建筑", "咖啡豆", "几何图形", "飘带",
    "音符", "星空", "气球", "热闹的街市", "湖面的薄雾", "一杯热茶", "传统剪纸", "水墨山水",
    "江南水乡", "高铁", "飞机", "麦田", "小桥流水", "满月",
)  # fmt: skip
CHINESE_MOODS = (
    "极简风格", "复古风格", "未来感", "温馨氛围", "喜庆", "高级感", "国潮风", "中国风", "日系",
    "可爱", "活泼", "宁静", "电影感", "梦幻", "赛博朋克风格", "大量留白", "扁平化设计", "商务风",
    "手绘风格", "精致", "高清", "8K", "超清细节", "写实摄影", "柔和光线", "逆光", "广角镜头",
    "浅景深", "水彩画", "油画", "版画", "插画风格", "矢量图", "3D 渲染", "细节丰富", "杰作",
    "最佳质量", "不要其他文字", "构图简洁", "A4 尺寸", "竖版", "横版", "16:9", "适合打印",
    "300dpi",
)  # fmt: skip
CHINESE_ASIDES = (
    "谢谢！", "尽快给我。", "下周要打印。", "不要加别的东西。", "文字要清楚。",
    "给妈妈的生日礼物。", "老板今天就要。", "请发挥你的想象。", "越简单越好。", "要好看一点。",
    "没有别的要求了。", "拜托了！", "用于公司年会。", "挂在客厅里。", "发到朋友圈用的。",
    "字不要写错。", "我很喜欢这种感觉。", "你好，", "麻烦了。",
)  # fmt: skip
