// PNGs with alpha. lit_tf drops alpha, as TensorFlow's decoder does; a browser multiplies colours by
// it on the way to a canvas, and what that loses does not come back.

const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

/** Returns the blob itself, one without alpha, or {width, height, data: RGBA}, all alpha 255. */
export async function withoutAlpha(blob) {
  const head = new DataView(await blob.slice(0, 33).arrayBuffer());
  if (head.byteLength < 33 || head.getUint32(0) !== 0x89504e47) return blob;
  const colour = head.getUint8(25);
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const chunks = [...read(bytes)];
  if (colour === 4 || colour === 6) return decode(head, chunks);
  if (!chunks.some(({ type }) => type === "tRNS")) return blob;
  const kept = chunks.filter(({ type }) => type !== "tRNS").map(({ whole }) => whole);
  return new Blob([bytes.subarray(0, 8), ...kept], { type: "image/png" });
}

function* read(bytes) {
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 12 <= bytes.length; ) {
    const end = at + 12 + view.getUint32(at);
    if (end > bytes.length) throw new Error("the PNG is cut off");
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    yield { type, whole: bytes.subarray(at, end), data: bytes.subarray(at + 8, end - 4) };
    at = end;
  }
}

async function decode(head, chunks) {
  const width = head.getUint32(16), height = head.getUint32(20);
  const sample = head.getUint8(24) / 8, channels = head.getUint8(25) === 6 ? 4 : 2;
  const stride = sample * channels; // bytes from one pixel to the next
  const packed = new Blob(chunks.filter(({ type }) => type === "IDAT").map(({ data }) => data));
  const stream = packed.stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  const passes = (head.getUint8(28) ? PASSES : [[0, 0, 1, 1]])
    .map(([x, y, dx, dy]) => ({ x, y, dx, dy, w: Math.ceil((width - x) / dx), h: Math.ceil((height - y) / dy) }))
    .filter(({ w, h }) => w > 0 && h > 0);
  const expected = passes.reduce((sum, { w, h }) => sum + h * (1 + w * stride), 0);
  if (raw.length < expected || !(sample === 1 || sample === 2)) throw new Error("the PNG is damaged");
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  let at = 0;
  for (const { x, y, dx, dy, w, h } of passes) {
    let above = new Uint8Array(w * stride);
    for (let row = 0; row < h; row++) {
      const line = raw.subarray(at + 1, at + 1 + w * stride);
      unfilter(raw[at], line, above, stride);
      at += 1 + line.length;
      above = line;
      for (let column = 0; column < w; column++) {
        const to = ((y + row * dy) * width + x + column * dx) * 4;
        for (let c = 0; c < 3; c++) data[to + c] = line[column * stride + (channels === 4 ? c * sample : 0)];
      }
    }
  }
  return { width, height, data };
}

function unfilter(kind, line, above, stride) {
  for (let i = 0; i < line.length; i++) {
    const left = i < stride ? 0 : line[i - stride], up = above[i], corner = i < stride ? 0 : above[i - stride];
    if (kind === 1) line[i] += left;
    else if (kind === 2) line[i] += up;
    else if (kind === 3) line[i] += (left + up) >> 1;
    else if (kind === 4) {
      const p = left + up - corner, a = Math.abs(p - left), b = Math.abs(p - up), c = Math.abs(p - corner);
      line[i] += a <= b && a <= c ? left : b <= c ? up : corner;
    }
  }
}
