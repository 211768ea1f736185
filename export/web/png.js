// PNGs with alpha. lit_tf drops alpha, as TensorFlow's decoder does; a browser multiplies colours by
// it on the way to a canvas, and what that loses does not come back.

const IDAT = 0x49444154, TRNS = 0x74524e53; // types of chunks

// Returns the blob itself, one without alpha, or ImageData with all alpha 255.
export async function withoutAlpha(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer()), view = new DataView(bytes.buffer);
  if (bytes.length < 33 || view.getUint32(0) !== 0x89504e47) return blob;
  const alpha = bytes[25] & 4, interlaced = bytes[28];
  const packed = [], kept = [bytes.subarray(0, 8)];
  for (let at = 8, end; at + 12 <= bytes.length; at = end) {
    end = at + 12 + view.getUint32(at);
    if (end > bytes.length) throw new Error("cut off");
    const type = view.getUint32(at + 4);
    if (type === IDAT) packed.push(bytes.subarray(at + 8, end - 4));
    if (type !== TRNS) kept.push(bytes.subarray(at, end));
  }
  return alpha && !interlaced ? decode(view, packed) : new Blob(kept);
}

async function decode(head, packed) {
  const width = head.getUint32(16), height = head.getUint32(20), colour = head.getUint8(25) === 6;
  const sample = head.getUint8(24) / 8, pixel = sample * (colour ? 4 : 2), line = 1 + width * pixel;
  const stream = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  if (raw.length < height * line) throw new Error("damaged");
  const image = new ImageData(width, height);
  let above = new Uint8Array(line), to = 0;
  for (let start = 0; start < height * line; start += line) {
    const row = raw.subarray(start + 1, start + line);
    unfilter(raw[start], row, above, pixel);
    above = row;
    for (let from = 0; from < row.length; from += pixel) {
      for (let c = 0; c < 3; c++) image.data[to++] = row[from + (colour ? c * sample : 0)];
      image.data[to++] = 255;
    }
  }
  return image;
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
