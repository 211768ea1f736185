// Starts the page: service worker, model, tabs.

import { showCompare } from "./compare.js";
import { $, make, status, working } from "./dom.js";
import { Engine } from "./engine.js";
import { get } from "./fetching.js";
import { keep, register, renew } from "./offline.js";
import { showSearch } from "./search.js";

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

const untouched = () =>
  !gathered.waiting.length && $("#sentences").value === $("#sentences").defaultValue;

function progress({ at, bytes }) {
  const [done, all] = [at, bytes].map((size) => (size / 1e6).toFixed(1));
  status(`Loading the model: ${done} of ${all} MB`, at / bytes);
}

const fact = (name, text) => $("dl").append(make("dt", {}, name), make("dd", {}, text));

async function start() {
  status("Starting", null);
  const registration = await register(untouched);
  const manifest = await get(new URL("lit_manifest.json", import.meta.url), (response) => response.json());
  const engine = new Engine(manifest, progress);
  const { take, first } = showCompare(manifest, engine), search = showSearch(manifest, engine);
  gathered.take = (items, tab) => (tab === "search" ? search : take)(items);
  const example = gathered.waiting.length ? null : first();
  gathered.waiting.forEach((given) => gathered.take(...given));
  let tries = 0;
  working(async () => {
    if (tries++) engine.start();
    const { runtime } = await engine.ready.catch((error) => {
      renew(registration); // a newer export may do better
      throw error;
    });
    await example;
    offerGpu(engine);
    tellAbout(manifest);
    const idle = self.requestIdleCallback ?? setTimeout;
    idle(() => keepAll(registration, engine, runtime));
  }, "The model could not be started");
}

// Offers to run pictures by WebGPU. The answers pass the same test there.
function offerGpu(engine) {
  const [box, result] = [$("#gpu input"), $("#gpu small")];
  $("#gpu").hidden = !navigator.gpu;
  box.onchange = () => working(async () => {
    status("Starting", null);
    const wanted = box.checked, { gpu } = await engine.useGpu(wanted);
    box.checked = gpu;
    result.textContent = gpu ? "The self-test passed there."
      : wanted ? "It does not work in this browser. The CPU goes on." : "";
  }, "The model could not be started");
}

function tellAbout({ about }) {
  for (const name in about) fact(name, about[name]);
  fact("Self-test", `passed, with ${crossOriginIsolated ? "several threads" : "one thread"}`);
}

// Says that the page works without a network once it does.
async function keepAll(registration, engine, runtime) {
  const works = await keep(registration, engine, runtime).catch(() => false);
  if (works) $("#offline").textContent = "Works offline now";
  fact("Without a network", works ? "works: this browser keeps all files" : "does not work in this browser");
}

showTabs();
$("#host").textContent = location.host;
working(start, "The page could not be started");
