// From a picture to what a NaFlex tower reads, equal to lit_tf.images.naflex but for rounding.

const float = Math.fround;

// Returns {patches, coordinates, mask} of pixels.js's picture, padded to `most` patches: [data, shape]
// each. The picture keeps its shape: it is resized so that its patches just fit, and cut.
export function cut({ width, height, rows }, patch, most) {
  const [down, across] = targetGrid(height, width, patch, most), size = 3 * patch * patch;
  const wide = triangles(width, across * patch), sums = new Float32Array(width * 3);
  const patches = new Float32Array(most * size);
  triangles(height, down * patch).forEach(({ first, weights }, y) => {
    const data = rows(first, weights.length);
    sums.fill(0);
    weights.forEach((weight, i) => {
      for (let x = 0, at = i * width * 4; x < sums.length; x += 3, at += 4) {
        for (let c = 0; c < 3; c++) sums[x + c] += weight * (data[at + c] / 127.5 - 1);
      }
    });
    const row = Math.floor(y / patch) * across;
    wide.forEach(({ first, weights }, x) => {
      const at = (row + Math.floor(x / patch)) * size + ((y % patch) * patch + (x % patch)) * 3;
      weights.forEach((weight, i) => {
        for (let c = 0; c < 3; c++) patches[at + c] += weight * sums[(first + i) * 3 + c];
      });
    });
  });
  const coordinates = new Int32Array(most * 2), mask = new Int32Array(most).fill(1, 0, down * across);
  for (let i = 0; i < down * across; i++) coordinates.set([Math.floor(i / across), i % across], i * 2);
  const shapes = { patches: [1, most, size], coordinates: [1, most, 2], mask: [1, most] };
  const data = { patches, coordinates, mask };
  return Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, [data[name], shape]]));
}

// Returns rows and columns of patches: the largest scale at which they are `most`. All of it is
// rounded to 32 bits, since the result depends on it.
export function targetGrid(height, width, patch, most) {
  const count = (scale, side) => Math.max(Math.ceil(float(float(scale * side) / patch)), 1);
  let low = float(1e-6), high = 100;
  while (float(high - low) >= float(1e-5)) {
    const middle = float(float(low + high) / 2);
    if (count(middle, height) * count(middle, width) <= most) low = middle;
    else high = middle;
  }
  return [count(low, height), count(low, width)];
}

// Returns, for each place along a side of the result, the first place that it reads and the weights.
function triangles(size, wanted) {
  const step = float(1 / float(wanted / size)), reach = Math.max(step, 1);
  return Array.from({ length: wanted }, (_, i) => {
    const centre = (i + 0.5) * step;
    const first = Math.max(Math.floor(centre - reach - 0.5), 0);
    const last = Math.min(Math.ceil(centre + reach - 0.5), size - 1);
    const weights = Array.from({ length: last - first + 1 }, (_, j) =>
      Math.max(0, 1 - Math.abs(centre - (first + j + 0.5)) / reach));
    const sum = weights.reduce((a, b) => a + b);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}
