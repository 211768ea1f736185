// PNGs with alpha. lit_tf drops alpha, as TensorFlow's decoder does; a browser multiplies colours by
// it on the way to a canvas, and what that loses does not come back.

const IDAT = 0x49444154, TRNS = 0x74524e53, EXIF = 0x65584966; // types of chunks
const STRIPE = 64; // rows that are copied together

// Returns what createImageBitmap takes: the file, one without alpha, or its pixels with alpha 255.
export async function withoutAlpha(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 33 || view.getUint32(0) !== 0x89504e47) return new Blob([bytes]);
  const alpha = bytes[25] & 4, interlaced = bytes[28];
  const packed = [], kept = [bytes.subarray(0, 8)];
  for (let at = 8, end; at + 12 <= bytes.length; at = end) {
    end = at + 12 + view.getUint32(at);
    if (end > bytes.length) throw new Error("cut off");
    const type = view.getUint32(at + 4);
    if (type === IDAT) packed.push(bytes.subarray(at + 8, end - 4));
    if (type !== TRNS && type !== EXIF) kept.push(bytes.subarray(at, end));
  }
  return alpha && !interlaced ? decode(view, packed) : new Blob(kept);
}

// Decodes row by row: neither more rows than declared nor the whole inflated file are in memory.
async function decode(head, packed) {
  const width = head.getUint32(16), height = head.getUint32(20), colour = head.getUint8(25) === 6;
  const sample = head.getUint8(24) / 8, pixel = sample * (colour ? 4 : 2);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let stripe, to, y = 0, above = new Uint8Array(width * pixel);
  for await (const row of rows(packed, 1 + width * pixel, height)) {
    if (y % STRIPE === 0) [stripe, to] = [new ImageData(width, Math.min(STRIPE, height - y)), 0];
    const [kind] = row, line = row.subarray(1);
    unfilter(kind, line, above, pixel);
    for (let from = 0; from < line.length; from += pixel) {
      for (let c = 0; c < 3; c++) stripe.data[to++] = line[from + (colour ? c * sample : 0)];
      stripe.data[to++] = 255;
    }
    above = line;
    y += 1;
    if (to === stripe.data.length) context.putImageData(stripe, 0, y - stripe.height);
  }
  return canvas;
}

// Yields `count` rows of inflated data.
async function* rows(packed, length, count) {
  const reader = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  let row = new Uint8Array(length), filled = 0;
  while (count) {
    const { value, done } = await reader.read();
    if (done) throw new Error("damaged");
    for (let at = 0; at < value.length && count; ) {
      const part = value.subarray(at, at + length - filled);
      row.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < length) break;
      yield row;
      [row, filled] = [new Uint8Array(length), 0];
      count -= 1;
    }
  }
  await reader.cancel();
}

function unfilter(kind, row, above, pixel) {
  for (let i = 0; i < row.length; i++) {
    const left = i < pixel ? 0 : row[i - pixel], up = above[i];
    if (kind === 1) row[i] += left;
    else if (kind === 2) row[i] += up;
    else if (kind === 3) row[i] += (left + up) >> 1;
    else if (kind === 4) {
      const corner = i < pixel ? 0 : above[i - pixel];
      const a = Math.abs(up - corner), b = Math.abs(left - corner), c = Math.abs(left + up - 2 * corner);
      row[i] += a <= b && a <= c ? left : b <= c ? up : corner;
    }
  }
}
