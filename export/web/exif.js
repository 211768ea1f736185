// How a camera was held: the EXIF orientation, as lit_tf.images.exif reads it. Browsers heed it in
// some formats only.

// Returns the orientation, 1 to 8, that a file declares, and sets it to 1 in the given bytes, so
// that no browser turns the picture as well.
export function takeOrientation(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const start = tiff(view);
  if (start === null || start + 8 > bytes.length) return 1;
  const order = view.getUint32(start), little = order === 0x49492a00;
  if (!little && order !== 0x4d4d002a) return 1;
  const table = start + view.getUint32(start + 4, little);
  if (table + 2 > bytes.length) return 1;
  const end = table + 2 + 12 * view.getUint16(table, little);
  for (let at = table + 2; at < end && at + 12 <= bytes.length; at += 12) {
    if (view.getUint16(at, little) !== 0x0112) continue;
    const method = { 1: "Uint8", 3: "Uint16", 4: "Uint32" }[view.getUint16(at + 2, little)];
    const value = method ? view[`get${method}`](at + 8, little) : 1;
    if (method) view[`set${method}`](at + 8, 1, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

// The matrix by which a canvas turns a picture upright, [a, b, c, d, e, f].
export function matrix(orientation, width, height) {
  return [
    [1, 0, 0, 1, 0, 0],
    [-1, 0, 0, 1, width, 0],
    [-1, 0, 0, -1, width, height],
    [1, 0, 0, -1, 0, height],
    [0, 1, 1, 0, 0, 0],
    [0, 1, -1, 0, height, 0],
    [0, -1, -1, 0, height, width],
    [0, -1, 1, 0, 0, width],
  ][orientation - 1];
}

// Returns where the EXIF data of a JPEG, PNG or WebP begins, without its mark, or null.
function tiff(view) {
  const size = view.byteLength, magic = size < 12 ? 0 : view.getUint32(0);
  let start = null;
  if (magic >>> 16 === 0xffd8) start = inJpeg(view, size);
  if (magic === 0x89504e47) start = inChunks(view, 8, 0x65584966, false);
  if (magic === 0x52494646 && view.getUint32(8) === 0x57454250) start = inChunks(view, 12, 0x45584946, true);
  return start !== null && isMarked(view, start) ? start + 6 : start;
}

const isMarked = (view, at) =>
  at + 6 <= view.byteLength && view.getUint32(at) === 0x45786966 && view.getUint16(at + 4) === 0;

function inJpeg(view, size) {
  for (let at = 2; at + 4 <= size && view.getUint8(at) === 0xff; ) {
    const marker = view.getUint8(at + 1);
    if (marker === 0xd9 || marker === 0xda) return null; // the end, or the pixels
    if (marker === 0xff) at += 1; // a fill byte
    else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) at += 2; // no segment
    else if (marker === 0xe1 && isMarked(view, at + 4)) return at + 4;
    else at += 2 + Math.max(view.getUint16(at + 2), 2);
  }
  return null;
}

// PNG has length, type, data, check; WebP type, length, data, and a byte after odd lengths.
function inChunks(view, at, wanted, webp) {
  for (; at + 8 <= view.byteLength; ) {
    const length = view.getUint32(webp ? at + 4 : at, webp), type = view.getUint32(webp ? at : at + 4);
    if (type === wanted) return at + 8;
    at += webp ? 8 + length + (length % 2) : 12 + length;
  }
  return null;
}
