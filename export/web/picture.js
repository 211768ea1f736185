// A picture of a card, to send to a friend: the photo and its bars.

import { inWords } from "./card.js";
import { make } from "./dom.js";

const WIDTH = 1000, EDGE = 40, LINE = 76;

// Returns a PNG. `photo` is a blob; `lines` and `best` are a card's.
export async function toPicture(photo, name, title, lines, best) {
  const image = await createImageBitmap(photo), body = getComputedStyle(document.body);
  const inner = WIDTH - 2 * EDGE, scale = Math.min(inner / image.width, 700 / image.height);
  const [width, height] = [image.width * scale, image.height * scale];
  const canvas = new OffscreenCanvas(WIDTH, Math.ceil(height + LINE * lines.length + 4 * EDGE));
  const context = canvas.getContext("2d");
  context.fillStyle = body.backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, (WIDTH - width) / 2, EDGE, width, height);

  function write(text, y, style, { right = false, room = inner } = {}) {
    context.font = `${style} ${body.fontFamily}`;
    context.textAlign = right ? "right" : "left";
    context.fillText(shorten(context, text, room), right ? WIDTH - EDGE : EDGE, y);
  }

  lines.forEach((line, i) => {
    const y = 2 * EDGE + height + LINE * i, [value, number] = inWords(line, lines.length === 1);
    const style = line === best ? "600 28px" : "28px";
    context.fillStyle = body.color;
    write(number, y + 20, style, { right: true });
    write(line.sentence, y + 20, style, { room: inner - context.measureText(number).width - 30 });
    context.fillStyle = colour("line");
    context.fillRect(EDGE, y + 34, inner, 10);
    context.fillStyle = colour(line === best ? "accent" : "soft");
    context.fillRect(EDGE, y + 34, inner * value, 10);
  });
  context.fillStyle = colour("soft");
  write(`${name} · ${title}`, canvas.height - EDGE, "22px");
  return canvas.convertToBlob({ type: "image/png" });
}

// Returns one of style.css' colours. Only an element knows what it is, in the light or in the dark.
function colour(part) {
  const probe = make("i");
  probe.style.color = `var(--${part})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function shorten(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  const chars = [...text];
  while (chars.length && context.measureText(`${chars.join("")}…`).width > room) chars.pop();
  return `${chars.join("")}…`;
}
