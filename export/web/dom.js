// Elements of the page.

export const $ = (selector, within = document) => within.querySelector(selector);

/** Returns a new element with properties and children. */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Tells those who listen to the page. */
export const say = (text) => ($("#said").textContent = text);

/** Adds a file that could not be read to a tab's list. */
export function fail(tab, { file, name }, error) {
  const heic = /\.hei[cf]$/i.test(name) || /hei[cf]/.test(file.type);
  const decoder = ["InvalidStateError", "EncodingError"].includes(error.name) || /PNG|decode/i.test(error.message);
  const why = heic ? "this browser cannot read HEIC. Save the picture as JPEG first"
    : decoder ? "not a picture that this browser can read; the file may be damaged" : error.message;
  const close = make("button", { textContent: "×", ariaLabel: `Dismiss ${name}` });
  const line = make("li", {}, `${name}: ${why}.`, close);
  close.onclick = () => line.remove();
  $(".errors", tab).append(line);
  say(line.textContent);
}
