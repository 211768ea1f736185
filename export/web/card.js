// A picture's card: what it waits for, then a bar for every sentence.

import { $, button, cross, make, percent, photo, similar } from "./dom.js";

const MOST = 8; // bars, until a person asks for all

export class Card {
  #bars = make("ol");
  #note = make("p", { className: "note" });
  #more = button("", () => this.#showAll());
  #all = false;

  // `actions` are what its buttons do, {save, remove}.
  constructor(name, { save, remove }) {
    const saving = button("⤓", save, `Save ${name} as a picture`);
    this.element = make("li", {}, make("div", { className: "frame" }), make("h2", {}, name), this.#note,
      this.#bars, this.#more, saving, cross(`Remove ${name}`, remove));
    this.#more.className = "show-all";
    this.#more.hidden = true;
    saving.hidden = true;
    this.saving = saving;
  }

  wait(text) {
    this.#note.textContent = text;
  }

  // Shows the picture, and how long it took.
  fill({ thumbnail, ms }) {
    $(".frame", this.element).replaceWith(photo(thumbnail));
    this.ms = `${Math.round(ms).toLocaleString()} ms`;
    this.wait("Waiting for the sentences");
  }

  // `lines` are [{sentence, cut, among, match, cosine}] in the order typed.
  draw(lines) {
    this.#lines = lines;
    this.wait(this.ms);
    this.saving.hidden = !lines.length;
    const order = [...lines].sort((a, b) => b.cosine - a.cosine);
    // In the order typed, since bars that jump cannot be followed; of many only the best.
    this.shown = lines.length <= MOST ? lines : this.#all ? order : order.slice(0, MOST);
    this.best = order[0];
    this.#bars.replaceChildren(...this.shown.map((line) => bar(line, line === this.best, lines.length === 1)));
    this.#more.hidden = lines.length <= MOST;
    this.#more.textContent = this.#all ? `Show the best ${MOST}` : `${MOST} of ${lines.length}: show all`;
  }

  // The best sentence in words.
  get said() {
    const best = $(".best", this.#bars);
    return best ? Array.from(best.children, (part) => part.textContent).join(" ") : "";
  }

  #lines = [];

  #showAll() {
    this.#all = !this.#all;
    this.draw(this.#lines);
  }
}

// Returns [the number that a bar shows, its words, more words]. One sentence alone has no percentage.
export function inWords({ among, match, cosine }, alone) {
  const similarity = `similarity ${similar(cosine)}`;
  if (match !== null) return [match, `match ${percent(match)}`, `${percent(among)} among these`];
  return alone ? [Math.max(cosine, 0), similarity, ""] : [among, percent(among), similarity];
}

function bar(line, best, alone) {
  const [value, number, more] = inWords(line, alone);
  return make("li", { className: best ? "best" : "" },
    make("span", { dir: "auto", lang: "", textContent: line.sentence }),
    make("b", {}, number),
    make("progress", { value, ariaHidden: true }),
    make("small", {}, more),
    ...(line.cut ? [make("em", {}, cutNote(line.cut))] : []));
}

export const cutNote = (tokens) => `cut: the model reads its first ${tokens} tokens`;
