// What the page keeps on the visitor's machine: models by digest, and the photos of the search.

// Other sites of the same host keep their own things.
const SITE = new URL("./", import.meta.url).href;

let database;

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

function open() {
  const request = indexedDB.open(`lit ${SITE}`);
  request.onupgradeneeded = () => {
    for (const name of ["models", "photos"]) request.result.createObjectStore(name);
  };
  return done(request);
}

// Calls a method of IndexedDB's store "models" or "photos".
export async function kept(store, method, ...values) {
  try {
    const opened = await (database ??= open());
    return await done(opened.transaction(store, "readwrite").objectStore(store)[method](...values));
  } catch {} // nothing is kept in some private windows, or where there is no room
}

// Returns the bytes of a file of the manifest: kept, or fetched, checked and kept.
export async function readModel({ path, bytes, sha256 }, progress) {
  const before = await kept("models", "get", sha256);
  if (before) return new Uint8Array(await before.arrayBuffer());
  const response = await fetch(SITE + path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status}`);
  const data = new Uint8Array(bytes), reader = response.body.getReader();
  let at = 0;
  for (let part; !(part = await reader.read()).done; progress({ at, bytes })) {
    if (at + part.value.length <= bytes) data.set(part.value, at);
    at += part.value.length;
  }
  // There are no digests over plain HTTP.
  if (at !== bytes || (crypto.subtle && (await digest(data)) !== sha256)) {
    throw new Error(`${path} is not the file that this page expects; reload the page`);
  }
  await kept("models", "put", new Blob([data]), sha256);
  return data;
}

// Deletes kept models that are not among the manifest's files.
export async function forgetOthers(files) {
  const digests = Object.values(files).map(({ sha256 }) => sha256);
  for (const key of (await kept("models", "getAllKeys")) ?? []) {
    if (!digests.includes(key)) await kept("models", "delete", key);
  }
}

async function digest(data) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
