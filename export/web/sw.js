// Keeps the page for visits without a network, and adds the headers that several threads need where
// a host sends none. `lit-tf export --web` fills in what stands in double braces. Keeping is
// optional, answering is not: whatever fails in a cache, the server is asked.

const { scope } = registration, PAGE = `lit-page ${scope} `, VERSION = "{{version}}";
const CACHE = PAGE + VERSION;
const FILES = {{files}}; // {path: SHA-256}; "" is the page itself

const optional = async (work) => {
  try {
    return await work();
  } catch {} // no room, or storage denied
};

addEventListener("install", (event) => event.waitUntil(install()));
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("message", (event) => event.waitUntil(event.data === "renew" ? skipWaiting() : keep(event)));
addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  // The page itself keeps models, by digest.
  if (method !== "GET" || !url.startsWith(scope) || url.startsWith(`${scope}model/`)) return;
  const path = url.slice(scope.length).split(/[?#]/)[0];
  const first = path === "" || path === "index.html";
  event.respondWith((first ? start() : answer(event, path)).then(withHeaders));
});

// Where an older export is kept, it stays until all files of this one are on the server, and until a
// page asks for this one (offline.js).
async function install() {
  const older = await optional(() => caches.match(scope));
  const wanted = (path) => !path.includes("/wasm/") && !path.includes("/examples/");
  for (const path of older ? Object.keys(FILES).filter(wanted) : []) {
    if (!(await checked(path)).ok) throw new Error(`${path} is missing`);
  }
}

// The page itself, index.html, is kept last: where it is kept, everything is, and it starts without
// the server. This file, when it changes, brings the next export. Else the server's page is the best,
// and an older export that is kept is better than none.
async function start() {
  const kept = await optional(() => page(VERSION));
  if (kept) return kept;
  const older = await optional(() => caches.match(scope));
  const patience = older && { signal: AbortSignal.timeout(5000) };
  const response = await optional(() => fetch(scope, { cache: "no-cache", ...patience }));
  return response?.ok ? response : (older ?? response ?? Response.error());
}

const page = async (version) => (await caches.open(PAGE + version)).match(scope);

// Everything else has an address of its own in every export, so a kept file is never out of date.
async function answer({ request }, path) {
  const kept = await optional(() => caches.match(scope + path));
  if (kept) return kept;
  return path in FILES ? checked(path) : fetch(request);
}

function withHeaders(response) {
  if (!response.status) return response; // an error, or a redirection
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, headers });
}

// Fetches a file. While a site is uploaded, a server may give another or half of one.
async function checked(path) {
  const response = await fetch(scope + path, { cache: "no-cache" });
  if (!response.ok) return response;
  const data = await response.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== FILES[path]) throw new Error(`${path} is not the file that belongs to this page`);
  return new Response(data, { headers: { "Content-Type": response.headers.get("Content-Type") } });
}

// Keeps the page's files and those of the runtime that it uses, if the model is kept. Answers whether
// the page works without a network, and whether no other window shows the site.
async function keep({ data: { version, model, runtime }, ports: [port] }) {
  const windows = await clients.matchAll({ type: "window", includeUncontrolled: true });
  const alone = windows.filter(({ url }) => url.startsWith(scope)).length === 1;
  if (version === VERSION && model) await optional(() => keepFiles(runtime));
  // Other windows may show older exports, and need their files.
  if (version === VERSION && alone) await optional(forgetOlder);
  const kept = Boolean(model && (await optional(() => page(version))));
  port.postMessage({ kept, alone });
}

async function keepFiles(runtime) {
  const wanted = (path) => path && (!path.includes("/wasm/") || runtime.includes(path));
  for (const path of Object.keys(FILES).filter(wanted)) {
    if (path.includes("/examples/")) await optional(() => keepFile(path)); // works without them
    else await keepFile(path);
  }
  await keepFile("");
}

async function forgetOlder() {
  for (const name of await caches.keys()) {
    if (name.startsWith(PAGE) && name !== CACHE) await caches.delete(name);
  }
}

async function keepFile(path) {
  const cache = await caches.open(CACHE), url = scope + path;
  if (await cache.match(url)) return;
  // Exports share files, above all the runtime. Only the page itself has one address in all.
  const response = (path && (await caches.match(url))) || (await checked(path));
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status}`);
  await cache.put(url, response);
}
