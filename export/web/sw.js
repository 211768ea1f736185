// Keeps the page for visits without a network, and adds the headers that several threads need where
// a host sends none. `lit-tf export --web` fills in what stands in double braces.

const CACHE = `lit-page ${registration.scope} {{version}}`;
const FILES = {{files}};
const KEPT_LATER = /runtime\/wasm\//; // of three builds a browser needs one: kept when it is used
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

addEventListener("install", (event) => event.waitUntil(keepFiles()));
addEventListener("activate", (event) => event.waitUntil(takeOver()));
addEventListener("fetch", (event) => {
  const { request } = event;
  const path = request.url.startsWith(registration.scope) && request.url.slice(registration.scope.length);
  // Models are kept by the page itself, by digest.
  if (request.method !== "GET" || path === false || path.startsWith("model/")) return;
  event.respondWith(answer(request, path));
});

async function keepFiles() {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((path) => new Request(path, { cache: "no-cache" })));
  await skipWaiting();
}

async function takeOver() {
  for (const name of await caches.keys()) {
    if (name.startsWith(`lit-page ${registration.scope} `) && name !== CACHE) await caches.delete(name);
  }
  await clients.claim();
}

async function answer(request, path) {
  const cache = await caches.open(CACHE);
  let response = await cache.match(path.startsWith("index.html") || path === "" ? "./" : request, { ignoreSearch: true, ignoreVary: true });
  if (!response) {
    response = await fetch(request);
    if (response.ok && KEPT_LATER.test(path)) await cache.put(request, response.clone());
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
