// From a picture file to the pixels that the image tower reads, equal to lit_tf.images' to the bit
// where the decoders are: JPEG decoders differ a little.

import { withoutAlpha } from "./png.js";

const float = Math.fround;

// Returns a picture's ImageBitmap, whose `rows(top, count)` returns RGBA.
export async function open(blob) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(await withoutAlpha(blob), options);
  let canvas;
  // A few rows at a time: a large photo is never copied as a whole.
  bitmap.rows = (top, count) => {
    if (canvas?.height !== count) canvas = new OffscreenCanvas(bitmap.width, count);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.globalCompositeOperation = "copy";
    context.drawImage(bitmap, 0, -top);
    return context.getImageData(0, 0, bitmap.width, count).data;
  };
  return bitmap;
}

// Returns uint8 RGB (size, size, 3): bilinear, not antialiased, truncated, as lit_tf resizes.
export function resize({ width, height, rows }, size, crop) {
  const scale = float(size / Math.min(width, height));
  const side = (from) => (crop ? halfToEven(float(from * scale)) : size);
  const across = samples(width, side(width), size);
  const out = new Uint8Array(size * size * 3);
  let at = 0;
  for (const [low, high, y] of samples(height, side(height), size)) {
    const data = rows(low, high - low + 1), below = (high - low) * width * 4;
    for (const [left, right, x] of across) {
      for (let c = 0; c < 3; c++) {
        const l = left * 4 + c, r = right * 4 + c;
        const top = mix(data[l], data[r], x);
        out[at++] = mix(top, mix(data[below + l], data[below + r], x), y);
      }
    }
  }
  return out;
}

// Returns a small copy of the picture to show.
export function thumbnail(bitmap) {
  const scale = Math.min(1, 320 / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/webp" }); // a PNG where there is no WebP
}

const mix = (a, b, weight) => float(a + float(float(b - a) * weight));

function halfToEven(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

// Returns [low, high, weight of high] for the middle `count` of `to` samples of a side `from`.
function samples(from, to, count) {
  const first = (to - count) >> 1, scale = float(from / to);
  return Array.from({ length: count }, (_, i) => {
    const at = float(float(float(first + i + 0.5) * scale) - 0.5), low = Math.floor(at);
    return [Math.max(low, 0), Math.min(Math.ceil(at), from - 1), float(at - low)];
  });
}
