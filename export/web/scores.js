// From embeddings to what is shown.

export const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

// Returns {among: probability among these texts, match: sigmoid or null} for every text.
export function score(image, texts, { temperature, bias }) {
  const logits = texts.map((text) => temperature * dot(image, text) + (bias ?? 0));
  const most = Math.max(...logits);
  const odds = logits.map((logit) => Math.exp(logit - most));
  const sum = odds.reduce((a, b) => a + b, 0);
  return logits.map((logit, i) => ({
    among: odds[i] / sum,
    match: bias === null ? null : 1 / (1 + Math.exp(-logit)),
  }));
}
