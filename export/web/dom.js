// Elements of the page.

export const $ = (selector, within = document) => within.querySelector(selector);

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export const button = (textContent, onclick, ariaLabel = null) =>
  make("button", { textContent, onclick, ariaLabel });

export const cross = (ariaLabel, onclick) => button("×", onclick, ariaLabel);

// Returns an image of a blob, whose address is given back once it is shown.
export function photo(blob) {
  const src = URL.createObjectURL(blob);
  return make("img", { src, alt: "", onload: () => URL.revokeObjectURL(src) });
}

export const percent = (x) => `${(100 * x).toFixed(1)} %`;

export const similar = (cosine) => cosine.toFixed(3).replace("-0.000", "0.000");

// Says what the model is doing, and which part of it is done: null if nobody knows. `again` is what
// to do when a person asks for another try.
export function status(text, part = 1, again = null) {
  const [span, bar, retry] = $("#status").children;
  span.textContent = text;
  bar.hidden = part === 1;
  if (part === null) bar.removeAttribute("value");
  else bar.value = part;
  Object.assign(retry, { hidden: !again, onclick: again });
  $("#status").className = again ? "error" : "";
}

let running = 0;
const faults = new Map(); // {what failed: what to say and to do}

// Runs something that the page waits for. Once nothing runs any more, the page is ready. What failed
// may be tried again.
export async function working(work, failed) {
  running += 1;
  faults.delete(failed);
  try {
    await work();
  } catch ({ message }) {
    const again = () => {
      status("Trying again", null);
      working(work, failed);
    };
    faults.set(failed, [`${failed}: ${message}.`, 1, again]);
  }
  running -= 1;
  const [fault] = faults.values();
  if (fault) status(...fault);
  else if (!running) status("Ready");
}

// Tells those who listen.
export const say = (text) => ($("#said").textContent = text);

// Hands a file to the person: through the share sheet on a phone, else as a download.
export async function save(blob, name) {
  const file = new File([blob], name, { type: blob.type });
  if (matchMedia("(pointer: coarse)").matches && navigator.canShare?.({ files: [file] })) {
    await navigator.share({ files: [file] }).catch(() => {}); // closed again
    return;
  }
  const href = URL.createObjectURL(blob);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
