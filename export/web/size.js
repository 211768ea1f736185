// How large a picture is, read from its header: large ones are refused before they are decoded.

export const MAX_PIXELS = 178_956_970; // as lit_tf.images

// Returns [width, height] of a JPEG, PNG, GIF, WebP or BMP, or null.
export function sizeOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 30) return null;
  const magic = view.getUint32(0), little = (at) => view.getUint16(at, true);
  if (magic === 0x89504e47) return [view.getUint32(16), view.getUint32(20)];
  if (magic === 0x47494638) return [little(6), little(8)];
  if (magic >>> 16 === 0x424d) return [view.getUint32(18, true), Math.abs(view.getInt32(22, true))];
  if (magic >>> 16 === 0xffd8) return inJpeg(view);
  if (magic === 0x52494646 && view.getUint32(8) === 0x57454250) return inWebp(view);
  return null;
}

function inWebp(view) {
  const kind = String.fromCharCode(view.getUint8(15)), packed = view.getUint32(21, true);
  const three = (at) => (view.getUint32(at, true) & 0xffffff) + 1;
  if (kind === "X") return [three(24), (view.getUint32(26, true) >>> 8) + 1];
  if (kind === "L") return [(packed & 0x3fff) + 1, ((packed >>> 14) & 0x3fff) + 1];
  return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
}

function inJpeg(view) {
  for (let at = 2; at + 9 <= view.byteLength && view.getUint8(at) === 0xff; ) {
    const marker = view.getUint8(at + 1);
    // A frame's header; c4, c8 and cc are other things.
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return [view.getUint16(at + 7), view.getUint16(at + 5)];
    }
    if (marker === 0xff) at += 1;
    else at += 2 + Math.max(view.getUint16(at + 2), 2);
  }
  return null;
}
