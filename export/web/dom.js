// Elements of the page.

export const $ = (selector, within = document) => within.querySelector(selector);

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export const cross = (ariaLabel, onclick) => make("button", { textContent: "×", ariaLabel, onclick });

// Returns an image of a blob, whose address is given back once it is shown.
export function photo(blob) {
  const src = URL.createObjectURL(blob);
  return make("img", { src, alt: "", onload: () => URL.revokeObjectURL(src) });
}

export const tile = (image, name, ...more) => make("li", {}, image, make("h2", {}, name), ...more);

// Says what the model is doing, and which part of it is done.
export function status(text, part = 1) {
  $("#status span").textContent = text;
  Object.assign($("#status progress"), { value: part, hidden: part === 1 });
}

// Tells those who listen.
export const say = (text) => ($("#said").textContent = text);
