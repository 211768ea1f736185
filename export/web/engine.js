// The page's side of worker.js.

const SITE = new URL("./", import.meta.url).href;

export class Engine {
  /**
   * @param manifest lit_manifest.json
   * @param progress called with {path, bytes} while files come
   */
  constructor(manifest, progress) {
    this.manifest = manifest;
    this.progress = progress;
    this.waiting = new Map();
    this.next = 0;
    this.#start();
  }

  /** Resolves when the model is loaded and its self-test passed: {classes, threads}. */
  ready;

  /** Returns {embedding, thumbnail} of a picture. */
  image = (blob) => this.#call("image", blob);

  /** Returns the embedding of a text. */
  text = async (text) => (await this.#call("text", text)).embedding;

  #start() {
    const code = `const SITE = ${JSON.stringify(SITE)}; importScripts(SITE + "worker.js");`;
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    this.worker = new Worker(url);
    this.worker.onmessage = ({ data }) => this.#receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault?.();
      const error = new Error(event.message || "the model's worker could not be started");
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
    this.ready = this.#call("open", this.manifest);
    this.ready.catch(() => {});
  }

  #call(name, value) {
    return new Promise((resolve, reject) => {
      const message = { id: this.next++, name, value };
      this.waiting.set(message.id, { message, resolve, reject });
      this.worker.postMessage(message);
    });
  }

  #receive({ id, result, error, fatal, progress }) {
    if (progress) return this.progress(progress);
    const { message, resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (!error) return resolve(result);
    reject(new Error(error));
    if (!fatal || message.name === "open") return;
    // A WebAssembly module that aborted is lost: another worker does the rest.
    this.worker.terminate();
    const rest = [...this.waiting.values()];
    this.#start();
    for (const { message } of rest) this.worker.postMessage(message);
  }
}
