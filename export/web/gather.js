// Picture files that a person picks, drops or pastes. This classic script in the page's head listens
// from the first moment. What comes before main.js sets `take` waits here.

const gathered = {
  waiting: [],
  take: (...given) => gathered.waiting.push(given),
};

{
  const shown = () => document.querySelector("[role=tabpanel]:not([hidden])").id;
  const give = (items) => items.length && gathered.take(items, shown());
  const field = (target) => target.closest?.("textarea, [type=search]");

  // Returns [{file, name}]; `name` holds the path within a picked folder.
  const picked = ({ files }) =>
    Array.from(files, (file) => ({ file, name: file.webkitRelativePath || file.name }));

  // Returns [{file, name}] of what was dropped, folders opened.
  async function dropped(data) {
    // Entries and files have to be asked for before anything is awaited.
    const entries = Array.from(data.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = picked(data);
    if (entries.every(({ isFile }) => isFile)) return files;
    return (await Promise.all(entries.map(walk))).flat(Infinity);
  }

  async function walk(entry) {
    const ask = (object, method) => new Promise((resolve, reject) => object[method](resolve, reject));
    if (entry.isFile) return { file: await ask(entry, "file"), name: entry.fullPath.slice(1) };
    const reader = entry.createReader(), found = [];
    for (let part; (part = await ask(reader, "readEntries")).length; ) found.push(...part);
    return Promise.all(found.map(walk));
  }

  // Adds a dropped text to the sentences, or looks for it.
  function write(text) {
    const input = document.querySelector(shown() === "search" ? "#query" : "#sentences");
    if (!text || input.readOnly || input.tagName === "SELECT") return;
    input.value = input.tagName === "INPUT" ? text : `${input.value.trimEnd()}\n${text}`.trimStart();
    input.dispatchEvent(new Event("input"));
  }

  function drag(event) {
    const { type, target, dataTransfer: data } = event, files = data.types.includes("Files");
    if (!files && field(target)) return; // which takes a text by itself
    event.preventDefault();
    document.body.classList.toggle("dragging", files && type === "dragover");
    if (type !== "drop") return;
    if (files) dropped(data).then(give);
    else write(data.getData("text/plain"));
  }

  for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, drag);
  document.addEventListener("paste", ({ target, clipboardData: data }) => {
    // Some programs put a picture of a copied text beside it.
    if (!(field(target) && data.types.includes("text/plain"))) give(picked(data));
  });
  document.addEventListener("click", ({ target }) => {
    const input = target.closest("button")?.nextElementSibling;
    if (input?.type === "file") input.click();
  });
  document.addEventListener("change", ({ target }) => {
    if (target.type !== "file") return;
    give(picked(target));
    target.value = "";
  });
}
