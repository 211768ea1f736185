// Starts the page: manifest, service worker, model, the two tabs.

import { showCompare } from "./compare.js";
import { Engine } from "./engine.js";
import { picked, transferred } from "./files.js";
import { showSearch } from "./search.js";

export const $ = (selector, within = document) => within.querySelector(selector);

/** Returns a new element with attributes and children. */
export function make(name, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...children);
  return element;
}

/** Tells a person who listens to the page. */
export const say = (text) => ($("#said").textContent = text);

const megabytes = (bytes) => (bytes / 1e6).toLocaleString(undefined, { maximumFractionDigits: bytes < 1e7 ? 1 : 0 });

function status(text, error = false) {
  $("#status span").textContent = text;
  $("#status").classList.toggle("error", error);
}

/** Shows how much of a file has come. */
function progress(manifest, { path, bytes }) {
  const all = manifest.files[path].bytes, bar = $("#status progress");
  bar.hidden = bytes === all;
  [bar.max, bar.value] = [all, bytes];
  const what = path.includes("text") ? "text tower" : path.includes("image") ? "model" : "vocabulary";
  status(bytes < all ? `Loading the ${what}: ${megabytes(bytes)} of ${megabytes(all)} MB` : `Starting the ${what}`);
}

/** Waits until the service worker serves this page, which then works offline and with threads. */
async function served() {
  if (!navigator.serviceWorker) return; // plain HTTP
  const registration = await navigator.serviceWorker.register("sw.js").catch(() => null);
  if (!registration) return; // a private window
  const had = navigator.serviceWorker.controller;
  const controlled = new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve));
  if (!had) await Promise.race([controlled, new Promise((resolve) => setTimeout(resolve, 10000))]);
  if (!crossOriginIsolated && navigator.serviceWorker.controller && !sessionStorage.reloaded) {
    sessionStorage.reloaded = "once, for the headers that the service worker adds";
    location.reload();
    await new Promise(() => {});
  }
  const offer = () => {
    if (!registration.waiting || !navigator.serviceWorker.controller) return;
    $("#update").hidden = false;
    $("#update button").onclick = () => {
      navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
      registration.waiting.postMessage("take over");
    };
  };
  offer();
  registration.addEventListener("updatefound", () => registration.installing.addEventListener("statechange", offer));
}

function showTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const select = (tab) => {
    for (const other of tabs) {
      other.ariaSelected = other === tab;
      other.tabIndex = other === tab ? 0 : -1;
      $(`#${other.getAttribute("aria-controls")}`).hidden = other !== tab;
    }
  };
  for (const tab of tabs) {
    tab.onclick = () => select(tab);
    tab.onkeydown = ({ key }) => {
      if (key !== "ArrowLeft" && key !== "ArrowRight") return;
      const other = tabs[1 - tabs.indexOf(tab)];
      select(other);
      other.focus();
    };
  }
}

/** Sends whatever is picked, dropped or pasted to the tab that is shown. */
function takeFiles(views) {
  const shown = () => views[$("#search").hidden ? "compare" : "search"];
  for (const input of document.querySelectorAll("input[type=file]")) {
    input.previousElementSibling.onclick = () => input.click();
    input.onchange = () => {
      shown().add(picked(input));
      input.value = "";
    };
  }
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  };
  document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove("dragging");
  document.ondrop = async (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    shown().add(await transferred(event.dataTransfer));
  };
  document.onpaste = async (event) => {
    if (!event.clipboardData.files.length) return; // text, for the field that has the focus
    event.preventDefault();
    shown().add(await transferred(event.clipboardData));
  };
}

function about(manifest, { threads }) {
  const { files, model, resolution, temperature, bias, quantization, templates } = manifest;
  const size = (path) => files[path] && `${megabytes(files[path].bytes)} MB`;
  const rows = {
    Model: model,
    "Image tower": `${size("model/image_encoder.tflite")}, ${resolution} × ${resolution} pixels, weights ${quantization}`,
    "Text tower": size("model/text_encoder.tflite"),
    Temperature: `${temperature.toPrecision(4)}: similarities are multiplied by it before they are compared`,
    Bias: bias === null ? "" : `${bias.toPrecision(4)}, added before the sigmoid that gives the match`,
    Prompts: templates?.join(" · "),
    Threads: threads ? navigator.hardwareConcurrency : 1,
    "Self-test": "passed",
  };
  for (const [name, value] of Object.entries(rows)) {
    if (value) $("dl").append(make("dt", {}, name), make("dd", {}, String(value)));
  }
}

async function start() {
  showTabs();
  $("#host").textContent = location.host;
  const response = await fetch("lit_manifest.json");
  if (!response.ok) throw new Error(`lit_manifest.json: the server answered ${response.status}`);
  const manifest = await response.json();
  document.title = $("h1").textContent = manifest.model;
  await served();
  const engine = new Engine(manifest, (file) => progress(manifest, file));
  const idle = () => status("Ready");
  takeFiles({ compare: showCompare(manifest, engine, idle), search: await showSearch(manifest, engine, idle) });
  about(manifest, await engine.ready);
  idle();
}

start().catch((error) => {
  $("#status progress").hidden = true;
  status(`The model could not be started: ${error.message}.`, true);
});
