// Picture files that a person picks, drops or pastes, one after the other through the model.

const PICTURE = /\.(jpe?g|png|gif|webp|bmp|avif|heic|heif|tiff?)$/i;

export const isPicture = ({ file }) => file.type.startsWith("image/") || PICTURE.test(file.name);

/** Returns [{file, name}] of an input's files; `name` holds the path within a picked folder. */
export const picked = (input) =>
  [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));

/** Returns [{file, name}] of what was dropped or pasted, folders opened. */
export async function transferred(data) {
  // Entries have to be asked for before anything is awaited.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(({ isDirectory }) => isDirectory)) return picked(data);
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, name: entry.fullPath.slice(1) }];
  }
  const reader = entry.createReader(), found = [];
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return (await Promise.all(found.map(walk))).flat();
    found.push(...part);
  }
}

/** Returns why a file could not be used, for a person. */
export function reason({ file, name }, error) {
  if (/\.hei[cf]$/i.test(name) || /hei[cf]/.test(file.type)) {
    return `${name}: this browser cannot read HEIC. Save the picture as JPEG first.`;
  }
  const undecodable = error.name === "InvalidStateError" || error.name === "EncodingError" || /PNG|decode/i.test(error.message);
  if (undecodable) return `${name}: not a picture that this browser can read; the file may be damaged.`;
  return `${name}: ${error.message}.`;
}

/** Works through items one by one, and shows count, time left and a button to cancel. */
export class Queue {
  /**
   * @param box an element with .count, progress and button in it
   * @param work async function of one item
   */
  constructor(box, work) {
    this.box = box;
    this.work = work;
    this.items = [];
    box.querySelector("button").onclick = () => this.cancel();
  }

  async add(items) {
    this.items.push(...items);
    if (this.running) return;
    this.running = true;
    [this.done, this.start] = [0, performance.now()];
    while (this.items.length) {
      this.#show();
      await this.work(this.items.shift());
      this.done++;
    }
    this.running = false;
    this.box.hidden = true;
  }

  cancel() {
    this.items = [];
  }

  #show() {
    const all = this.done + this.items.length;
    this.box.hidden = all < 2;
    const bar = this.box.querySelector("progress");
    [bar.max, bar.value] = [all, this.done];
    const seconds = ((performance.now() - this.start) / this.done / 1000) * this.items.length;
    const left = this.done ? `, about ${duration(seconds)} left` : "";
    this.box.querySelector(".count").textContent = `${this.done + 1} of ${all}${left}`;
  }
}

const duration = (seconds) =>
  seconds < 90 ? `${Math.ceil(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
