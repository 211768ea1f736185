// The model, in a worker of its own. engine.js starts it from a blob that sets SITE, so that it is
// held to the page's Content-Security-Policy whatever headers the host sends. A classic worker,
// since LiteRT loads its WebAssembly by importScripts.
"use strict";

let manifest, litert, store, pixels, tokenizer, imageGraph, textGraph;
const runtime = SITE + "runtime/";
const post = (message, transfer = []) => self.postMessage(message, transfer);
const file = (path) => ({ path, ...manifest.files[path] });
const floats = (base64) => new Float32Array(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);

const handlers = {
  /** Loads runtime and image tower, and compares an answer with the stored one. */
  async open(given) {
    manifest = given;
    [store, pixels] = await Promise.all([import(SITE + "store.js"), import(SITE + "pixels.js")]);
    const threads = self.crossOriginIsolated && navigator.hardwareConcurrency > 1;
    self.Module = {
      locateFile: (name) => `${runtime}wasm/${name}`,
      mainScriptUrlOrBlob: `${runtime}wasm/litert_wasm_threaded_internal.js`,
      print: () => {},
      printErr: () => {}, // LiteRT says everything there, not only errors
    };
    litert = await import(runtime + "litert.js");
    const [, bytes] = await Promise.all([
      litert.loadLiteRt(runtime + "wasm/", { threads }),
      read("model/image_encoder.tflite"),
    ]);
    imageGraph = await compile(bytes);
    const { image, image_embedding } = manifest.self_test;
    const answer = await handlers.image(await (await fetch(SITE + image)).blob());
    check("picture", answer.embedding, floats(image_embedding));
    const all = manifest.classes && new Float32Array((await read("model/classes.bin")).buffer);
    const width = manifest.embedding_dim;
    const classes = manifest.classes?.map((_, i) => all.slice(i * width, (i + 1) * width));
    await store.forgetOthers(Object.keys(manifest.files).map(file));
    return { classes, threads: threads ? litert.getGlobalLiteRt().liteRtWasm.getThreadCount() : 1 };
  },

  /** Returns a picture's embedding and a small copy to show. */
  async image(blob) {
    const picture = await pixels.open(blob);
    try {
      const data = pixels.resize(picture, manifest.resolution, manifest.crop);
      const embedding = await run(imageGraph, data, [1, manifest.resolution, manifest.resolution, 3]);
      return { embedding, thumbnail: await pixels.thumbnail(picture) };
    } finally {
      picture.bitmap.close();
    }
  },

  /** Returns a text's embedding; the text tower is loaded for the first. */
  async text(text) {
    if (!textGraph) await openText();
    return { embedding: await run(textGraph, Int32Array.from(tokenizer(text)), [1, manifest.tokenizing.length]) };
  },
};

async function openText() {
  const { makeTokenizer } = await import(SITE + "tokenizer.js");
  const [bytes, vocabulary] = await Promise.all([
    read("model/text_encoder.tflite"),
    read(manifest.tokenizing.file),
  ]);
  tokenizer = await makeTokenizer(manifest.tokenizing, vocabulary, runtime);
  const { texts, text_embedding } = manifest.self_test;
  for (const { text, ids } of texts) {
    if (tokenizer(text).join() !== ids.join()) throw new Error(differs(`the words of "${text}"`));
  }
  textGraph = await compile(bytes);
  const first = await run(textGraph, Int32Array.from(texts[0].ids), [1, texts[0].ids.length]);
  check("sentence", first, floats(text_embedding));
}

const read = (path) => store.readModel(file(path), (progress) => post({ progress }));

const compile = (bytes) => litert.loadAndCompile(bytes, { accelerator: "wasm" });

async function run(graph, data, shape) {
  const input = new litert.Tensor(data, shape);
  try {
    const outputs = await graph.run([input]);
    const answer = outputs[0].toTypedArray().slice();
    outputs.forEach((tensor) => tensor.delete());
    return answer;
  } finally {
    input.delete();
  }
}

function check(what, found, expected) {
  let cosine = 0; // both have length 1
  for (let i = 0; i < expected.length; i++) cosine += found[i] * expected[i];
  if (!(cosine >= 0.999)) throw new Error(differs(`a stored ${what}, cosine ${cosine.toFixed(4)}`));
}

const differs = (what) => `this browser's answer differs from the model's own (${what}), so nothing is shown`;

let last = Promise.resolve();
self.onmessage = ({ data: { id, name, value } }) => {
  last = last.then(async () => {
    try {
      const result = await handlers[name](value);
      post({ id, result }, result.embedding ? [result.embedding.buffer] : []);
    } catch (error) {
      // After an abort, nothing in this worker's WebAssembly can be trusted any more.
      const fatal = error instanceof WebAssembly.RuntimeError || /abort/i.test(error);
      post({ id, error: error?.message ?? String(error), fatal });
    }
  });
};
