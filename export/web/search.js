// Photos by words: a folder is read once, and remembered on this machine.

import { fail } from "./compare.js";
import { Queue, isPicture } from "./files.js";
import { $, make, say } from "./main.js";
import { dot } from "./scores.js";
import { Photos } from "./store.js";

const MOST = 60; // photos shown

/** Fills the tab; returns {add([{file, name}])}. */
export async function showSearch(manifest, engine, idle) {
  const tab = $("#search"), results = $(".results", tab), known = $(".known", tab);
  const photos = await Photos.open(manifest.files["model/image_encoder.tflite"].sha256);
  const opened = new Map(); // files of this visit, by key
  let query = null, urls = [], round = 0, field = $("#query");

  function draw() {
    const count = photos.all.size;
    known.replaceChildren();
    if (count) {
      const forget = make("button", { textContent: "Forget them" });
      forget.onclick = () => photos.clear().then(draw);
      known.append(`${count.toLocaleString()} photos are remembered in this browser. `, forget);
    }
    urls.forEach(URL.revokeObjectURL);
    urls = [];
    let found = [...photos.all.values()].map((photo) => ({ photo, cosine: query ? dot(query, photo.embedding) : 0 }));
    if (query) found.sort((a, b) => b.cosine - a.cosine);
    results.replaceChildren(...found.slice(0, MOST).map(result));
    if (query) say(`Best of ${count.toLocaleString()} photos: ${found[0]?.photo.name ?? "none"}`);
  }

  function result({ photo, cosine }) {
    const url = URL.createObjectURL(photo.thumbnail);
    urls.push(url);
    const image = make("img", { src: url, alt: "" }), file = opened.get(photo.key);
    const open = file && make("button", { ariaLabel: `Open ${photo.name}`, title: "Open" }, image);
    if (open) open.onclick = () => window.open(URL.createObjectURL(file), "_blank", "noopener");
    return make("li", {}, open ?? image, make("h2", { textContent: photo.name, title: photo.name }),
      make("small", {}, query ? `similarity ${cosine.toFixed(3)}` : ""));
  }

  async function ask() {
    const mine = ++round, text = field.value.trim();
    const { classes } = manifest.classes ? await engine.ready : {};
    const at = field.selectedIndex - 1;
    const found = !text ? null : classes ? classes.slice(at * photos.width, (at + 1) * photos.width) : await engine.text(text);
    if (mine !== round) return;
    query = found;
    idle();
    draw();
  }

  const queue = new Queue($(".queue", tab), async ({ file, name }) => {
    const key = Photos.key(file, name);
    opened.set(key, file);
    if (photos.all.has(key)) return;
    try {
      await photos.put({ key, name, ...(await engine.image(file)) });
    } catch (error) {
      fail(tab, { file, name }, error);
    }
    if (queue.items.length % 20 === 0) draw();
  });

  photos.width = manifest.embedding_dim;
  if (manifest.classes) {
    const select = make("select", { id: "query" }, new Option("Choose a class", ""), ...manifest.classes.map((name) => new Option(name)));
    field.replaceWith(select);
    field = select;
  }
  let timer;
  field.oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => ask().catch((error) => say(error.message)), 250);
  };
  draw();
  // A folder holds other things, too; what is no picture there is nobody's mistake.
  return { add: (items) => queue.add(items.filter(isPicture)).then(draw) };
}
