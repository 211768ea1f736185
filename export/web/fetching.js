// Files from the page's server. A request that fails is tried again.

import { sleep } from "./dom.js";

const PAUSES = [500, 2000]; // milliseconds

// Returns what `read` makes of the response.
export async function get(url, read, options = {}) {
  for (const pause of [...PAUSES, null]) {
    try {
      const response = await fetch(url, options);
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      return await read(response);
    } catch (error) {
      if (pause === null) throw new Error(`${name(url)}: ${reason(error)}`);
    }
    await sleep(pause);
  }
}

const name = (url) => new URL(url).pathname.split("/").at(-1);

// Browsers say it in several ways, all of them short.
const reason = (error) => (error instanceof TypeError ? "the server could not be reached" : error.message);
