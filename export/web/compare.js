// Pictures against sentences, or against the classes that the site came with.

import { $, fail, make, say } from "./dom.js";
import { Queue, isPicture } from "./files.js";
import { score } from "./scores.js";

const MOST = 8; // bars of a picture

/** Fills the tab; returns a function that takes [{file, name}]. */
export function showCompare(manifest, engine, ready) {
  const tab = $("#compare"), cards = $(".cards", tab), field = $("#sentences");
  const known = new Map(), pictures = new Set();
  let sentences = [], vectors = [], round = 0, timer;

  async function read() {
    const mine = ++round;
    const lines = [...new Set(field.value.split("\n").map((line) => line.trim()).filter(Boolean))];
    cards.ariaBusy = true;
    for (const line of lines) {
      if (!known.has(line)) known.set(line, await engine.text(line));
      if (mine !== round) return; // typed on meanwhile
    }
    [sentences, vectors] = [lines, lines.map((line) => known.get(line))];
    cards.ariaBusy = false;
    ready();
    pictures.forEach(draw);
    tell([...pictures].at(-1));
  }

  function draw({ bars, embedding }) {
    const scores = score(embedding, vectors, manifest);
    const order = scores.map((_, i) => i).sort((a, b) => scores[b].among - scores[a].among);
    // In the order typed, since bars that jump cannot be followed; of many only the best.
    const shown = order.length > MOST ? order.slice(0, MOST) : order.toSorted((a, b) => a - b);
    bars.replaceChildren(...shown.map((i) => bar(sentences[i], scores[i], i === order[0])));
  }

  function tell(picture) {
    const best = picture && $(".best", picture.bars);
    if (best) say(`${picture.name}: ${best.innerText.replace(/\s+/g, " ")}`);
  }

  function add(name, { embedding, thumbnail }) {
    const src = URL.createObjectURL(thumbnail), picture = { name, embedding, bars: make("ol") };
    const remove = make("button", { textContent: "×", ariaLabel: `Remove ${name}` });
    const card = make("li", {}, make("img", { src, alt: "" }), make("h2", { textContent: name, title: name }), remove, picture.bars);
    remove.onclick = () => {
      URL.revokeObjectURL(src);
      pictures.delete(picture);
      $("button", card.nextSibling ?? card.previousSibling ?? tab).focus();
      card.remove();
    };
    pictures.add(picture);
    cards.prepend(card);
    draw(picture);
    tell(picture);
  }

  const wrong = (error) => say(($("#status span").textContent = `The text tower could not be used: ${error.message}.`));
  const queue = new Queue($(".queue", tab), async (item) => {
    try {
      if (!isPicture(item)) throw new Error("not a picture");
      add(item.name, await engine.image(item.file));
    } catch (error) {
      fail(tab, item, error);
    }
  });
  const take = (items) => {
    queue.add(items);
    // Not before there is a picture: the text tower is the larger half of most models.
    if (!manifest.classes && !round) read().catch(wrong);
  };

  const { bias, classes, examples } = manifest, these = classes ? "classes" : "sentences";
  $("#meaning").textContent = bias === null
    ? `Percentages compare the ${these} with each other: for every picture they add up to 100 % among these ${these}, even if none of them fits.`
    : `“match” is how likely a picture and one of the ${these} belong together, whatever the others are. “among these” compares them with each other.`;
  field.value = (classes ?? examples.texts).join("\n");
  field.oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => read().catch(wrong), 250);
  };
  if (classes) {
    field.readOnly = true;
    $(".lede span").textContent = "What is in a picture?";
    $("label", tab).textContent = `${classes.length.toLocaleString()} classes`;
    engine.ready.then((answer) => ([sentences, vectors] = [classes, answer.classes]), () => {});
  }
  $(".examples", tab).hidden = !examples.images.length;
  for (const src of examples.images) {
    const name = src.split("/").at(-1);
    const button = make("button", { ariaLabel: `Try ${name}` }, make("img", { src, alt: "" }));
    button.onclick = async () => {
      const blob = await (await fetch(src)).blob();
      take([{ file: new File([blob], name, { type: blob.type }), name }]);
    };
    $(".examples", tab).append(button);
  }
  return take;
}

function bar(sentence, { among, match }, best) {
  const percent = (x) => x.toLocaleString(undefined, { style: "percent", maximumFractionDigits: 1 });
  const number = match === null ? percent(among) : `match ${percent(match)}`, fill = make("i", {}, make("i"));
  fill.firstChild.style.width = `${100 * (match ?? among)}%`;
  const item = make("li", { className: best ? "best" : "" }, make("span", { dir: "auto", lang: "", textContent: sentence }), make("b", {}, number), fill);
  if (match !== null) item.append(make("small", {}, `${percent(among)} among these`));
  return item;
}
