// PNGs with alpha. lit_tf drops alpha, as TensorFlow's decoder does; a browser multiplies colours by
// it on the way to a canvas, and what that loses does not come back.

/** Returns the blob itself, one without alpha, or {width, height, data: RGBA}, all alpha 255. */
export async function withoutAlpha(blob) {
  const head = new DataView(await blob.slice(0, 33).arrayBuffer());
  if (head.byteLength < 33 || head.getUint32(0) !== 0x89504e47) return blob;
  const colour = head.getUint8(25), interlaced = head.getUint8(28);
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const chunks = [...read(bytes)];
  if ((colour === 4 || colour === 6) && !interlaced) return decode(head, chunks);
  const kept = chunks.filter(({ type }) => type !== "tRNS").map(({ whole }) => whole);
  return kept.length === chunks.length ? blob : new Blob([bytes.subarray(0, 8), ...kept], { type: "image/png" });
}

function* read(bytes) {
  const view = new DataView(bytes.buffer);
  for (let at = 8, end; at + 12 <= bytes.length; at = end) {
    end = at + 12 + view.getUint32(at);
    if (end > bytes.length) throw new Error("the PNG is cut off");
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    yield { type, whole: bytes.subarray(at, end), data: bytes.subarray(at + 8, end - 4) };
  }
}

async function decode(head, chunks) {
  const width = head.getUint32(16), height = head.getUint32(20);
  const sample = head.getUint8(24) / 8, channels = head.getUint8(25) === 6 ? 4 : 2;
  const pixel = sample * channels, line = 1 + width * pixel;
  const packed = new Blob(chunks.filter(({ type }) => type === "IDAT").map(({ data }) => data));
  const stream = packed.stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  if (raw.length < height * line) throw new Error("the PNG is damaged");
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  let above = new Uint8Array(line - 1);
  for (let y = 0, to = 0; y < height; y++) {
    const row = raw.subarray(y * line + 1, (y + 1) * line);
    unfilter(raw[y * line], row, above, pixel);
    above = row;
    for (let from = 0; from < row.length; from += pixel, to += 4) {
      for (let c = 0; c < 3; c++) data[to + c] = row[from + (channels === 4 ? c * sample : 0)];
    }
  }
  return { width, height, data };
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
