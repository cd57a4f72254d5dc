// A variational autoencoder: a pad over a plane of its latents, and reconstructions of what is drawn.
import { canvas, choice, draw, make, onArrows, onDrag, slider } from "./elements.js";
import { drawing, examplesOf } from "./drawing.js";
import { floats, integers, latest } from "./network.js";
import { clamp, part, sizeOf } from "./numbers.js";

const REACH = 3, GRID = 11, STEP = 0.25;

export function panel(model, run) {
  const size = sizeOf(model.shape), length = model.latents, [, height, width] = model.shape;
  const state = { label: 0, axes: [0, 1], latents: new Float32Array(length), samples: null };
  const pad = canvas([1, GRID * height, GRID * width], "The plane of latents. Drag, or use the arrow keys.", { class: "pad", tabindex: 0 });
  const output = canvas(model.shape, "The image at the chosen place", { class: "shown" });
  const place = make("output", { class: "note", "aria-live": "polite" });
  const labelled = (count) => (model.labels.length ? { class_labels: integers(Array(count).fill(state.label)) } : {});
  const decode = (latents) => {
    const count = latents.length / length;
    return run("decoder", { latents: floats(latents, count, length), ...labelled(count) });
  };
  const backdrop = document.createElement("canvas");
  [backdrop.width, backdrop.height] = [pad.width, pad.height];
  let sheet = null, isMapped = false;

  const drawMap = async () => {
    const latents = new Float32Array(GRID * GRID * length);
    for (let row = 0; row < GRID; row++)
      for (let column = 0; column < GRID; column++) {
        const offset = (row * GRID + column) * length;
        latents.set(state.latents, offset);
        latents[offset + state.axes[0]] = REACH * ((2 * column + 1) / GRID - 1);
        latents[offset + state.axes[1]] = REACH * ((2 * row + 1) / GRID - 1);
      }
    const samples = await decode(latents), tile = document.createElement("canvas"), context = backdrop.getContext("2d");
    [tile.width, tile.height] = [width, height];
    for (let index = 0; index < GRID * GRID; index++) {
      draw(tile, part(samples, index, size), model.shape, model.range);
      context.drawImage(tile, (index % GRID) * width, Math.floor(index / GRID) * height);
    }
    isMapped = true;
  };

  const update = latest(async () => {
    if (!sheet) await prepare();
    if (!isMapped) await drawMap();
    const [x, y] = state.axes.map((axis) => state.latents[axis]), context = pad.getContext("2d");
    context.globalAlpha = 1;
    context.drawImage(backdrop, 0, 0);
    const [left, top] = [x, y].map((value, index) => ((value / REACH + 1) / 2) * [pad.width, pad.height][index]);
    for (const [color, lineWidth] of [["#000", 8], ["#6db8f5", 4]]) {
      Object.assign(context, { strokeStyle: color, lineWidth });
      context.beginPath();
      context.arc(left, top, 10, 0, 2 * Math.PI);
      context.stroke();
    }
    state.samples = await decode(state.latents);
    draw(output, state.samples, model.shape, model.range);
    place.textContent = `z = (${x.toFixed(2)}, ${y.toFixed(2)})`;
  });
  function move(x, y) {
    state.latents[state.axes[0]] = clamp(x, -REACH, REACH);
    state.latents[state.axes[1]] = clamp(y, -REACH, REACH);
    return update();
  }
  onDrag(pad, (x, y) => move(REACH * (2 * x - 1), REACH * (2 * y - 1)));
  onArrows(pad, (dx, dy) => move(state.latents[state.axes[0]] + STEP * dx, state.latents[state.axes[1]] + STEP * dy));
  const remap = () => {
    isMapped = false;
    return update();
  };

  const rebuilt = canvas(model.shape, "The reconstruction of your drawing", { class: "shown" });
  async function rebuild() {
    state.input = sheet.pixels.map((value) => 2 * value - 1);
    state.code = await run("encoder", { sample: floats(state.input, 1, ...model.shape), ...labelled(1) });
    state.reconstruction = await decode(state.code);
    draw(rebuilt, state.reconstruction, model.shape, model.range);
  }
  const reconstruct = latest(async () => {
    await rebuild();
    if (length === 2) await move(state.code[0], state.code[1]);
  });
  const below = make("div", { class: "row editor" });
  async function prepare() {
    sheet = drawing(model.shape, await examplesOf(model.shape), reconstruct);
    below.append(sheet.element, make("div", {}, make("h3", {}, "Reconstruction"), rebuilt));
    await rebuild();
  }

  const controls = make("div", { class: "controls" }, make("div", {}, make("h3", {}, "Latents"), pad, place));
  if (model.labels.length) {
    controls.append(choice("Class", model.labels, 0, (label) => {
      state.label = label;
      remap();
      return reconstruct();
    }));
  }
  if (length > 2) {
    for (const [index, name] of ["Latent to the right", "Latent downwards"].entries()) {
      controls.append(slider(name, { min: 0, max: length - 1, step: 1, value: index }, (axis) => {
        state.axes[index] = axis;
        return remap();
      }));
    }
  }
  const view = make("div", { class: "view" }, make("h3", {}, "Image"), output);
  return { element: make("div", { class: "columns" }, view, controls, below), state, update };
}
