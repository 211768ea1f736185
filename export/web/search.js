// Photos by words: a folder is read once, and remembered on this machine.

import { $, fail, make, say } from "./dom.js";
import { Queue, isPicture } from "./files.js";
import { dot } from "./scores.js";
import { Photos } from "./store.js";

const MOST = 60; // photos shown

/** Fills the tab; returns a function that takes [{file, name}]. */
export async function showSearch(manifest, engine, ready) {
  const tab = $("#search"), known = $(".known", tab), opened = new Map();
  const photos = await Photos.open(manifest.files["model/image_encoder.tflite"].sha256);
  let field = $("#query"), query = null, urls = [], round = 0, timer;

  function draw() {
    const forget = make("button", { textContent: "Forget them", onclick: () => photos.forget().then(draw) });
    known.replaceChildren(...(photos.size ? [`${photos.size.toLocaleString()} photos are remembered in this browser. `, forget] : []));
    urls.forEach(URL.revokeObjectURL);
    urls = [];
    const found = Array.from(photos.values(), (photo) => ({ photo, cosine: query ? dot(query, photo.embedding) : 0 }));
    if (query) found.sort((a, b) => b.cosine - a.cosine);
    $(".results", tab).replaceChildren(...found.slice(0, MOST).map(show));
    if (query && found.length) say(`Best: ${found[0].photo.name}`);
  }

  function show({ photo: { key, name, thumbnail }, cosine }) {
    const src = URL.createObjectURL(thumbnail), file = opened.get(key);
    urls.push(src);
    let image = make("img", { src, alt: "" });
    if (file) image = make("button", { ariaLabel: `Open ${name}`, onclick: () => open(URL.createObjectURL(file)) }, image);
    return make("li", {}, image, make("h2", { textContent: name, title: name }), make("small", {}, query ? `similarity ${cosine.toFixed(3)}` : ""));
  }

  async function ask() {
    const mine = ++round, text = field.value.trim();
    const { classes } = await engine.ready;
    const found = !text ? null : classes ? classes[field.selectedIndex - 1] : await engine.text(text);
    if (mine !== round) return; // typed on meanwhile
    query = found;
    ready();
    draw();
  }

  const queue = new Queue($(".queue", tab), async ({ file, name }) => {
    const key = JSON.stringify([name, file.size, file.lastModified]);
    opened.set(key, file);
    if (photos.has(key)) return;
    try {
      await photos.keep({ key, name, ...(await engine.image(file)) });
    } catch (error) {
      fail(tab, { file, name }, error);
    }
    if (queue.items.length % 20 === 0) draw();
  });

  if (manifest.classes) {
    const options = manifest.classes.map((name) => new Option(name));
    field.replaceWith((field = make("select", { id: "query" }, new Option("Choose a class", ""), ...options)));
  }
  field.oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => ask().catch((error) => say(error.message)), 250);
  };
  draw();
  // A folder holds other things, too, and they are nobody's mistake.
  return (items) => queue.add(items.filter(isPicture)).then(draw);
}
