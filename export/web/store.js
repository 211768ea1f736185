// What the page keeps on the visitor's machine: models by digest, and the photos of the search.

/** The folder that the site is served from; another site of the same host keeps its own things. */
const SITE = new URL("./", import.meta.url).href;
const MODELS = `lit-model ${SITE}`;

/**
 * Returns the bytes of a model's file: kept ones, else fetched ones, checked and kept.
 * @param file {path, bytes, sha256} of the manifest
 * @param progress called with how many bytes have come
 */
export async function readModel({ path, bytes, sha256 }, progress) {
  const key = `${SITE}${path}?${sha256}`;
  // Browsers have neither caches nor digests where a page comes over plain HTTP.
  const cache = await globalThis.caches?.open(MODELS).catch(() => null);
  const kept = await cache?.match(key);
  if (kept) {
    progress(bytes);
    return new Uint8Array(await kept.arrayBuffer());
  }
  const response = await fetch(SITE + path, { cache: cache ? "no-store" : "no-cache" });
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status}`);
  const data = new Uint8Array(bytes);
  let at = 0;
  for (const reader = response.body.getReader(); ; progress(at)) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > bytes) throw new Error(changed(path));
    data.set(value, at);
    at += value.length;
  }
  if (at !== bytes || (crypto.subtle && (await digest(data)) !== sha256)) throw new Error(changed(path));
  // Where there is no room for it, the model is fetched again next time.
  await cache?.put(key, new Response(data)).catch(() => {});
  return data;
}

/** Deletes kept models that are not among the files. */
export async function forgetOtherModels(files) {
  const cache = await globalThis.caches?.open(MODELS).catch(() => null);
  const keep = new Set(files.map(({ path, sha256 }) => `${SITE}${path}?${sha256}`));
  for (const request of (await cache?.keys()) ?? []) if (!keep.has(request.url)) await cache.delete(request);
}

const changed = (path) => `${path} is not the file that this page expects. Reload the page; it may have changed`;

async function digest(data) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- photos ---------------------------------------------------------------------------------------

/** The photos that were searched before: {key, model, name, embedding, thumbnail}. */
export class Photos {
  /** @param model the digest of the image tower: embeddings of another one are of no use */
  static async open(model) {
    const photos = new Photos();
    photos.model = model;
    photos.all = new Map();
    try {
      photos.database = await done(indexedDB.open(`lit-photos ${SITE}`, 1), (request) =>
        request.result.createObjectStore("photos", { keyPath: "key" }));
      for (const photo of await done(photos.#store().getAll())) {
        if (photo.model === model) photos.all.set(photo.key, photo);
        else photos.#store("readwrite").delete(photo.key);
      }
    } catch {
      photos.database = null; // a private window: kept until the page closes
    }
    return photos;
  }

  static key(file, name) {
    return JSON.stringify([name, file.size, file.lastModified]);
  }

  async put(photo) {
    this.all.set(photo.key, photo);
    if (this.database) await done(this.#store("readwrite").put({ ...photo, model: this.model })).catch(() => {});
  }

  async clear() {
    this.all.clear();
    if (this.database) await done(this.#store("readwrite").clear());
  }

  #store(mode = "readonly") {
    return this.database.transaction("photos", mode).objectStore("photos");
  }
}

function done(request, upgrade) {
  return new Promise((resolve, reject) => {
    if (upgrade) request.onupgradeneeded = () => upgrade(request);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
