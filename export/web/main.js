// Starts the page: service worker, model, tabs.

import { showCompare } from "./compare.js";
import { $, make, sleep, status } from "./dom.js";
import { Engine } from "./engine.js";
import { dropped, picked } from "./files.js";
import { showSearch } from "./search.js";

// Waits until the service worker serves this page, which then works offline and with threads.
async function served() {
  const worker = navigator.serviceWorker; // none over plain HTTP, or in some private windows
  if (!(await worker?.register("sw.js").catch(() => null))) return;
  for (let i = 0; i < 90 && !worker.controller; i++) await sleep(100);
  if (crossOriginIsolated || !worker.controller || sessionStorage.reloaded) return;
  sessionStorage.reloaded = true; // once, for the headers that it adds
  location.reload();
  await new Promise(() => {});
}

function showTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const select = (tab) => {
    for (const each of tabs) {
      Object.assign(each, { ariaSelected: each === tab, tabIndex: each === tab ? 0 : -1 });
      $(`[aria-labelledby=${each.id}]`).hidden = each !== tab;
    }
    tab.focus();
  };
  tabs.forEach((tab, i) => {
    tab.onclick = () => select(tab);
    tab.onkeydown = ({ key }) => key.match(/^Arrow(Left|Right)$/) && select(tabs[1 - i]);
  });
}

// Sends what is picked, dropped or pasted to the tab that is shown.
function takeFiles(compare, search) {
  const add = (items) => ($("#search").hidden ? compare : search)(items);
  for (const input of document.querySelectorAll("[type=file]")) {
    input.previousElementSibling.onclick = () => input.click();
    input.onchange = () => {
      add(picked(input));
      input.value = "";
    };
  }
  document.ondragover = document.ondragleave = document.ondrop = async (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", event.type === "dragover");
    if (event.type === "drop") add(await dropped(event.dataTransfer));
  };
  document.onpaste = ({ clipboardData }) => clipboardData.files.length && add(picked(clipboardData));
}

async function start() {
  showTabs();
  $("#host").textContent = location.host;
  await served();
  const manifest = await (await fetch("lit_manifest.json")).json();
  document.title = $("h1").textContent = manifest.model;
  const engine = new Engine(manifest, ({ at, bytes }) => {
    const [done, all] = [at, bytes].map((size) => (size / 1e6).toFixed(1));
    status(`Loading the model: ${done} of ${all} MB`, at / bytes);
  });
  takeFiles(showCompare(manifest, engine), await showSearch(manifest, engine));
  await engine.ready;
  const threads = crossOriginIsolated ? "several threads" : "one thread";
  const facts = { ...manifest.about, "Self-test": `passed, with ${threads}` };
  for (const fact in facts) $("dl").append(make("dt", {}, fact), make("dd", {}, facts[fact]));
  status("Ready");
}

start().catch(({ message }) => {
  $("#status").className = "error";
  status(`The model could not be started: ${message}.`);
});
