// What the page keeps on the visitor's machine: models by digest, and the photos of the search.

/** The site's address; other sites of the same host keep their own things. */
const SITE = new URL("./", import.meta.url).href;

// Browsers offer neither caches nor digests to pages that come over plain HTTP.
const openCache = () => globalThis.caches?.open(`lit-model ${SITE}`).catch(() => null);
const keyOf = ({ path, sha256 }) => `${SITE}${path}?${sha256}`;

/** Returns the bytes of a file {path, bytes, sha256} of the manifest: kept, or else fetched, checked and kept. */
export async function readModel(file, progress) {
  const { path, bytes, sha256 } = file, cache = await openCache();
  const kept = await cache?.match(keyOf(file));
  if (kept) return new Uint8Array(await kept.arrayBuffer());
  const response = await fetch(SITE + path, { cache: cache ? "no-store" : "no-cache" });
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status}`);
  const data = new Uint8Array(bytes), reader = response.body.getReader();
  let at = 0;
  for (let part; !(part = await reader.read()).done; progress({ path, bytes: at })) {
    if (at + part.value.length <= bytes) data.set(part.value, at);
    at += part.value.length;
  }
  if (at !== bytes || (crypto.subtle && (await digest(data)) !== sha256)) {
    throw new Error(`${path} is not the file that this page expects; reload the page, which may have changed`);
  }
  // Where there is no room for it, it is fetched again next time.
  await cache?.put(keyOf(file), new Response(data)).catch(() => {});
  return data;
}

/** Deletes kept models that are not among the files. */
export async function forgetOthers(files) {
  const cache = await openCache(), keep = files.map(keyOf);
  for (const request of (await cache?.keys()) ?? []) if (!keep.includes(request.url)) await cache.delete(request);
}

async function digest(data) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The photos that were searched before, {key, model, name, embedding, thumbnail} by key. */
export class Photos extends Map {
  /** `model` is the image tower's digest: embeddings of another one are of no use. */
  static async open(model) {
    const photos = Object.assign(new Photos(), { model });
    try {
      const request = indexedDB.open(`lit-photos ${SITE}`, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("photos", { keyPath: "key" });
      photos.database = await done(request);
      for (const photo of await photos.#ask("getAll")) {
        if (photo.model === model) photos.set(photo.key, photo);
        else await photos.#ask("delete", photo.key);
      }
    } catch {} // a private window: they are kept until the page closes
    return photos;
  }

  async keep(photo) {
    this.set(photo.key, photo);
    await this.#ask("put", { ...photo, model: this.model }).catch(() => {});
  }

  async forget() {
    this.clear();
    await this.#ask("clear").catch(() => {});
  }

  async #ask(method, ...values) {
    return done(this.database.transaction("photos", "readwrite").objectStore("photos")[method](...values));
  }
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
