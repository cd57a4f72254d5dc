// Parts of a panel: buttons, sliders, canvases.
import { clamp } from "./numbers.js";

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const button = (text, onclick, attributes = {}) => make("button", { type: "button", onclick, ...attributes }, text);

/** Buttons of which one is pressed; `act` gets its index. */
export function choice(title, names, chosen, act) {
  const buttons = names.map((name, index) => button(name, () => press(index), { "aria-pressed": index === chosen }));
  function press(index) {
    buttons.forEach((other, i) => other.setAttribute("aria-pressed", i === index));
    act(index);
  }
  const group = make("div", { class: "buttons", role: "group", "aria-label": title }, ...buttons);
  return make("div", {}, make("h3", {}, title), group);
}

export function slider(title, { min, max, step, value, show = String }, act) {
  const shown = make("output", {}, show(value));
  const input = make("input", { type: "range", min, max, step, value, "aria-label": title });
  input.addEventListener("input", () => {
    shown.textContent = show(Number(input.value));
    act(Number(input.value));
  });
  return make("label", {}, title, shown, input);
}

export function seedInput(seed, act) {
  const input = make("input", { type: "number", min: 0, max: 2 ** 31 - 1, step: 1, value: seed, "aria-label": "Seed" });
  input.addEventListener("change", () => act(clamp(Math.round(Number(input.value)) || 0, 0, 2 ** 31 - 1)));
  const next = button("New", () => {
    input.value = Number(input.value) + 1;
    act(Number(input.value));
  }, { class: "primary" });
  return make("div", {}, make("h3", {}, "Seed"), make("div", { class: "buttons" }, input, next));
}

export function canvas([, height, width], alt, attributes = {}) {
  return make("canvas", { width, height, role: "img", "aria-label": alt, ...attributes });
}

/** Returns the bytes of base64 as numbers. */
export const bytesOf = (text) => Float32Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Draws samples (C, H, W) on a canvas. `range`: "tanh" for [-1, 1], "sigmoid" for what a sigmoid maps to [0, 1]. */
export function draw(target, values, [channels, height, width], range = "tanh") {
  const context = target.getContext("2d"), image = context.createImageData(width, height), area = height * width;
  const toByte = (value) =>
    Math.round(255 * (range === "sigmoid" ? 1 / (1 + Math.exp(-value)) : clamp((value + 1) / 2, 0, 1)));
  for (let pixel = 0; pixel < area; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[4 * pixel + channel] = toByte(values[Math.min(channel, channels - 1) * area + pixel]);
    }
    image.data[4 * pixel + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** Calls `act` with the place of a pointer that is down, (x, y) in [0, 1]. */
export function onDrag(target, act) {
  const send = (event) => {
    const box = target.getBoundingClientRect();
    act(clamp((event.clientX - box.left) / box.width, 0, 1), clamp((event.clientY - box.top) / box.height, 0, 1));
  };
  target.addEventListener("pointerdown", (event) => {
    target.setPointerCapture(event.pointerId);
    send(event);
  });
  target.addEventListener("pointermove", (event) => event.buttons && send(event));
}

/** Moves a place on a canvas by the arrow keys, and marks it while the canvas has the focus. `show` draws without the mark,
 * `paint` marks what is at the place when space is pressed. */
export function onCursor(target, { show, paint }) {
  const { width, height } = target, place = { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  function mark() {
    show();
    const context = target.getContext("2d");
    context.strokeStyle = "#6db8f5";
    context.strokeRect(place.x - 0.5, place.y - 0.5, 2, 2);
  }
  onArrows(target, (dx, dy) => {
    place.x = clamp(place.x + dx, 0, width - 1);
    place.y = clamp(place.y + dy, 0, height - 1);
    mark();
  });
  target.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    paint(place.x, place.y);
    mark();
  });
  target.addEventListener("focus", () => target.matches(":focus-visible") && mark());
  target.addEventListener("blur", show);
}

/** Calls `act` with a step of an arrow key, (dx, dy) in whole steps. */
export function onArrows(target, act) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  target.addEventListener("keydown", (event) => {
    if (!steps[event.key]) return;
    event.preventDefault();
    act(...steps[event.key]);
  });
}
