// Pictures against sentences, or against the classes that the site came with.

import { $, cross, make, photo, say, sleep, status, tile } from "./dom.js";
import { makeQueue } from "./files.js";
import { score } from "./scores.js";

const MOST = 8; // bars of a picture

// Fills the tab; returns a function that takes [{file, name}].
export function showCompare(manifest, engine) {
  const { classes, examples } = manifest;
  const tab = $("#compare"), cards = $(".cards", tab), field = $("#sentences");
  const vectors = new Map(), pictures = new Set();
  let sentences = [];

  async function read() {
    const typed = field.value, typedOn = () => field.value !== typed;
    cards.ariaBusy = true;
    await sleep(250);
    const lines = classes ?? typed.split("\n").map((line) => line.trim()).filter(Boolean);
    for (const line of lines) {
      if (typedOn()) return;
      if (!vectors.has(line)) vectors.set(line, await engine.text(line));
    }
    if (typedOn()) return;
    sentences = [...new Set(lines)];
    cards.ariaBusy = false;
    status("Ready");
    pictures.forEach(draw);
  }

  const update = () =>
    read().catch(({ message }) => status(`The sentences could not be read: ${message}.`));

  function draw({ name, bars, embedding }) {
    const scores = score(embedding, sentences.map((line) => vectors.get(line)), manifest);
    const order = scores.map((_, i) => i).sort((a, b) => scores[b].among - scores[a].among);
    // In the order typed, since bars that jump cannot be followed; of many only the best.
    const shown = order.length > MOST ? order.slice(0, MOST) : order.toSorted((a, b) => a - b);
    bars.replaceChildren(...shown.map((i) => bar(sentences[i], scores[i], i === order[0])));
    const best = $(".best", bars);
    if (best) say(`${name}: ${Array.from(best.children, (part) => part.textContent).join(" ")}`);
  }

  const enqueue = makeQueue(tab, async ({ file, name }) => {
    const { embedding, thumbnail } = await engine.image(file);
    const picture = { name, embedding, bars: make("ol") };
    const remove = cross(`Remove ${name}`, () => {
      pictures.delete(picture);
      $("button", card.nextSibling ?? card.previousSibling ?? tab).focus();
      card.remove();
    });
    const card = tile(photo(thumbnail), name, remove, picture.bars);
    pictures.add(picture);
    cards.prepend(card);
    draw(picture);
  });
  const take = (items) => {
    enqueue(items);
    // Sentences wait for the first picture: the text tower is the larger half of most models.
    if (cards.ariaBusy === null) update();
  };

  $("#meaning").textContent = manifest.meaning;
  field.value = (classes ?? examples.texts).join("\n");
  field.oninput = update;
  if (classes) {
    field.readOnly = true;
    $(".lede span").textContent = "What is in a picture?";
    $("label", tab).textContent = `${classes.length.toLocaleString()} classes`;
  }
  $(".examples", tab).hidden = !examples.images.length;
  for (const src of examples.images) {
    const name = src.split("/").at(-1);
    const onclick = async () => take([{ file: await (await fetch(src)).blob(), name }]);
    const button = make("button", { ariaLabel: `Try ${name}`, onclick }, make("img", { src, alt: "" }));
    $(".examples", tab).append(button);
  }
  return take;
}

function bar(sentence, { among, match }, best) {
  const percent = (x) => `${(100 * x).toFixed(1)} %`;
  const [number, more] = match === null ? [among, ""] : [match, `${percent(among)} among these`];
  return make("li", { className: best ? "best" : "" },
    make("span", { dir: "auto", lang: "", textContent: sentence }),
    make("b", {}, `${more && "match "}${percent(number)}`),
    make("progress", { value: number, ariaHidden: true }), make("small", {}, more));
}
