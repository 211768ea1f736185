// The model, in a worker of its own. engine.js starts it from a blob, so that it is held to the
// page's Content-Security-Policy. A classic worker, since LiteRT loads itself by importScripts.

let manifest, litert, store, pixels, patches, tokenizer, get, runtime;
let tokenize, imageGraph, textGraph, vectors;

const handlers = {
  // Loads runtime and image tower, and compares an answer with the stored one. Returns {runtime: names
  // of the runtime's files that this browser uses, gpu: whether pictures run there}.
  async open(given) {
    manifest = given.manifest;
    self.gpu = given.gpu && Boolean(navigator.gpu); // litert.js reads it
    // All of them now: a later export may replace the files while the page is open.
    const names = ["store.js", "pixels.js", "patches.js", "tokenizer.js", "fetching.js"];
    [store, pixels, patches, tokenizer, { get }] = await Promise.all(names.map((name) => import(PAGE + name)));
    runtime = store.SITE + manifest.runtime_folder;
    const threads = crossOriginIsolated && navigator.hardwareConcurrency > 1;
    self.Module = {
      locateFile: (name) => `${runtime}wasm/${name}`,
      mainScriptUrlOrBlob: `${runtime}wasm/litert_wasm_threaded_internal.js`,
      print() {},
      printErr() {}, // LiteRT says everything there, not only errors
    };
    litert = await import(runtime + "litert.js");
    await litert.loadLiteRt(runtime + "wasm/", { threads });
    const accelerators = self.gpu ? ["webgpu", "wasm"] : ["wasm"];
    imageGraph = await openTower("image", accelerators, async (graph) => {
      const { image, image_embedding } = manifest.self_test;
      const blob = await get(PAGE + image, (response) => response.blob());
      check("picture", await embed(graph, await pixels.open(blob)), image_embedding);
    });
    const asked = performance.getEntriesByType("resource").map(({ name }) => name);
    const used = asked.filter((url) => url.includes("/wasm/"));
    const runtimeFiles = used.map((url) => url.slice(store.SITE.length));
    return { runtime: runtimeFiles, gpu: imageGraph.accelerator === "webgpu" };
  },

  // Returns a picture's embedding, a small copy to show, and how long it took.
  async image(blob) {
    const start = performance.now(), picture = await openPicture(blob);
    try {
      const embedding = await embed(imageGraph.graph, picture);
      const thumbnail = await pixels.thumbnail(picture, 320);
      return { embedding, thumbnail, ms: performance.now() - start };
    } finally {
      picture.close();
    }
  },

  async small([blob, side]) {
    const picture = await openPicture(blob);
    return pixels.thumbnail(picture, side).finally(() => picture.close());
  },

  // Returns the embedding of a class, or of a text, and how many tokens the model reads if the text
  // has more. The text tower is loaded for the first.
  async text(text) {
    const { classes } = manifest;
    if (!classes) {
      textGraph ??= await openText();
      const { ids, cut } = tokenize(text);
      const embedding = await readIds(textGraph.graph, ids);
      return { embedding, cut: cut ? ids.length : 0 };
    }
    vectors ??= await openClasses();
    const width = vectors.length / classes.length, at = classes.indexOf(text) * width;
    return { embedding: vectors.slice(at, at + width), cut: 0 };
  },

  async keep() {
    const missing = await store.missing(manifest.files);
    for (const path of missing) await keepFile(path, await read(path, () => {}));
    return !(await store.missing(manifest.files)).length;
  },

  forgetOthers: () => store.forgetOthers(manifest.files),
};

const openPicture = (blob) =>
  pixels.open(blob).catch((error) => {
    throw error.said ? error : new Error("not a picture that this browser can read, or damaged");
  });

const read = (path, progress = (progress) => postMessage({ progress })) =>
  store.readModel({ path, ...manifest.files[path] }, progress);

const keepFile = (path, data) => store.keepModel(manifest.files[path].sha256, data);

// Compiles a tower for the first accelerator that passes the test; returns {graph, accelerator}. Its
// file is kept only if one does.
async function openTower(tower, accelerators, test) {
  const path = `model/${tower}_encoder.tflite`, data = await read(path);
  let failed;
  for (const accelerator of accelerators) {
    try {
      const graph = await litert.loadAndCompile(data, { accelerator });
      if (accelerator === "webgpu" && !graph.isFullyAccelerated) throw new Error("not wholly there");
      await test(graph);
      await keepFile(path, data);
      return { graph, accelerator };
    } catch (error) {
      failed = error;
    }
  }
  await store.dropModel(manifest.files[path].sha256);
  throw failed;
}

async function openText() {
  const { file } = manifest.tokenizing, { texts, text_embedding } = manifest.self_test;
  const vocabulary = await read(file);
  tokenize = await tokenizer.makeTokenizer(manifest.tokenizing, vocabulary, runtime);
  for (const { text, ids } of texts) {
    if (tokenize(text).ids.join() === ids.join()) continue;
    await store.dropModel(manifest.files[file].sha256);
    differs(`the words of "${text}"`);
  }
  await keepFile(file, vocabulary);
  // Not by WebGPU, which does not read a table of tokens.
  return openTower("text", ["wasm"], async (graph) =>
    check("sentence", await readIds(graph, texts[0].ids), text_embedding));
}

async function openClasses() {
  const data = await read("model/classes.bin");
  await keepFile("model/classes.bin", data);
  return new Float32Array(data.buffer);
}

async function embed(graph, picture) {
  const { resolution: size, max_patches, patch_size, crop } = manifest;
  if (max_patches) return run(graph, patches.cut(picture, patch_size, max_patches));
  return run(graph, { image: [pixels.resize(picture, size, crop), [1, size, size, 3]] });
}

// Runs a graph on {name: [data, shape]}.
async function run(graph, given) {
  const inputs = {};
  for (const [name, [data, shape]] of Object.entries(given)) inputs[name] = new litert.Tensor(data, shape);
  const outputs = await graph.run(inputs), answer = (await outputs.embedding.data()).slice();
  for (const tensor of [...Object.values(inputs), outputs.embedding]) tensor.delete();
  return answer;
}

const readIds = (graph, ids) => run(graph, { tokens: [Int32Array.from(ids), [1, ids.length]] });

// Compares an embedding with a stored one in base64; both have length 1.
function check(what, found, base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const cosine = new Float32Array(bytes.buffer).reduce((sum, x, i) => sum + x * found[i], 0);
  if (!(cosine >= 0.999)) differs(`a stored ${what}, cosine ${cosine.toFixed(4)}`);
}

function differs(what) {
  throw new Error(`this browser's answer differs from the model's own (${what})`);
}

self.onmessage = async ({ data: { id, name, value } }) => {
  try {
    postMessage({ id, result: await handlers[name](value) });
  } catch (error) {
    // After an abort, nothing in this worker can be trusted any more.
    const aborted = error instanceof WebAssembly.RuntimeError || /abort/i.test(error);
    postMessage({ id, error: error?.message ?? String(error), fatal: aborted && name !== "open" });
  }
};
