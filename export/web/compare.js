// Pictures against sentences, or against the classes that the site came with.

import { Card } from "./card.js";
import { $, button, make, save, say } from "./dom.js";
import { get } from "./fetching.js";
import { copyLink, makeLink, readLink } from "./link.js";
import { toPicture } from "./picture.js";
import { makeQueue, withoutOthers } from "./queue.js";
import { score } from "./scores.js";
import { makeSentences } from "./sentences.js";
import { drawTable, toCsv } from "./table.js";

const PAGE = new URL("./", import.meta.url).href;

// Fills the tab; returns {take: takes [{file, name}], first: shows an example}.
export function showCompare(manifest, engine) {
  const { classes, examples } = manifest;
  const tab = $("#compare"), cards = $(".cards", tab), field = $("#sentences"), table = $(".table", tab);
  const link = readLink();
  let pictures = []; // the newest first

  if (link.texts !== null && !classes && field.value === field.defaultValue) field.value = link.texts;
  const sentences = makeSentences(manifest, engine, () => {
    pictures.forEach(draw);
    drawAll();
  });
  const queue = makeQueue(tab, work, drop);

  async function work(picture) {
    await engine.opened();
    if (!pictures.includes(picture)) return;
    picture.card.wait("Being read");
    picture.file ??= await get(picture.url, (response) => response.blob());
    const answer = await engine.image(picture.file);
    picture.embedding = answer.embedding;
    picture.card.fill(answer);
    draw(picture);
    drawAll();
  }

  function draw({ name, card, embedding }) {
    if (!embedding || !sentences.lines.length) return;
    card.draw(linesOf(embedding));
    say(`${name}: ${card.said}`);
  }

  function linesOf(embedding) {
    const known = sentences.lines.map((line) => sentences.vectors.get(line));
    const scores = score(embedding, known.map((text) => text.embedding), manifest);
    return scores.map((line, i) => ({ ...line, sentence: sentences.lines[i], cut: known[i].cut }));
  }

  const rows = () =>
    pictures.filter(({ embedding }) => embedding)
      .map(({ name, embedding }) => ({ name, lines: linesOf(embedding) }));

  function drawAll() {
    $(".tools", tab).hidden = !pictures.length;
    if (!table.hidden) drawTable(table, rows());
  }

  function drop(picture) {
    pictures = pictures.filter((each) => each !== picture);
    picture.card.element.remove();
    drawAll();
  }

  function add({ file, name, url }) {
    const picture = { file, name, url };
    const remove = () => {
      const { nextSibling, previousSibling } = picture.card.element;
      drop(picture);
      $("button:not([hidden])", nextSibling ?? previousSibling ?? tab).focus();
    };
    const keep = async () => {
      const { shown, best } = picture.card, photo = await engine.small(picture.file, 1200);
      save(await toPicture(photo, name, manifest.page.title, shown, best), `${name}.png`);
    };
    picture.card = new Card(name, { save: keep, remove });
    picture.card.wait("Waiting for the model");
    pictures.unshift(picture);
    cards.prepend(picture.card.element);
    return picture;
  }

  function take(items) {
    const added = withoutOthers(items).map(add);
    drawAll();
    // Sentences wait for the first picture: the text tower is the larger half of most models.
    if (!sentences.started) sentences.read();
    return queue.add(added);
  }

  // Shows an example, or brings it to the front. Numbers begin with 1.
  function show(number) {
    const { name, file } = examples.images[number - 1], url = PAGE + file;
    const shown = pictures.find((picture) => picture.url === url);
    if (!shown) return take([{ name, url }]);
    pictures = [shown, ...pictures.filter((picture) => picture !== shown)];
    cards.prepend(shown.card.element);
  }

  const exists = (number) => number >= 1 && number <= examples.images.length;

  function follow() {
    const { texts, example } = readLink();
    if (texts !== null && !classes) {
      field.value = texts;
      sentences.read();
    }
    if (exists(example)) show(example);
  }

  function toggle({ target }) {
    table.hidden = !table.hidden;
    cards.hidden = !table.hidden;
    target.ariaPressed = !table.hidden;
    drawAll();
  }

  function clear() {
    queue.clear();
    pictures.forEach(drop);
    $(".errors", tab).replaceChildren();
    $("button", tab).focus();
  }

  $("#meaning").textContent = manifest.meaning;
  if (classes) {
    field.readOnly = true;
    $("label", tab).textContent = `${classes.length.toLocaleString()} classes`;
    $("#link").textContent = "Copy a link to this picture";
  }
  $("#link").onclick = () => {
    const example = examples.images.findIndex(({ file }) => PAGE + file === pictures[0]?.url) + 1;
    copyLink(makeLink(classes ? null : field.value, example));
  };
  $("#as-table").onclick = toggle;
  $("#csv").onclick = () => save(toCsv(rows()), `${manifest.page.title}.csv`);
  $("#remove-all").onclick = clear;
  addEventListener("hashchange", follow);
  $(".examples", tab).hidden = !examples.images.length;
  examples.images.forEach(({ name, file }, i) => {
    const image = make("img", { src: PAGE + file, alt: "" });
    const choice = button("", () => show(i + 1), `Try ${name}`);
    choice.append(image);
    $(".examples", tab).append(choice);
  });
  const first = () => examples.images.length && show(exists(link.example) ? link.example : 1);
  return { take, first };
}
