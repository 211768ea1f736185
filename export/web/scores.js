// From embeddings to what is shown.

export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/**
 * Scores one picture against texts, as `lit-tf compare` does.
 * @returns for every text {among: probability among these, match: sigmoid(logit) or null}
 */
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
