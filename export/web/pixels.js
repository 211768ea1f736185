// From a picture file to the pixels that the image tower reads, equal to lit_tf.images' to the bit
// where the decoders are: JPEG decoders differ a little.

import { matrix, takeOrientation } from "./exif.js";
import { withoutAlpha } from "./png.js";
import { MAX_PIXELS, sizeOf } from "./size.js";

const float = Math.fround;

// Returns a picture, turned upright: {width, height, rows(top, count), draw(context), close()};
// `rows` returns RGBA.
export async function open(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  refuseLarge(sizeOf(bytes));
  const orientation = takeOrientation(bytes);
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(await withoutAlpha(bytes), options);
  const [width, height] = orientation < 5 ? [bitmap.width, bitmap.height] : [bitmap.height, bitmap.width];
  const turn = matrix(orientation, bitmap.width, bitmap.height);
  const draw = (context) => {
    context.transform(...turn);
    context.drawImage(bitmap, 0, 0);
  };
  let canvas;
  // A few rows at a time: a large photo is never copied as a whole.
  const rows = (top, count) => {
    if (canvas?.height !== count) canvas = new OffscreenCanvas(width, count);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.globalCompositeOperation = "copy";
    context.imageSmoothingEnabled = false;
    context.setTransform(1, 0, 0, 1, 0, -top);
    draw(context);
    return context.getImageData(0, 0, width, count).data;
  };
  return { width, height, rows, draw, close: () => bitmap.close() };
}

function refuseLarge(size) {
  if (!size || size[0] * size[1] <= MAX_PIXELS) return;
  const [width, height, most] = [...size, MAX_PIXELS].map((x) => x.toLocaleString("en"));
  const message = `${width} × ${height} pixels are more than the ${most} that are read`;
  throw Object.assign(new Error(message), { said: true });
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

// Returns a small copy of the picture to show, whose longer side is given.
export function thumbnail({ width, height, draw }, side) {
  const scale = Math.min(1, side / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.ceil(width * scale), Math.ceil(height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.scale(canvas.width / width, canvas.height / height);
  draw(context);
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
