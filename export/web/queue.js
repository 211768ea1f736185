// Picture files, one after the other through the model.

import { $, cross, make, say } from "./dom.js";

const isHeic = ({ file, name }) => /[./]hei[cf]/i.test((file?.type ?? "") + name);

// Returns the items without what folders hold beside pictures, such as .DS_Store.
export const withoutOthers = (items) => items.filter((item) => !item.name.includes("/") || isPicture(item));

export const isPicture = (item) =>
  (item.file.type.startsWith("image/") || isHeic(item)) && !/(^|\/)\.[^/]*$/.test(item.name);

// Returns {add, clear}. `add` hands items to `work` one by one; the tab shows how far it is. `left` is
// called with what does not reach its end.
export function makeQueue(tab, work, left = () => {}) {
  const box = $(".queue", tab);
  let items = [], running = false;

  async function add(more) {
    items = items.concat(more);
    if (running) return;
    running = true;
    const start = performance.now();
    for (let done = 0; items.length; done++) {
      const all = done + items.length, pace = (performance.now() - start) / 1000 / done;
      const rest = done ? `, about ${duration(pace * items.length)} left` : "";
      $(".count", box).textContent = `${done + 1} of ${all}${rest}`;
      Object.assign($("progress", box), { max: all, value: done });
      box.hidden = all < 2;
      const item = items.shift();
      await Promise.resolve(item).then(work).catch((error) => {
        fail(tab, item, error);
        left(item);
      });
    }
    running = false;
    box.hidden = true;
  }

  function clear() {
    items.forEach(left);
    items = [];
  }

  $("button", box).onclick = clear;
  return { add, clear };
}

const duration = (seconds) => (seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`);

function fail(tab, item, { message }) {
  const why = isHeic(item) ? "this browser cannot read HEIC. Save it as JPEG first" : message;
  const line = make("li", {}, `${item.name}: ${why}.`, cross(`Dismiss ${item.name}`, () => line.remove()));
  $(".errors", tab).append(line);
  say(line.textContent);
}
