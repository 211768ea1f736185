// The model, in a worker of its own. engine.js starts it from a blob, so that it is held to the
// page's Content-Security-Policy. A classic worker, since LiteRT loads itself by importScripts.

let manifest, litert, store, pixels, tokenize, imageGraph, textGraph, vectors;
const runtime = SITE + "runtime/";

const handlers = {
  // Loads runtime and image tower, and compares an answer with the stored one.
  async open(given) {
    manifest = given;
    store = await import(SITE + "store.js");
    pixels = await import(SITE + "pixels.js");
    const threads = crossOriginIsolated && navigator.hardwareConcurrency > 1;
    self.Module = {
      locateFile: (name) => `${runtime}wasm/${name}`,
      mainScriptUrlOrBlob: `${runtime}wasm/litert_wasm_threaded_internal.js`,
      print() {},
      printErr() {}, // LiteRT says everything there, not only errors
    };
    litert = await import(runtime + "litert.js");
    await litert.loadLiteRt(runtime + "wasm/", { threads });
    imageGraph = await compile("image");
    const { image, image_embedding } = manifest.self_test;
    const { embedding } = await handlers.image(await (await fetch(SITE + image)).blob());
    check("picture", embedding, image_embedding);
    await store.forgetOthers(manifest.files);
  },

  // Returns a picture's embedding and a small copy to show.
  async image(blob) {
    const picture = await pixels.open(blob).catch(() => {
      throw new Error("not a picture that this browser can read, or damaged");
    });
    try {
      const size = manifest.resolution, data = pixels.resize(picture, size, manifest.crop);
      const embedding = await run(imageGraph, data, [1, size, size, 3]);
      return { embedding, thumbnail: await pixels.thumbnail(picture) };
    } finally {
      picture.close();
    }
  },

  // Returns the embedding of a class, or of a text; the text tower is loaded for the first.
  async text(text) {
    const { classes, embedding_dim: width } = manifest;
    if (!classes) return run((textGraph ??= await openText()), Int32Array.from(tokenize(text)));
    vectors ??= new Float32Array((await read("model/classes.bin")).buffer);
    const at = classes.indexOf(text) * width;
    return vectors.slice(at, at + width);
  },
};

async function openText() {
  const { makeTokenizer } = await import(SITE + "tokenizer.js");
  const vocabulary = await read(manifest.tokenizing.file);
  tokenize = await makeTokenizer(manifest.tokenizing, vocabulary, runtime);
  const { texts, text_embedding } = manifest.self_test;
  for (const { text, ids } of texts) {
    if (tokenize(text).join() !== ids.join()) differs(`the words of "${text}"`);
  }
  const graph = await compile("text");
  check("sentence", await run(graph, Int32Array.from(texts[0].ids)), text_embedding);
  return graph;
}

const read = (path) =>
  store.readModel({ path, ...manifest.files[path] }, (progress) => postMessage({ progress }));

async function compile(tower) {
  return litert.loadAndCompile(await read(`model/${tower}_encoder.tflite`), { accelerator: "wasm" });
}

async function run(graph, data, shape = [1, data.length]) {
  const input = new litert.Tensor(data, shape), [output] = await graph.run([input]);
  const answer = output.toTypedArray().slice();
  input.delete();
  output.delete();
  return answer;
}

// Compares an embedding with a stored one in base64; both have length 1.
function check(what, found, base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const cosine = new Float32Array(bytes.buffer).reduce((sum, x, i) => sum + x * found[i], 0);
  if (!(cosine >= 0.999)) differs(`a stored ${what}, cosine ${cosine.toFixed(4)}`);
}

function differs(what) {
  throw new Error(`this browser's answer differs from the model's own (${what})`);
}

self.onmessage = async ({ data: { name, value } }) => {
  try {
    postMessage({ result: await handlers[name](value) });
  } catch (error) {
    // After an abort, nothing in this worker can be trusted any more.
    const fatal = error instanceof WebAssembly.RuntimeError || /abort/i.test(error);
    postMessage({ error: error?.message ?? String(error), fatal });
  }
};
