// The page's side of worker.js.

import { SITE } from "./store.js";

const PAGE = new URL("./", import.meta.url).href;

// The lock that pages share while they start the model.
export const STARTING = `${SITE} starting`;

export class Engine {
  #last = Promise.resolve(); // pictures and texts go through the model one after the other
  #waiting = new Map(); // {number of a question: what to do with its answer}
  #asked = 0;
  #restarts = []; // what waits for the worker to be started again

  // `manifest` is lit_manifest.json; `progress` is called with {at, bytes} while files come.
  constructor(manifest, progress) {
    Object.assign(this, { manifest, progress });
    this.start();
  }

  // Resolves when the model is loaded and its self-test passed; rejects if that failed. Questions
  // wait until a later start works.
  ready;

  // Waits for that start.
  opened = async () => {
    while (!(await this.ready.then(() => true, () => false))) {
      await new Promise((resolve) => this.#restarts.push(resolve));
    }
  };

  // A picture's {embedding, thumbnail, ms}, a text's {embedding, cut}.
  image = (blob) => this.#inTurn("image", blob);
  text = (text) => this.#inTurn("text", text);
  // A small copy of a picture, whose longer side is given.
  small = (blob, side) => this.#inTurn("small", [blob, side]);
  // Loads and keeps all files of the model; returns whether all are kept.
  keep = () => this.#ask("keep");
  // Forgets models of other exports.
  forgetOthers = () => this.#ask("forgetOthers");

  // Starts again with or without WebGPU, after what is being read; without it, if that fails.
  useGpu = (gpu) => {
    const start = (gpu) => {
      this.gpu = gpu;
      this.start();
      return this.ready;
    };
    const started = this.#last.then(() => start(gpu)).catch(() => start(false));
    this.#last = started.catch(() => {});
    return started;
  };

  start = () => {
    const { locks } = navigator; // none over plain HTTP
    const open = () => this.#open();
    this.ready = locks ? locks.request(STARTING, { mode: "shared" }, open) : open();
    this.ready.catch(() => {}); // main.js says so
    for (const go of this.#restarts.splice(0)) go();
  };

  #open() {
    this.worker?.terminate();
    this.#fail("the model was started again");
    const code = `const PAGE = "${PAGE}"; importScripts(PAGE + "worker.js");`;
    this.worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    this.worker.onmessage = ({ data }) => this.#answer(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(event.message || "the model's worker could not be started");
    };
    return this.#ask("open", { manifest: this.manifest, gpu: this.gpu });
  }

  #inTurn(name, value) {
    const answer = this.#last.then(() => this.opened()).then(() => this.#ask(name, value));
    // A WebAssembly module that aborted is lost: another worker does the rest.
    this.#last = answer.catch(({ fatal }) => fatal && this.start());
    return answer;
  }

  #ask(name, value) {
    const id = this.#asked++;
    this.worker.postMessage({ id, name, value });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #answer({ id, progress, result, error, fatal }) {
    if (progress) return this.progress(progress);
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) reject(Object.assign(new Error(error), { fatal }));
    else resolve(result);
  }

  #fail(message) {
    for (const { reject } of this.#waiting.values()) reject(new Error(message));
    this.#waiting.clear();
  }
}
