// Photos by words: a folder is read once, and remembered on this machine.

import { $, make, photo, say, sleep, status, tile } from "./dom.js";
import { isPicture, makeQueue } from "./files.js";
import { dot } from "./scores.js";
import { kept } from "./store.js";

const MOST = 60; // photos shown

// Fills the tab; returns a function that takes [{file, name}].
export async function showSearch({ classes, files }, engine) {
  const tab = $("#search"), photos = new Map(), opened = new Map();
  let field = $("#query"), query = null;

  function draw() {
    const count = `${photos.size.toLocaleString()} photos are remembered in this browser. `;
    const button = make("button", { onclick: forget }, "Forget them");
    $(".known", tab).replaceChildren(...(photos.size ? [count, button] : []));
    for (const each of photos.values()) each.cosine = query ? dot(query, each.embedding) : 0;
    const found = [...photos.values()].sort((a, b) => b.cosine - a.cosine);
    $(".results", tab).replaceChildren(...found.slice(0, MOST).map(show));
    if (query && found.length) say(`Best: ${found[0].name}`);
  }

  function show({ key, name, thumbnail, cosine }) {
    const file = opened.get(key), onclick = () => open(URL.createObjectURL(file));
    const image = photo(thumbnail);
    const shown = file ? make("button", { ariaLabel: `Open ${name}`, onclick }, image) : image;
    return tile(shown, name, make("small", {}, query ? `similarity ${cosine.toFixed(3)}` : ""));
  }

  async function forget() {
    await kept("photos", "clear");
    photos.clear();
    draw();
  }

  async function ask() {
    const typed = field.value;
    await sleep(250);
    if (field.value !== typed) return;
    const text = classes ? typed : typed.trim(), found = text ? await engine.text(text) : null;
    if (field.value !== typed) return;
    query = found;
    status("Ready");
    draw();
  }

  const model = files["model/image_encoder.tflite"].sha256;
  const enqueue = makeQueue(tab, async ({ file, name }) => {
    const key = `${name} ${file.size} ${file.lastModified}`;
    opened.set(key, file);
    if (photos.has(key)) return;
    photos.set(key, { key, model, name, ...(await engine.image(file)) });
    await kept("photos", "put", photos.get(key), key);
    if (photos.size % 20 === 0) draw();
  });

  if (classes) {
    const options = classes.map((name) => new Option(name, name));
    const select = make("select", { id: "query" }, new Option("Choose a class", ""), ...options);
    field.replaceWith(select);
    field = select;
  }
  field.oninput = () => ask().catch(({ message }) => status(message));
  for (const each of (await kept("photos", "getAll")) ?? []) photos.set(each.key, each);
  // Embeddings of another model are of no use.
  if ([...photos.values()].some((each) => each.model !== model)) await forget();
  draw();
  // Other files in a folder are skipped.
  return (items) => enqueue(items.filter(isPicture)).then(draw);
}
