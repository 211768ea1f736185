// The sentences that a person types, one on each line, or the classes that the site came with.

import { $, sleep, status, working } from "./dom.js";

// Returns {lines, vectors: {line: {embedding, cut}}, started, read()}; `done` is called whenever the sentences have been read.
export function makeSentences({ classes }, engine, done) {
  const field = $("#sentences");
  const sentences = { lines: [], vectors: new Map(), started: false };
  let run = 0;

  // Only the latest run goes on: an event comes for every letter.
  async function readAll(pause) {
    const own = ++run, over = () => own !== run;
    sentences.started = true;
    await sleep(pause);
    if (over()) return;
    const lines = classes ?? field.value.split("\n").map((line) => line.trim()).filter(Boolean);
    const unknown = [...new Set(lines)].filter((line) => !sentences.vectors.has(line));
    for (const [i, line] of unknown.entries()) {
      if (i) status(`Reading sentence ${i + 1} of ${unknown.length}`, i / unknown.length);
      sentences.vectors.set(line, await engine.text(line));
      if (over()) return;
    }
    sentences.lines = [...new Set(lines)];
    done();
  }

  sentences.read = (pause = 0) => working(() => readAll(pause), "The sentences could not be read");
  field.oninput = () => sentences.started && sentences.read(250);
  return sentences;
}
