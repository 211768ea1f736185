// Links that carry sentences and an example. They stand after #, which no browser sends to a server.

import { $, make, say, sleep } from "./dom.js";

// Returns {texts: lines or null, example: number from 1, or 0} of the page's address.
export function readLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  return { texts: given.get("texts"), example: Number(given.get("example")) || 0 };
}

// Returns the page's address with sentences and an example in it; either may be missing.
export function makeLink(texts, example) {
  const given = new URLSearchParams();
  if (texts) given.set("texts", texts);
  if (example) given.set("example", example);
  return `${location.href.split("#")[0]}#${given}`;
}

// Copies a link, and shows it in the address bar.
export async function copyLink(link) {
  history.replaceState(history.state, "", link);
  const button = $("#link"), before = button.textContent;
  try {
    await navigator.clipboard.writeText(link); // not over plain HTTP
  } catch {
    const field = make("textarea", { value: link });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.textContent = "Copied";
  say("The link is copied");
  await sleep(2000);
  button.textContent = before;
}
