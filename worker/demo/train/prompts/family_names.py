"""English and Chinese names of the families of letters, by font and by kind.

Weights ("bold") are words that change nothing, and a font that is not listed is drawn as a
grotesk; `UNKNOWN_FONTS` lets a model learn that.
"""

FAMILY = "grotesk"
"""The family of letters that a prompt says nothing about."""

# Words that stand before "letters".
KINDS = {
    "grotesk": (
        "grotesk", "grotesque", "sans-serif", "sans serif", "sans", "modern sans",
        "clean sans-serif", "bold grotesk", "geometric sans", "humanist sans-serif", "simple",
        "Swiss-style", "block", "blocky", "modern", "minimalist sans-serif", "neo-grotesque",
        "clean",
    ),
    "serif": (
        "serif", "elegant serif", "classic serif", "old-style serif", "roman", "bookish serif",
        "traditional serif", "editorial serif", "antique", "transitional serif", "literary",
        "elegant", "classic", "refined serif", "newspaper",
    ),
    "slab": (
        "slab", "slab serif", "slab-serif", "Egyptian", "chunky slab", "block serif",
        "square serif", "western slab", "sturdy slab-serif", "wood-type", "varsity",
    ),
    "mono": (
        "monospaced", "monospace", "typewriter", "fixed-width", "terminal", "code-style", "mono",
        "coding", "teletype", "typewritten", "console", "computer-terminal",
    ),
    "condensed": (
        "condensed", "narrow", "compressed", "tall narrow", "tall condensed", "extra-condensed",
        "skinny tall", "tight condensed", "condensed sans", "condensed sans-serif", "slim",
    ),
    "rounded": (
        "rounded", "rounded sans-serif", "rounded sans", "bubbly", "bubble", "soft rounded",
        "round", "friendly rounded", "puffy", "curvy rounded", "balloon", "cute rounded",
    ),
    "script": (
        "script", "cursive", "calligraphic", "calligraphy", "handwritten script", "flowing script",
        "brush script", "elegant script", "copperplate", "joined-up", "wedding-style script",
        "flowing", "swirly",
    ),
    "stencil": (
        "stencil", "stencilled", "stenciled", "army stencil", "military stencil", "spray-stencil",
        "industrial stencil", "crate stencil", "cut-out stencil", "stencil-style",
    ),
    "marker": (
        "marker", "sloppy marker", "hand-lettered", "comic", "felt-tip", "marker-pen", "scribbled",
        "hand-drawn", "handwritten", "doodled", "childlike", "chalky hand-drawn", "cartoon",
        "messy handwritten", "comic-book", "Sharpie",
    ),
}  # fmt: skip

# Names of fonts: "in Helvetica", "Helvetica letters".
FONTS = {
    "grotesk": (
        "Helvetica", "Arial", "Helvetica Neue", "Univers", "Futura", "Roboto", "Inter", "Gotham",
        "Akzidenz-Grotesk", "Franklin Gothic", "Avenir", "Open Sans", "Montserrat", "Verdana",
        "Frutiger", "Lato", "Gill Sans", "Noto Sans", "Liberation Sans", "Poppins", "Calibri",
        "Tahoma", "Segoe UI", "Proxima Nova", "DIN", "Arial Black",
    ),
    "serif": (
        "Times", "Times New Roman", "Garamond", "Georgia", "Baskerville", "Bodoni", "Didot",
        "Caslon", "Palatino", "Cambria", "Playfair Display", "Merriweather", "EB Garamond",
        "Noto Serif", "Century Schoolbook", "Libre Baskerville", "Minion", "Trajan",
        "Book Antiqua",
    ),
    "slab": (
        "Rockwell", "Clarendon", "Roboto Slab", "Memphis", "Archer", "Arvo",
        "Egyptienne", "Zilla Slab", "Museo Slab", "Josefin Slab",
    ),
    "mono": (
        "Courier", "Courier New", "Consolas", "Menlo", "Monaco", "JetBrains Mono", "Roboto Mono",
        "Inconsolata", "Fira Code", "Source Code Pro", "DejaVu Sans Mono", "American Typewriter",
        "IBM Plex Mono", "Lucida Console",
    ),
    "condensed": (
        "Impact", "Bebas Neue", "Oswald", "League Gothic", "Roboto Condensed", "Arial Narrow",
        "Helvetica Condensed", "Univers Condensed", "Haettenschweiler", "Antonio", "Anton",
        "DIN Condensed", "Barlow Condensed",
    ),
    "rounded": (
        "Arial Rounded", "Nunito", "Quicksand", "Varela Round", "Comfortaa", "VAG Rounded",
        "Fredoka", "Baloo", "SF Rounded", "M PLUS Rounded", "Dosis",
    ),
    "script": (
        "Lobster", "Pacifico", "Brush Script", "Snell Roundhand", "Great Vibes", "Dancing Script",
        "Zapfino", "Edwardian Script", "Allura", "Kaushan Script", "Sacramento",
        "Lucida Calligraphy",
    ),
    "stencil": (
        "Stencil", "Stencil Std", "Allerta Stencil", "Saira Stencil", "Black Ops One",
        "Stardos Stencil", "Army Stencil", "Big Shoulders Stencil",
    ),
    "marker": (
        "Comic Sans", "Permanent Marker", "Comic Sans MS", "Marker Felt", "Chalkboard",
        "Comic Neue", "Amatic SC", "Indie Flower", "Kalam", "Patrick Hand", "Gloria Hallelujah",
        "Caveat Brush", "Bangers",
    ),
}  # fmt: skip

CHINESE = {
    "grotesk": (
        "黑体", "无衬线体", "无衬线字体", "思源黑体", "微软雅黑", "苹方", "现代黑体",
        "简洁的无衬线字体", "方正黑体", "现代无衬线字体", "Helvetica 字体", "Arial 字体",
        "印刷黑体",
    ),
    "serif": (
        "宋体", "衬线体", "衬线字体", "思源宋体", "明体", "明朝体", "仿宋", "优雅的衬线字体",
        "老宋体", "标宋", "Times 字体", "古典衬线字体",
    ),
    "slab": ("粗衬线体", "板状衬线体", "厚衬线字体", "方块衬线体", "Rockwell 字体", "埃及体"),
    "mono": (
        "等宽字体", "打字机字体", "等宽体", "代码字体", "Courier 字体", "打字机体", "终端字体",
    ),
    "condensed": ("窄体", "长体", "窄长字体", "压缩字体", "瘦长字体", "窄黑体", "Impact 字体"),
    "rounded": (
        "圆体", "圆角字体", "圆润的字体", "圆黑体", "可爱的圆体", "幼圆", "泡泡字体", "卡通圆体",
    ),
    "script": (
        "书法体", "手写花体", "花体", "行书", "草书", "楷体", "毛笔字体", "连笔字体", "毛笔书法体",
    ),
    "stencil": ("镂空字体", "模板字体", "喷漆模板字", "军用模板字体", "镂空模板字", "钢印字体"),
    "marker": (
        "马克笔字体", "手写体", "手绘字体", "涂鸦字体", "漫画字体", "潦草的马克笔字", "记号笔字体",
        "手写字体", "娃娃体", "童趣手写体",
    ),
}  # fmt: skip

UNKNOWN_FONTS = (
    "Zurich", "Kestrel", "Optima", "Papyrus", "Wingdings", "Bauhaus", "Blackletter Nord", "Fraktur",
    "Neuzeit", "Eurostile", "Chicago", "Geneva", "Hobo", "Cooper", "Windsor", "Peignot", "Skia",
    "Broadway", "Algerian", "Jokerman", "Ravie", "Magneto", "Bahnschrift", "Candara", "Corbel",
    "Trebuchet", "Syne", "Rubik", "Karla", "Cabin", "Raleway", "Exo", "Orbitron", "Audiowide",
    "Righteous", "Monoton", "Abril", "Cinzel", "Spectral", "Bitter", "Vollkorn", "Alegreya",
    "Whitney", "Brandon", "Circular", "Graphik", "Söhne", "Aktiv", "Maison", "Druk", "Recoleta",
    "Ogg", "Tiempos", "Canela", "Sabon", "Bembo", "Perpetua", "Joanna", "Rotis", "Thesis",
)  # fmt: skip
"""Fonts that are drawn as `FAMILY`, because only their names are known."""

UNKNOWN_KINDS = (
    "futuristic", "retro", "vintage", "graffiti", "art-deco", "pixel", "psychedelic", "gothic",
    "grunge", "hipster", "sci-fi", "medieval", "groovy", "custom", "decorative", "display",
    "techno", "playful", "striking", "fancy", "quirky", "brutalist", "corporate", "sporty",
)  # fmt: skip
UNKNOWN_CHINESE = (
    "艺术字体", "复古字体", "美术字", "哥特字体", "像素字体", "未来感字体", "装饰字体", "立体字",
    "综艺体", "方正姚体", "篆书", "隶书", "瘦金体", "创意字体", "综艺字体", "海报字体",
)  # fmt: skip

WEIGHTS = (
    "bold", "heavy", "thick", "strong", "extra-bold", "black-weight", "fat", "ultra bold",
    "semi-bold", "medium", "solid", "thin", "light-weight", "big bold", "chunky", "crisp", "sharp",
    "clear", "legible", "beautiful", "eye-catching", "high-contrast", "prominent",
)  # fmt: skip
CHINESE_WEIGHTS = (
    "粗",
    "加粗",
    "特粗",
    "粗重的",
    "醒目的",
    "清晰的",
    "细",
    "中粗",
    "纤细的",
    "厚重的",
)

LETTERS = (
    "letters", "lettering", "type", "text", "font", "typeface", "typography", "writing",
    "characters", "letters", "letters", "font", "words", "print", "copy", "letterforms",
)  # fmt: skip
"""What follows a word of `KINDS`."""
