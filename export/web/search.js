// Photos by words: a folder is read once, and remembered on this machine where that works.

import { cutNote } from "./card.js";
import { $, button, make, photo, say, similar, sleep, working } from "./dom.js";
import { isPicture, makeQueue } from "./queue.js";
import { dot } from "./scores.js";
import { SITE, kept } from "./store.js";

const STEP = 60; // photos that are shown at once

// Fills the tab; returns a function that takes [{file, name}].
export function showSearch({ classes, files }, engine) {
  const tab = $("#search"), photos = new Map(), opened = new Map();
  const others = new BroadcastChannel(`lit ${SITE}`); // the site in other tabs
  const model = files["model/image_encoder.tflite"].sha256;
  let field = $("#query"), query = null, asked = 0, most = STEP;

  function draw() {
    tell();
    for (const each of photos.values()) each.cosine = query ? dot(query, each.embedding) : 0;
    const found = [...photos.values()].sort((a, b) => b.cosine - a.cosine);
    $(".results", tab).replaceChildren(...found.slice(0, most).map(show));
    const more = button("Show more", () => draw((most += STEP)));
    const count = `${most} of ${found.length.toLocaleString()} photos `;
    $(".more", tab).replaceChildren(...(found.length > most ? [count, more] : []));
    if (query && found.length) say(`Best: ${found[0].name}`);
  }

  // Says how many photos are remembered: what the browser has stored, not what it was asked to.
  async function tell() {
    const stored = Math.min((await kept("photos", "count")) ?? 0, photos.size);
    const [all, part] = [photos.size, stored].map((count) => count.toLocaleString());
    const words = stored === photos.size ? `${all} photos are remembered in this browser. `
      : stored ? `${part} of ${all} photos are remembered in this browser. `
      : `${all} photos. This browser does not remember them after the page is closed. `;
    $(".known", tab).replaceChildren(...(photos.size ? [words, button("Forget them", forget)] : []));
  }

  function show({ key, name, thumbnail, cosine }) {
    const file = opened.get(key), onclick = () => open(URL.createObjectURL(file));
    const image = photo(thumbnail);
    const shown = file ? make("button", { ariaLabel: `Open ${name}`, onclick }, image) : image;
    const words = query ? `similarity ${similar(cosine)}` : "";
    return make("li", {}, shown, make("h2", {}, name), make("small", {}, words));
  }

  async function forget() {
    await kept("photos", "clear");
    others.postMessage("forgotten");
    empty();
  }

  function empty() {
    photos.clear();
    draw();
  }

  // Only the latest run goes on: an event comes for every letter.
  async function ask() {
    const own = ++asked, over = () => own !== asked;
    await sleep(250);
    if (over()) return;
    const text = classes ? field.value : field.value.trim();
    const found = text ? await engine.text(text) : null;
    if (over()) return;
    query = found?.embedding;
    most = STEP;
    $(".cut", tab).textContent = found?.cut ? `Your words are ${cutNote(found.cut)}.` : "";
    draw();
  }

  const queue = makeQueue(tab, async ({ file, name }) => {
    const key = `${name} ${file.size} ${file.lastModified}`;
    opened.set(key, file);
    if (photos.has(key)) return;
    const { embedding, thumbnail } = await engine.image(file);
    photos.set(key, { key, model, name, embedding, thumbnail });
    await kept("photos", "put", photos.get(key), key);
    if (photos.size % 20 === 0) draw();
  });

  async function remember() {
    const stored = (await kept("photos", "getAll")) ?? [];
    // Embeddings of another model are of no use.
    if (stored.some((each) => each.model !== model)) return forget();
    for (const each of stored) photos.set(each.key, each);
    draw();
  }

  if (classes) {
    const options = classes.map((name) => new Option(name, name));
    const select = make("select", { id: "query" }, new Option("Choose a class", ""), ...options);
    field.replaceWith(select);
    field = select;
  }
  field.oninput = () => working(ask, "The words could not be read");
  others.onmessage = empty;
  addEventListener("visibilitychange", () => document.hidden || tell());
  remember();
  // Other files in a folder are skipped.
  return (items) => queue.add(items.filter(isPicture)).then(draw);
}
