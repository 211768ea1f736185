// Keeps the page for visits without a network, and adds the headers that several threads need where
// a host sends none. `lit-tf export --web` fills in what stands in double braces.

const { scope } = registration, PAGE = `lit-page ${scope} `, CACHE = PAGE + "{{version}}";
const FILES = {{files}};

addEventListener("install", (event) => event.waitUntil(keepFiles()));
addEventListener("activate", (event) => event.waitUntil(takeOver()));
addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  // The page itself keeps models, by digest.
  if (method !== "GET" || !url.startsWith(scope) || url.startsWith(`${scope}model/`)) return;
  event.respondWith(answer(event.request));
});

async function keepFiles() {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((path) => new Request(path, { cache: "no-cache" })));
  await skipWaiting();
}

async function takeOver() {
  for (const name of await caches.keys()) {
    if (name.startsWith(PAGE) && name !== CACHE) await caches.delete(name);
  }
  await clients.claim();
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  let response = await cache.match(request, { ignoreSearch: true, ignoreVary: true });
  if (!response) {
    response = await fetch(request);
    // Of the runtime's three builds, the one that is used.
    if (response.ok && request.url.includes("/wasm/")) await cache.put(request, response.clone());
  }
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, headers });
}
