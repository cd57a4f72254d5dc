// A GAN: samples, interpolations, and mixed styles.
import { canvas, choice, draw, make, seedInput, slider } from "./elements.js";
import { floats, integers, latest } from "./network.js";
import { concat, normals, part, sizeOf, slerp } from "./numbers.js";

const COUNT = 12, STEPS = 8, SIDE = 3;

export function panel(model, run) {
  const hasStyles = "layers" in model, length = model.latents;
  const state = { seed: 0, label: 0, truncation: 1, mode: "samples", group: 0, latents: null, noise: null, samples: null };
  const images = make("div", { class: "images view" });
  const levels = hasStyles ? model.layers_in_use / 2 : 0;
  const groups = hasStyles ? [[0, 2], [2, 4], [4, model.layers_in_use]].filter(([a, b]) => a < b && b <= 2 * levels) : [];

  const stylesOf = async (latents, truncation) => {
    const styles = await run("map", { latents: floats(latents, latents.length / length, length) });
    return styles.map((value, index) => {
      const mean = model.mean_style[index % length];
      return mean + truncation * (value - mean);
    });
  };
  const synthesize = (styles, count) => {
    const noise = concat(Array(count).fill(state.noise));
    return run("synthesize", { styles: floats(styles, count, model.layers, length), noise: floats(noise, count, model.noise) });
  };
  const inAllLayers = (styles) => concat(Array.from({ length: styles.length / length * model.layers }, (_, index) =>
    part(styles, Math.floor(index / model.layers), length)));
  async function generate(latents) {
    const count = latents.length / length;
    if (hasStyles) return synthesize(inAllLayers(await stylesOf(latents, state.truncation)), count);
    const inputs = { latents: floats(latents.map((value) => state.truncation * value), count, length) };
    if (model.labels.length) inputs.class_labels = integers(Array(count).fill(state.label));
    return run("generator", inputs);
  }
  async function mix(latents) {
    const styles = await stylesOf(latents, state.truncation), [first, last] = groups[state.group], mixed = [];
    for (let row = 0; row < SIDE; row++)
      for (let column = 0; column < SIDE; column++)
        for (let layer = 0; layer < model.layers; layer++)
          mixed.push(part(styles, layer >= first && layer < last ? SIDE + column : row, length));
    return synthesize(concat(mixed), SIDE * SIDE);
  }

  const update = latest(async () => {
    const source = normals(state.seed);
    const drawn = source((state.mode === "mix" ? 2 * SIDE : COUNT) * length);
    if (hasStyles) state.noise = source(model.noise);
    state.latents = drawn;
    if (state.mode === "interpolation") {
      const [start, end] = [part(drawn, 0, length), part(drawn, 1, length)];
      state.latents = concat(Array.from({ length: STEPS }, (_, index) => slerp(start, end, index / (STEPS - 1))));
    }
    state.samples = await (state.mode === "mix" ? mix(drawn) : generate(state.latents));
    show();
  });

  function show() {
    const size = sizeOf(model.shape), count = state.samples.length / size;
    const what = model.labels.length ? model.labels[state.label] : "image";
    images.style.gridTemplateColumns = state.mode === "mix" ? `repeat(${SIDE}, 1fr)` : "";
    images.replaceChildren(...Array.from({ length: count }, (_, index) => {
      const alts = { samples: `Generated ${what} ${index + 1}`, interpolation: `Step ${index + 1} of ${count} between two images`,
        mix: `Image ${1 + Math.floor(index / SIDE)} with styles of image ${1 + index % SIDE}` };
      const target = canvas(model.shape, alts[state.mode]);
      draw(target, part(state.samples, index, size), model.shape, model.range);
      return target;
    }));
  }

  const set = (name) => (value) => {
    state[name] = value;
    return update();
  };
  const modes = ["samples", "interpolation", ...(groups.length ? ["mix"] : [])];
  const controls = make("div", { class: "controls" }, seedInput(state.seed, set("seed")),
    choice("Show", ["Samples", "Interpolation", "Style mixing"].slice(0, modes.length), 0, (index) => set("mode")(modes[index])));
  if (model.labels.length) controls.append(choice("Class", model.labels, 0, set("label")));
  if (model.truncates) {
    const text = "Truncation: typical (0) to varied (1)";
    controls.append(slider(text, { min: 0, max: 1, step: 0.05, value: 1, show: (value) => value.toFixed(2) }, set("truncation")));
  }
  if (groups.length) {
    const names = ["Coarse", "Middle", "Fine"].slice(0, groups.length);
    controls.append(choice("Styles that are taken from the column", names, 0, set("group")));
  }
  return { element: make("div", { class: "columns" }, controls, images), state, update };
}
