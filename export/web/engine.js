// The page's side of worker.js.

const SITE = new URL("./", import.meta.url).href;

export class Engine {
  #last = Promise.resolve();

  // `manifest` is lit_manifest.json; `progress` is called with {at, bytes} while files come.
  constructor(manifest, progress) {
    Object.assign(this, { manifest, progress });
    this.#start();
  }

  // Resolves when the model is loaded and its self-test passed.
  ready;

  // A picture's {embedding, thumbnail}, a text's embedding.
  image = (blob) => this.#call("image", blob);
  text = (text) => this.#call("text", text);

  #start() {
    const code = `const SITE = "${SITE}"; importScripts(SITE + "worker.js");`;
    this.worker?.terminate();
    this.worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    this.ready = this.#ask("open", this.manifest);
    this.ready.catch(() => {}); // main.js says so
  }

  #call(name, value) {
    const answer = this.#last.then(() => this.ready).then(() => this.#ask(name, value));
    // A WebAssembly module that aborted is lost: another worker does the rest.
    this.#last = answer.catch(({ fatal }) => fatal && this.#start());
    return answer;
  }

  #ask(name, value) {
    return new Promise((resolve, reject) => {
      this.worker.onmessage = ({ data: { progress, result, error, fatal } }) => {
        if (progress) this.progress(progress);
        else if (error) reject(Object.assign(new Error(error), { fatal: fatal && name !== "open" }));
        else resolve(result);
      };
      this.worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message || "the model's worker could not be started"));
      };
      this.worker.postMessage({ name, value });
    });
  }
}
