// All pictures against all sentences: similarities as a table, and as CSV.

import { make, similar } from "./dom.js";

// `rows` are [{name, lines: [{sentence, cosine}]}].
export function drawTable(box, rows) {
  const all = rows.flatMap(({ lines }) => lines.map(({ cosine }) => cosine));
  const low = Math.min(...all), range = Math.max(...all) - low || 1;
  const head = rows[0]?.lines.map(({ sentence }) => make("th", { scope: "col", dir: "auto" }, sentence)) ?? [];
  const body = rows.map(({ name, lines }) => {
    const best = Math.max(...lines.map(({ cosine }) => cosine));
    const cells = lines.map(({ cosine }) => {
      const cell = make("td", { className: cosine === best ? "best" : "" }, similar(cosine));
      cell.style.setProperty("--heat", `${Math.round((70 * (cosine - low)) / range)}%`);
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
  });
  box.replaceChildren(make("table", {},
    make("caption", {}, "Cosine similarity. The best sentence of each picture stands out."),
    make("thead", {}, make("tr", {}, make("td"), ...head)),
    make("tbody", {}, ...body)));
}

// Returns a CSV file (RFC 4180); the mark at its start tells spreadsheets that it is UTF-8.
export function toCsv(rows) {
  const quote = (value) => `"${String(value).replaceAll('"', '""')}"`;
  const head = ["picture", ...(rows[0]?.lines.map(({ sentence }) => sentence) ?? [])];
  const body = rows.map(({ name, lines }) => [name, ...lines.map(({ cosine }) => cosine.toFixed(6))]);
  const text = [head, ...body].map((row) => `${row.map(quote).join(",")}\r\n`).join("");
  return new Blob(["\ufeff", text], { type: "text/csv" });
}
