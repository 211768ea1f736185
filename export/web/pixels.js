// From a picture file to the pixels that the image tower reads, equal to lit_tf.images' to the bit
// wherever the decoders are (PNG, GIF, BMP; JPEG decoders differ a little).

import { withoutAlpha } from "./png.js";

const float = Math.fround;

/** Opens a picture; `rows(top, count)` returns RGBA rows. Throws what the decoder throws. */
export async function open(blob) {
  const plain = await withoutAlpha(blob);
  if (plain.data) {
    const image = new ImageData(plain.data, plain.width, plain.height);
    const rows = (top, count) => plain.data.subarray(top * plain.width * 4, (top + count) * plain.width * 4);
    return { width: plain.width, height: plain.height, bitmap: await createImageBitmap(image), rows };
  }
  const bitmap = await createImageBitmap(plain, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  let canvas;
  // A few rows at a time: a large photo is never copied as a whole.
  const rows = (top, count) => {
    if (canvas?.height !== count) canvas = new OffscreenCanvas(width, count);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.globalCompositeOperation = "copy";
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    return context.getImageData(0, 0, width, count).data;
  };
  return { width, height, bitmap, rows };
}

/** Returns uint8 RGB (size, size, 3): bilinear, not antialiased, truncated, as lit_tf resizes. */
export function resize(picture, size, crop) {
  let { width, height } = { width: size, height: size };
  if (crop) {
    const scale = float(size / Math.min(picture.width, picture.height));
    width = halfToEven(float(picture.width * scale));
    height = halfToEven(float(picture.height * scale));
  }
  const across = samples(picture.width, width, size);
  const down = samples(picture.height, height, size);
  const out = new Uint8Array(size * size * 3);
  let at = 0;
  for (const [low, high, y] of down) {
    const rows = picture.rows(low, high - low + 1);
    const below = (high - low) * picture.width * 4;
    for (const [left, right, x] of across) {
      for (let c = 0; c < 3; c++) {
        const l = left * 4 + c, r = right * 4 + c;
        const top = mix(rows[l], rows[r], x);
        out[at++] = mix(top, mix(rows[below + l], rows[below + r], x), y);
      }
    }
  }
  return out;
}

/** Returns a small copy of the picture to show. */
export function thumbnail({ bitmap }, side = 320) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob(scale < 1 ? { type: "image/jpeg", quality: 0.85 } : { type: "image/png" });
}

function mix(a, b, weight) {
  return float(a + float(float(b - a) * weight));
}

function halfToEven(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

/** Returns [low, high, weight of high] for the middle `count` of `to` samples of a side `from`. */
function samples(from, to, count) {
  const first = (to - count) >> 1, scale = float(from / to);
  return Array.from({ length: count }, (_, i) => {
    const at = float(float(float(first + i + 0.5) * scale) - 0.5), low = Math.floor(at);
    return [Math.max(low, 0), Math.min(Math.ceil(at), from - 1), float(at - low)];
  });
}
