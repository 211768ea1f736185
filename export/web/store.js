// What the page keeps on the visitor's machine: models by digest, and the photos of the search.

import { get } from "./fetching.js";
import { sha256 } from "./sha256.js";

// The site's address. Other sites of the same host keep their own things.
export const SITE = new URL("../../", import.meta.url).href;

let database;

function open() {
  const request = indexedDB.open(`lit ${SITE}`);
  request.onupgradeneeded = () => {
    for (const name of ["models", "photos"]) request.result.createObjectStore(name);
  };
  return new Promise((resolve, reject) => {
    request.onsuccess = () => {
      const opened = request.result, close = () => (database = undefined);
      // Deleted from outside: another is opened when it is needed.
      Object.assign(opened, { onclose: close, onversionchange: () => opened.close(close()) });
      resolve(opened);
    };
    request.onerror = () => reject(request.error);
  });
}

// Calls a method of IndexedDB's store "models" or "photos". Returns its result once it is on the
// disk, or undefined if nothing is kept: in some private windows, or where there is no room.
export async function kept(store, method, ...values) {
  try {
    const opened = await (database ??= open());
    const transaction = opened.transaction(store, /^(get|count)/.test(method) ? "readonly" : "readwrite");
    const request = transaction.objectStore(store)[method](...values);
    return await new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  } catch {
    database = undefined;
  }
}

const coming = new Map(); // {digest: promise of a file that is on its way}

// Returns the bytes of a file of the manifest: kept, or fetched and checked.
export function readModel(file, progress) {
  const { sha256: key } = file;
  if (!coming.has(key)) {
    coming.set(key, readOnce(file, progress).finally(() => coming.delete(key)));
  }
  return coming.get(key);
}

async function readOnce({ path, parts = [path], bytes, sha256: expected }, progress) {
  const before = await kept("models", "get", expected);
  if (before) return new Uint8Array(await before.arrayBuffer());
  const data = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    const start = at;
    await get(SITE + part, async ({ body }) => {
      const reader = body.getReader();
      at = start;
      for (let piece; !(piece = await reader.read()).done; progress({ at, bytes })) {
        if (at + piece.value.length <= bytes) data.set(piece.value, at);
        at += piece.value.length;
      }
    }, { cache: "no-store" });
  }
  if (at !== bytes || (await sha256(data)) !== expected) {
    throw new Error(`${path} is not the file that this page expects; reload the page`);
  }
  return data;
}

export const keepModel = async (key, data) =>
  (await kept("models", "getKey", key)) ?? kept("models", "put", new Blob([data]), key);

export const dropModel = (key) => kept("models", "delete", key);

// Returns the paths of a manifest's files that are not kept.
export async function missing(files) {
  const keys = (await kept("models", "getAllKeys")) ?? [];
  return Object.keys(files).filter((path) => !keys.includes(files[path].sha256));
}

// Deletes kept models that are not among the manifest's files.
export async function forgetOthers(files) {
  const digests = Object.values(files).map((file) => file.sha256);
  for (const key of (await kept("models", "getAllKeys")) ?? []) {
    if (!digests.includes(key)) await dropModel(key);
  }
}
