// A canvas to draw on, filled with an example image if there are any.
import { button, canvas, draw, make, onArrows, onDrag } from "./elements.js";
import { clamp, part, sizeOf } from "./numbers.js";

const BRUSH = 1.6;
let examples = null;

/** Returns the example images of a size, (N, H, W) in [0, 1]; none for other sizes and for colours. */
export async function examplesOf([channels, height, width]) {
  examples ??= fetch("examples.json").then((response) => response.json());
  const { shape, pixels } = await examples;
  if (channels !== 1 || shape[1] !== height || shape[2] !== width) return { count: 0, image: () => null };
  const bytes = Uint8Array.from(atob(pixels), (letter) => letter.charCodeAt(0));
  return { count: shape[0], image: (index) => Float32Array.from(part(bytes, index, height * width), (byte) => byte / 255) };
}

/** Returns {element, pixels}: pixels (C, H, W) in [0, 1], which change in place; `act` is called after each change. */
export function drawing(shape, source, act) {
  const [channels, height, width] = shape, area = height * width, pixels = new Float32Array(sizeOf(shape));
  const target = canvas(shape, "Your drawing. Drag to draw, or use the arrow keys and space.", { class: "brush", tabindex: 0 });
  const place = { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  let example = -1;
  function show(hasCursor = false) {
    draw(target, pixels.map((value) => 2 * value - 1), shape);
    if (!hasCursor) return;
    const context = target.getContext("2d");
    context.strokeStyle = "#6db8f5";
    context.strokeRect(place.x - 0.5, place.y - 0.5, 2, 2);
  }
  function paint(x, y) {
    for (let row = 0; row < height; row++)
      for (let column = 0; column < width; column++) {
        const ink = clamp(BRUSH + 0.5 - Math.hypot(column - x, row - y), 0, 1), index = row * width + column;
        for (let channel = 0; channel < channels; channel++)
          pixels[channel * area + index] = Math.max(pixels[channel * area + index], ink);
      }
    show();
    act();
  }
  function fill(values) {
    pixels.set(values);
    show();
    return act();
  }
  onDrag(target, (x, y) => paint(x * width - 0.5, y * height - 0.5));
  onArrows(target, (dx, dy) => {
    place.x = clamp(place.x + dx, 0, width - 1);
    place.y = clamp(place.y + dy, 0, height - 1);
    show(true);
  });
  target.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    paint(place.x, place.y);
  });
  const buttons = make("div", { class: "buttons" }, button("Clear", () => fill(new Float32Array(pixels.length))));
  const next = () => fill(source.image((example = (example + 1) % source.count)));
  if (source.count) {
    buttons.prepend(button("Next example", next, { class: "primary" }));
    pixels.set(source.image((example = 0)));
  }
  show();
  return { element: make("div", {}, make("h3", {}, "Draw"), target, buttons), pixels };
}
