// Picture files that a person picks, drops or pastes, one after the other through the model.

import { $, cross, make, say } from "./dom.js";

const isHeic = ({ file, name }) => /[./]hei[cf]/i.test(file.type + name);

export const isPicture = (item) => item.file.type.startsWith("image/") || isHeic(item);

// Returns [{file, name}]; `name` holds the path within a picked folder.
export const picked = ({ files }) =>
  Array.from(files, (file) => ({ file, name: file.webkitRelativePath || file.name }));

// Returns [{file, name}] of what was dropped, folders opened.
export async function dropped(data) {
  // Entries have to be asked for before anything is awaited.
  const entries = Array.from(data.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.every(({ isFile }) => isFile)) return picked(data);
  return (await Promise.all(entries.map(walk))).flat(Infinity);
}

async function walk(entry) {
  const ask = (object, method) => new Promise((resolve, reject) => object[method](resolve, reject));
  if (entry.isFile) return { file: await ask(entry, "file"), name: entry.fullPath.slice(1) };
  const reader = entry.createReader(), found = [];
  for (let part; (part = await ask(reader, "readEntries")).length; ) found.push(...part);
  return Promise.all(found.map(walk));
}

// Returns a function that hands items to `work` one by one; the tab shows how far it is.
export function makeQueue(tab, work) {
  const box = $(".queue", tab);
  let items = [], running = false;
  $("button", box).onclick = () => (items = []);

  return async (more) => {
    items = items.concat(more);
    if (running) return;
    running = true;
    const start = performance.now();
    for (let done = 0; items.length; done++) {
      const all = done + items.length, pace = (performance.now() - start) / 1000 / done;
      const left = done ? `, about ${duration(pace * items.length)} left` : "";
      $(".count", box).textContent = `${done + 1} of ${all}${left}`;
      Object.assign($("progress", box), { max: all, value: done });
      box.hidden = all < 2;
      const item = items.shift();
      await work(item).catch((error) => fail(tab, item, error));
    }
    running = false;
    box.hidden = true;
  };
}

const duration = (seconds) => (seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`);

function fail(tab, item, { message }) {
  const why = isHeic(item) ? "this browser cannot read HEIC. Save it as JPEG first" : message;
  const line = make("li", {}, `${item.name}: ${why}.`, cross(`Dismiss ${item.name}`, () => line.remove()));
  $(".errors", tab).append(line);
  say(line.textContent);
}
