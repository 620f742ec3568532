// The image sizes that Ovis-Image accepts. The numbers are those of the pack's sizes.py, which
// explains them; tests/test_sizes_in_the_browser.py compares the two.

export const SIZE_MULTIPLE = 16;
export const MOST_EXTREME_RATIO = 4;
export const MEGAPIXEL = 1024 * 1024;
export const FREE = "free";

export const PRESETS = {
  "poster 2:3": 2 / 3,
  "poster 3:4": 3 / 4,
  "A4, A3 … portrait": 1 / Math.sqrt(2),
  "A4, A3 … landscape": Math.sqrt(2),
  "banner 3:1": 3,
  "wide banner 4:1": 4,
  "roll-up banner 1:2.35": 1 / 2.35,
  "phone splash 9:19.5": 9 / 19.5,
  "tablet splash 3:4": 3 / 4,
  "desktop 16:9": 16 / 9,
  "business card 85 × 55 mm": 85 / 55,
  "business card 3.5 × 2 in": 3.5 / 2,
  "social square 1:1": 1,
  "social portrait 4:5": 4 / 5,
  "social story 9:16": 9 / 16,
  "social landscape 1.91:1": 1.91,
  "social cover 2.63:1": 2.63,
  "social header 3:1": 3,
  "video thumbnail 16:9": 16 / 9,
  "book cover 1:1.6": 1 / 1.6,
};

/** The preset's aspect ratio, or the slider's if the preset is `FREE`. */
export function ratioOf(preset, aspectRatio) {
  return PRESETS[preset] ?? aspectRatio;
}

/** `[width, height]` in pixels: the nearest multiples of 16, within 1:4 to 4:1. */
export function sizeOf(aspectRatio, megapixels) {
  const exactWidth = Math.sqrt(megapixels * MEGAPIXEL * aspectRatio);
  const width = snapped(exactWidth);
  const height = snapped(exactWidth / aspectRatio);
  return [
    Math.min(width, MOST_EXTREME_RATIO * height),
    Math.min(height, MOST_EXTREME_RATIO * width),
  ];
}

/** `[width, height]` as typed; where one of them is 0, it follows from the aspect ratio. */
export function exactSize(width, height, aspectRatio) {
  if (!height) return [width, snapped(width / aspectRatio)];
  return [width || snapped(height * aspectRatio), height];
}

function snapped(exact) {
  return Math.max(1, Math.floor(exact / SIZE_MULTIPLE + 0.5)) * SIZE_MULTIPLE;
}
