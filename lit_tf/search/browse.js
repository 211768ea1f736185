"use strict";

const at = (id) => document.getElementById(id);
const marked = new Map(); // id -> picture
let like = null; // the picture that others are to look like
let shown = 0, more = false, asking = null, timer = 0;

// Bytes of a path that are not UTF-8 cannot be shown, and are written as \xNN.
const printable = (path) => path.replace(/[\udc80-\udcff]/gu, (c) => "\\x" + (c.charCodeAt(0) - 0xdc00).toString(16));
const nameOf = (picture) => printable(picture.path).split("/").pop();

function element(kind, properties, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function facts(picture) {
  const taken = picture.taken ? picture.taken.replace("T", " ") + " · " : "";
  const score = picture.score ? ` · similarity ${picture.score.toFixed(3)}` : "";
  return `${taken}${picture.width} × ${picture.height}${score}`;
}

function card(picture) {
  const image = element("img", { src: `thumbnail/${picture.id}`, alt: nameOf(picture), loading: "lazy" });
  const show = element("button", { className: "show", type: "button", onclick: () => enlarge(picture) }, image);
  const mark = element("input", { type: "checkbox", checked: marked.has(picture.id), title: "Mark" });
  mark.setAttribute("aria-label", `Mark ${nameOf(picture)}`);
  const similar = element("button", { type: "button", textContent: "Similar", title: "More like this", onclick: () => likeThis(picture) });
  const name = element("span", { textContent: nameOf(picture), title: printable(picture.path) });
  const item = element("li", { className: mark.checked ? "marked" : "" }, show, element("div", { className: "below" }, mark, name, similar));
  mark.onchange = () => {
    mark.checked ? marked.set(picture.id, picture) : marked.delete(picture.id);
    item.classList.toggle("marked", mark.checked);
    showMarks();
  };
  return item;
}

function enlarge(picture) {
  const dialog = at("large");
  const image = dialog.querySelector("img");
  image.onerror = () => { dialog.querySelector(".facts").textContent = "This file is not there any more, or cannot be read."; };
  image.src = `picture/${picture.id}`;
  image.alt = nameOf(picture);
  dialog.querySelector(".path").textContent = printable(picture.path);
  dialog.querySelector(".facts").textContent = facts(picture);
  dialog.showModal();
}

function likeThis(picture) {
  like = picture;
  at("like").hidden = !picture;
  if (picture) at("like").querySelector("img").src = `thumbnail/${picture.id}`;
  scrollTo(0, 0);
  ask();
}

async function ask(offset = 0) {
  asking?.abort();
  const mine = (asking = new AbortController());
  const query = new URLSearchParams({ offset });
  for (const id of ["text", "minus", "from", "to"]) query.set(id, at(id).value);
  if (like) query.set("like", like.id);
  try {
    const answer = await fetch(`find?${query}`, { signal: mine.signal });
    const value = await answer.json();
    if (asking !== mine) return;
    if (!answer.ok) throw new Error(value.error);
    const cards = value.found.map(card);
    if (offset) at("found").append(...cards);
    else at("found").replaceChildren(...cards);
    shown = offset + cards.length;
    more = value.more;
    const how = at("text").value.trim() || like ? "the most similar first" : "the latest first";
    at("said").textContent = shown ? `${value.all.toLocaleString("en")} pictures, ${how}` : "No picture fits.";
  } catch (error) {
    if (error.name !== "AbortError") at("said").textContent = error.message;
  } finally {
    if (asking === mine) {
      asking = null;
      onward();
    }
  }
}

function onward() {
  const near = at("end").getBoundingClientRect().top < innerHeight + 600;
  if (more && !asking && near) ask(shown);
}

function showMarks() {
  at("marks").hidden = !marked.size;
  at("count").textContent = `${marked.size} marked`;
}

function save(name, type, text) {
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  link.click();
  URL.revokeObjectURL(link.href);
}

const columns = ["path", "taken", "width", "height"];
const quoted = (value) => `"${printable(String(value ?? "")).replaceAll('"', '""')}"`;

at("json").onclick = () => save("pictures.json", "application/json", JSON.stringify([...marked.values()].map((p) => p.path), null, 2));
at("csv").onclick = () => {
  const rows = [...marked.values()].map((p) => columns.map((c) => quoted(p[c])).join(","));
  save("pictures.csv", "text/csv", [columns.join(","), ...rows, ""].join("\r\n"));
};
at("clear").onclick = () => {
  marked.clear();
  for (const box of document.querySelectorAll("li input")) {
    box.checked = false;
    box.closest("li").classList.remove("marked");
  }
  showMarks();
};
at("copy").onsubmit = async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ ids: [...marked.keys()], folder: at("folder").value });
  const answer = await fetch("copy", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  const value = await answer.json();
  const failed = value.failures?.length ? `; not copied: ${value.failures.map(printable).join(", ")}` : "";
  at("said").textContent = value.error ?? `${value.copied} pictures are in ${at("folder").value}${failed}`;
};
at("question").onsubmit = (event) => event.preventDefault();
at("question").oninput = () => {
  clearTimeout(timer);
  timer = setTimeout(ask, 150);
};
at("like").querySelector("button").onclick = () => likeThis(null);
at("large").onclick = (event) => event.target === at("large") && at("large").close();
addEventListener("scroll", onward, { passive: true });
addEventListener("resize", onward);
ask();
