// A canvas to draw on, filled with an example image if there are any.
import { button, bytesOf, canvas, draw, make, onCursor, onDrag } from "./elements.js";
import { get, once } from "./network.js";
import { clamp, part, sizeOf } from "./numbers.js";

const BRUSH = 1.6;
const fetchExamples = once(async () => (await get("examples.json")).json());

/** Returns the example images of a size, (N, H, W) in [0, 1]; none for other sizes and for colours. */
export async function examplesOf([channels, height, width]) {
  const { shape, pixels } = await fetchExamples();
  if (channels !== 1 || shape[1] !== height || shape[2] !== width) return { count: 0, image: () => null };
  const bytes = bytesOf(pixels);
  return { count: shape[0], image: (index) => part(bytes, index, height * width).map((byte) => byte / 255) };
}

/** Returns {element, pixels}: pixels (C, H, W) in [0, 1], which change in place; `act` is called after each change. */
export function drawing(shape, source, act) {
  const [channels, height, width] = shape, area = height * width, pixels = new Float32Array(sizeOf(shape));
  const target = canvas(shape, "Your drawing. Drag to draw, or use the arrow keys and space.", { class: "brush", tabindex: 0 });
  let example = -1;
  const show = () => draw(target, pixels.map((value) => 2 * value - 1), shape);
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
  onCursor(target, { show, paint });
  const buttons = make("div", { class: "buttons" }, button("Clear", () => fill(new Float32Array(pixels.length))));
  const next = () => fill(source.image((example = (example + 1) % source.count)));
  if (source.count) {
    buttons.prepend(button("Next example", next, { class: "primary" }));
    pixels.set(source.image((example = 0)));
  }
  show();
  return { element: make("div", {}, make("h3", {}, "Draw"), target, buttons), pixels };
}
