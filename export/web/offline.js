// The page's side of sw.js: threads where a host sends no headers, and visits without a network.

import { sleep } from "./dom.js";
import { STARTING } from "./engine.js";
import { SITE } from "./store.js";

const VERSION = import.meta.url.split("/").at(-2);

// Registers the service worker; returns its registration, or null where there is none. Reloads the
// page once if that gives it threads, and if `untouched` says that nobody has done anything here.
export async function register(untouched) {
  let registration;
  try {
    registration = await navigator.serviceWorker.register(`${SITE}sw.js`);
  } catch {
    return null; // over plain HTTP, in some private windows, or without it on the server
  }
  if (crossOriginIsolated) history.replaceState(null, "");
  else if ((await works(registration)) && !history.state?.reloaded && untouched()) {
    history.replaceState({ reloaded: true }, ""); // once
    location.reload();
    await new Promise(() => {});
  }
  return registration;
}

// Returns whether a service worker works, once that is known.
async function works({ installing, waiting, active }) {
  return (await reaches(active ?? waiting ?? installing, "activated")) === "activated";
}

// Waits for one of these states; returns it, or "redundant" if the worker failed.
async function reaches(worker, ...states) {
  while (![...states, "redundant"].includes(worker.state)) {
    await new Promise((resolve) => worker.addEventListener("statechange", resolve, { once: true }));
  }
  return worker.state;
}

// Lets the service worker of a newer export take over, but not while a page of this site starts its
// model: Chromium may then never answer the request for one of LiteRT's threads.
export async function renew(registration) {
  await registration?.update().catch(() => {}); // an update may fail, and the one before goes on
  const next = registration?.installing ?? registration?.waiting;
  if (!next || (await reaches(next, "installed", "activated")) !== "installed") return;
  await navigator.locks.request(STARTING, { ifAvailable: true }, async (lock) => {
    if (!lock) return; // another visit does it
    next.postMessage("renew");
    await Promise.race([reaches(next, "activated"), sleep(3000)]); // other pages wait to start
  });
}

// Keeps everything that the page needs without a network; returns whether it is kept. `runtime` are
// the files of the runtime that this browser uses.
export async function keep(registration, engine, runtime) {
  const wanted = !navigator.connection?.saveData, model = wanted && (await engine.keep());
  await renew(registration);
  if (!wanted) return false;
  if (!registration?.active) {
    await engine.forgetOthers();
    return false;
  }
  const { port1, port2 } = new MessageChannel();
  const answer = new Promise((resolve) => (port1.onmessage = ({ data }) => resolve(data)));
  registration.active.postMessage({ version: VERSION, model, runtime }, [port2]);
  const { kept, alone } = await answer;
  if (alone) await engine.forgetOthers();
  return kept;
}
