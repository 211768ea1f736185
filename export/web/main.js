// Starts the page: service worker, model, tabs.

import { showCompare } from "./compare.js";
import { $, make } from "./dom.js";
import { Engine } from "./engine.js";
import { picked, transferred } from "./files.js";
import { showSearch } from "./search.js";

const megabytes = (bytes) => `${(bytes / 1e6).toLocaleString(undefined, { maximumFractionDigits: bytes < 1e7 ? 1 : 0 })} MB`;

function status(text, part = 1) {
  $("#status span").textContent = text;
  Object.assign($("#status progress"), { value: part, hidden: part === 1 });
}

/** Waits until the service worker serves this page, which then works offline and with threads. */
async function served() {
  const worker = navigator.serviceWorker; // there is none over plain HTTP, or in some private windows
  if (!(await worker?.register("sw.js").catch(() => null))) return;
  const taken = new Promise((resolve) => (worker.oncontrollerchange = resolve));
  if (!worker.controller) await Promise.race([taken, new Promise((resolve) => setTimeout(resolve, 9000))]);
  if (crossOriginIsolated || !worker.controller || sessionStorage.reloaded) return;
  sessionStorage.reloaded = true; // once, for the headers that the service worker adds
  location.reload();
  await new Promise(() => {});
}

function showTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const select = (tab) => {
    for (const each of tabs) {
      Object.assign(each, { ariaSelected: each === tab, tabIndex: each === tab ? 0 : -1 });
      $(`#${each.getAttribute("aria-controls")}`).hidden = each !== tab;
    }
    tab.focus();
  };
  tabs.forEach((tab, i) => {
    tab.onclick = () => select(tab);
    tab.onkeydown = ({ key }) => key.match(/^Arrow(Left|Right)$/) && select(tabs[1 - i]);
  });
}

/** Sends what is picked, dropped or pasted to the tab that is shown. */
function takeFiles(compare, search) {
  const add = (items) => ($("#search").hidden ? compare : search)(items);
  for (const input of document.querySelectorAll("[type=file]")) {
    input.previousElementSibling.onclick = () => input.click();
    input.onchange = () => {
      add(picked(input));
      input.value = "";
    };
  }
  const { classList } = document.body;
  document.ondragover = (event) => (event.preventDefault(), classList.add("dragging"));
  document.ondragleave = ({ relatedTarget }) => relatedTarget || classList.remove("dragging");
  document.ondrop = async (event) => {
    event.preventDefault();
    classList.remove("dragging");
    add(await transferred(event.dataTransfer));
  };
  document.onpaste = ({ clipboardData }) => clipboardData.files.length && add(picked(clipboardData));
}

function about({ files, resolution, temperature, bias, quantization, templates, versions }, { threads }) {
  const size = (tower) => megabytes(files[`model/${tower}_encoder.tflite`].bytes);
  const rows = {
    "Image tower": `${size("image")}, ${resolution} × ${resolution} pixels, ${quantization}`,
    "Text tower": templates ? "none: the classes are built in" : size("text"),
    Prompts: templates?.join(" · "),
    Temperature: `${temperature.toPrecision(4)}, by which similarities are multiplied`,
    Bias: bias && `${bias.toPrecision(4)}, added before the sigmoid that gives “match”`,
    "Self-test": `passed, with ${threads} thread${threads > 1 ? "s" : ""}`,
    "Written by": `lit_tf ${versions.lit_tf}`,
  };
  for (const [name, value] of Object.entries(rows)) value && $("dl").append(make("dt", {}, name), make("dd", {}, value));
}

async function start() {
  showTabs();
  $("#host").textContent = location.host;
  await served();
  const manifest = await (await fetch("lit_manifest.json")).json();
  document.title = $("h1").textContent = manifest.model;
  const engine = new Engine(manifest, ({ path, bytes }) => {
    const what = { image: "model", text_: "text tower" }[path.match(/image|text_|$/)[0]] ?? "vocabulary", all = manifest.files[path].bytes;
    status(bytes < all ? `Loading the ${what}: ${megabytes(bytes)} of ${megabytes(all)}` : `Starting the ${what}`, bytes / all);
  });
  const ready = () => status("Ready");
  takeFiles(showCompare(manifest, engine, ready), await showSearch(manifest, engine, ready));
  about(manifest, await engine.ready);
  ready();
}

start().catch((error) => {
  $("#status").className = "error";
  status(`The model could not be started: ${error.message}.`);
});
