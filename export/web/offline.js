// The page's side of sw.js: threads where a host sends no headers, and visits without a network.

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

// Returns whether the newest service worker works, once that is known.
async function works({ installing, waiting, active }) {
  const worker = installing ?? waiting ?? active;
  while (worker && !["activated", "redundant"].includes(worker.state)) {
    await new Promise((resolve) => worker.addEventListener("statechange", resolve, { once: true }));
  }
  return worker?.state === "activated";
}

// Keeps everything that the page needs without a network; returns whether it is kept. `runtime` are
// the files of the runtime that this browser uses.
export async function keep(registration, engine, runtime) {
  if (navigator.connection?.saveData) return false;
  const model = await engine.keep();
  await registration?.update().catch(() => {});
  await (registration && works(registration)); // an update may fail, and the one before goes on
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
