// Picture files that a person picks, drops or pastes, one after the other through the model.

export const isPicture = ({ file }) =>
  file.type.startsWith("image/") || /\.(jpe?g|png|gif|webp|bmp|avif|hei[cf]|tiff?)$/i.test(file.name);

/** Returns [{file, name}]; `name` holds the path within a picked folder. */
export const picked = ({ files }) => [...files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));

/** Returns [{file, name}] of what was dropped or pasted, folders opened. */
export async function transferred(data) {
  // Entries have to be asked for before anything is awaited.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return entries.some(({ isDirectory }) => isDirectory) ? (await Promise.all(entries.map(walk))).flat() : picked(data);
}

async function walk(entry) {
  if (entry.isFile) return { file: await promised(entry, "file"), name: entry.fullPath.slice(1) };
  const reader = entry.createReader(), found = [];
  for (let part; (part = await promised(reader, "readEntries")).length; ) found.push(...part);
  return (await Promise.all(found.map(walk))).flat();
}

const promised = (object, method) => new Promise((resolve, reject) => object[method](resolve, reject));

/** Works through items one by one; shows count, time left and a button to cancel. */
export class Queue {
  items = [];

  constructor(box, work) {
    [this.box, this.work] = [box, work];
    box.querySelector("button").onclick = () => (this.items = []);
  }

  async add(items) {
    this.items.push(...items);
    if (this.running) return;
    this.running = true;
    const start = performance.now();
    for (let done = 0; this.items.length; done++) {
      this.#show(done, (performance.now() - start) / done);
      await this.work(this.items.shift());
    }
    this.running = false;
    this.box.hidden = true;
  }

  #show(done, pace) {
    const all = done + this.items.length, seconds = (pace * this.items.length) / 1000;
    this.box.hidden = all < 2;
    Object.assign(this.box.querySelector("progress"), { max: all, value: done });
    const time = seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
    this.box.querySelector(".count").textContent = `${done + 1} of ${all}${done ? `, about ${time} left` : ""}`;
  }
}
