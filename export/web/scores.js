// From embeddings to what is shown.

export const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

// Returns {cosine, among: probability among these texts, match: sigmoid or null} for every text.
export function score(image, texts, { temperature, bias }) {
  // A class of `lit-tf adapt` has its bias at the end of its vector.
  const cosines = texts.map((text) => dot(image, text) + (text[image.length] ?? 0));
  const logits = cosines.map((cosine) => temperature * cosine + (bias ?? 0));
  const most = Math.max(...logits);
  const odds = logits.map((logit) => Math.exp(logit - most));
  const sum = odds.reduce((a, b) => a + b, 0);
  return logits.map((logit, i) => ({
    cosine: cosines[i],
    among: odds[i] / sum,
    match: bias === null ? null : 1 / (1 + Math.exp(-logit)),
  }));
}
