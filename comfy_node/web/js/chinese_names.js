// Chinese display names for the combo options and node titles that workflows store in English.

/** Combo options by node and widget. The workflow stores the English value. */
export const OPTIONS = {
  OvisEmptyLatent: {
    preset: {
      "free": "自由",
      "poster 2:3": "海报 2:3",
      "poster 3:4": "海报 3:4",
      "A4, A3 … portrait": "A4、A3 等纵向",
      "A4, A3 … landscape": "A4、A3 等横向",
      "banner 3:1": "横幅 3:1",
      "wide banner 4:1": "宽横幅 4:1",
      "roll-up banner 1:2.35": "易拉宝 1:2.35",
      "phone splash 9:19.5": "手机启动页 9:19.5",
      "tablet splash 3:4": "平板启动页 3:4",
      "desktop 16:9": "桌面 16:9",
      "business card 85 × 55 mm": "名片 85 × 55 毫米",
      "business card 3.5 × 2 in": "名片 3.5 × 2 英寸",
      "social square 1:1": "社交媒体方图 1:1",
      "social portrait 4:5": "社交媒体竖图 4:5",
      "social story 9:16": "社交媒体快拍 9:16",
      "social landscape 1.91:1": "社交媒体横图 1.91:1",
      "social cover 2.63:1": "社交媒体封面 2.63:1",
      "social header 3:1": "社交媒体页首图 3:1",
      "video thumbnail 16:9": "视频缩略图 16:9",
      "book cover 1:1.6": "书籍封面 1:1.6",
    },
  },
  OvisPromptTemplate: {
    template: {
      "bilingual-banner": "双语横幅",
      "business-card": "名片",
      "chinese-calligraphy": "中文书法",
      "event-flyer": "活动传单",
      "poster": "海报",
      "product-card": "商品卡片",
      "shop-sign": "店铺招牌",
      "social-quote": "社交媒体语录",
    },
  },
  OvisCompare: {
    layout: {
      "side by side": "左右并排",
      "stacked": "上下排列",
      "split": "左右拼接",
      "difference": "差异",
    },
  },
  OvisWorker: {
    priority: { "low": "低", "normal": "普通", "high": "高" },
    model: { "default": "默认" },
  },
  OvisKSampler: {
    quality: {
      "steps as set": "按所设步数",
      "preview: 20 steps": "预览：20 步",
      "final: 50 steps": "成品：50 步",
    },
  },
  OvisContactSheet: {
    columns: { "seeds": "种子", "steps": "步数", "cfg": "cfg" },
  },
};

/** Titles of this pack's nodes in the shipped workflows. */
export const TITLES = {
  "Banner, English and Chinese": "横幅：英文与中文",
  "Fill in the boxes": "填写各栏",
  "First pass, with a native sampler": "第一遍：使用原生采样器",
  "Negative prompt": "负面提示词",
  "Negative prompt (empty)": "负面提示词（空）",
  "Negative, from the template": "来自模板的负面提示词",
  "Prompt": "提示词",
  "Prompt, from the template": "来自模板的提示词",
  "Second pass, sharper": "第二遍：更清晰",
  "What it must not show": "不应出现的内容",
  "What the new part shows": "新的部分显示什么",
  "What the poster shows": "海报的内容",
};

/** Chinese titles that earlier versions used, by the English one; saved workflows hold them. */
export const EARLIER_TITLES = {
  "Negative prompt": "负向提示词",
  "Negative prompt (empty)": "负向提示词（空）",
  "Negative, from the template": "来自模板的负向提示词",
};
