// Pictures against sentences, or against the classes that the site came with.

import { Queue, isPicture, reason } from "./files.js";
import { $, make, say } from "./main.js";
import { score } from "./scores.js";

const MOST = 8; // bars of a picture

/** Fills the tab; returns {add([{file, name}])}. */
export function showCompare(manifest, engine, idle) {
  const tab = $("#compare"), cards = $(".cards", tab), field = $("#sentences");
  const embeddings = new Map(), pictures = [];
  let sentences = [], vectors = [], round = 0;

  async function read() {
    const mine = ++round;
    const lines = [...new Set(field.value.split("\n").map((line) => line.trim()).filter(Boolean))];
    cards.ariaBusy = true;
    for (const line of lines) {
      if (!embeddings.has(line)) embeddings.set(line, await engine.text(line));
      if (mine !== round) return; // typed on meanwhile
    }
    [sentences, vectors] = [lines, lines.map((line) => embeddings.get(line))];
    cards.ariaBusy = false;
    idle();
    pictures.forEach(draw);
    tell(pictures.at(-1));
  }

  function draw({ bars, embedding }) {
    const scores = score(embedding, vectors, manifest);
    const order = scores.map((_, i) => i).sort((a, b) => scores[b].among - scores[a].among);
    // In the order typed, since bars that jump cannot be followed; of many only the best.
    const shown = order.length > MOST ? order.slice(0, MOST) : order.slice().sort((a, b) => a - b);
    bars.replaceChildren(...shown.map((i) => bar(sentences[i], scores[i], i === order[0])));
  }

  function tell(picture) {
    const best = picture && $(".best", picture.bars);
    if (best) say(`${picture.name}: ${best.innerText.replace(/\s+/g, " ")}`);
  }

  function add({ file, name }, { embedding, thumbnail }) {
    const url = URL.createObjectURL(thumbnail);
    const bars = make("ol");
    const remove = make("button", { textContent: "×", ariaLabel: `Remove ${name}`, title: "Remove" });
    const card = make("li", {}, make("img", { src: url, alt: "" }), make("h2", { textContent: name, title: name }), remove, bars);
    const picture = { name, embedding, bars };
    remove.onclick = () => {
      URL.revokeObjectURL(url);
      pictures.splice(pictures.indexOf(picture), 1);
      (($("button", card.nextSibling ?? card.previousSibling ?? tab)) ?? field).focus();
      card.remove();
    };
    pictures.push(picture);
    cards.prepend(card);
    draw(picture);
    tell(picture);
  }

  const queue = new Queue($(".queue", tab), async (item) => {
    try {
      if (!isPicture(item)) throw new Error("not a picture");
      add(item, await engine.image(item.file));
    } catch (error) {
      fail(tab, item, error);
    }
  });

  showMeaning(manifest);
  // Not before a picture is there: the text tower is the larger half of most models.
  let first = () => {};
  const view = { add: (items) => (queue.add(items), first()) };
  showExamples(manifest, tab, view);
  if (manifest.classes) {
    sentences = manifest.classes;
    $("label", tab).replaceChildren(`${sentences.length.toLocaleString()} classes`);
    field.value = sentences.join("\n");
    field.readOnly = true;
    engine.ready.then(({ classes }) => {
      const width = classes.length / sentences.length;
      vectors = sentences.map((_, i) => classes.subarray(i * width, (i + 1) * width));
    }, () => {});
  } else {
    field.value = manifest.examples.texts.join("\n");
    let timer;
    const fail = (error) => say((field.title = `The text tower: ${error.message}`));
    field.oninput = () => {
      clearTimeout(timer);
      timer = setTimeout(() => read().catch(fail), 250);
    };
    first = () => round || read().catch(fail);
  }
  return view;
}

function bar(sentence, { among, match }, best) {
  const percent = (x) => x.toLocaleString(undefined, { style: "percent", maximumFractionDigits: 1 });
  const number = match === null ? percent(among) : `match ${percent(match)}`;
  const fill = make("i");
  fill.style.width = `${100 * (match ?? among)}%`;
  const item = make("li", { className: best ? "best" : "" }, make("span", { dir: "auto", lang: "", textContent: sentence }), make("b", {}, number), fill);
  if (match !== null) item.append(make("small", {}, `${percent(among)} among these`));
  return item;
}

function showMeaning({ bias, classes }) {
  const these = classes ? "classes" : "sentences";
  $("#meaning").textContent = bias === null
    ? `Percentages compare the ${these} with each other: for every picture they add up to 100 % among these ${these}, also if none of them fits.`
    : `“match” is how likely a picture and one of the ${these} belong together, whatever the others are. “among these” compares them with each other.`;
}

/** Adds a line to the list of files that could not be read. */
export function fail(tab, item, error) {
  const text = reason(item, error), close = make("button", { textContent: "×", ariaLabel: "Dismiss" });
  const line = make("li", {}, text, close);
  close.onclick = () => line.remove();
  $(".errors", tab).append(line);
  say(text);
}

function showExamples({ examples }, tab, view) {
  const box = $(".examples", tab);
  box.hidden = !examples.images.length;
  for (const path of examples.images) {
    const name = path.split("/").at(-1);
    const button = make("button", { ariaLabel: name, title: name }, make("img", { src: path, alt: "" }));
    button.onclick = async () => {
      const blob = await (await fetch(path)).blob();
      view.add([{ file: new File([blob], name, { type: blob.type }), name }]);
    };
    box.append(button);
  }
}
