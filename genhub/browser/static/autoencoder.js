// An autoencoder: reconstructs what is drawn, with noise if asked, and searches images by their codes.
import { canvas, draw, make, slider } from "./elements.js";
import { drawing, examplesOf } from "./drawing.js";
import { floats, latest } from "./network.js";
import { clamp, concat, normals, part, sizeOf } from "./numbers.js";

const FOUND = 8;

export function panel(model, run) {
  const size = sizeOf(model.shape), state = { noise: 0, input: null, latents: null, samples: null, found: [], distances: [] };
  const element = make("div", {});
  const noisy = canvas(model.shape, "The drawing with noise", { class: "shown" });
  const output = canvas(model.shape, "Its reconstruction", { class: "shown" });
  const found = make("div", { class: "images found" });
  let source = null, sheet = null, codes = null;

  const encode = (samples) => run("encoder", { sample: floats(samples, samples.length / size, ...model.shape) });

  async function prepare() {
    source = await examplesOf(model.shape);
    sheet = drawing(model.shape, source, update);
    const strength = slider("Noise", { min: 0, max: 1, step: 0.05, value: 0, show: (value) => value.toFixed(2) }, (value) => {
      state.noise = value;
      return update();
    });
    element.append(make("div", { class: "row" }, sheet.element, make("div", {}, make("h3", {}, "With noise"), noisy, strength),
      make("div", {}, make("h3", {}, "Reconstruction"), output)));
    if (!source.count) return;
    element.append(make("h3", {}, `The nearest of ${source.count} images, by ${model.hashes ? "Hamming distance of their hashes" : "distance of their codes"}`), found);
    codes = await encode(concat(Array.from({ length: source.count }, (_, index) => source.image(index).map((x) => 2 * x - 1))));
  }

  const search = () => {
    const length = model.latents, bit = model.hashes ? Math.round : (value) => value;
    const query = state.latents.map(bit);
    const distances = Array.from({ length: source.count }, (_, index) =>
      part(codes, index, length).reduce((sum, value, i) => sum + (bit(value) - query[i]) ** 2, 0));
    state.found = distances.map((_, index) => index).sort((a, b) => distances[a] - distances[b] || a - b).slice(0, FOUND);
    state.distances = state.found.map((index) => distances[index]);
    found.replaceChildren(...state.found.map((index, rank) => {
      const shown = model.hashes ? `${state.distances[rank]} bits` : `distance ${Math.sqrt(state.distances[rank]).toFixed(2)}`;
      const target = canvas(model.shape, `Found image ${rank + 1}, ${shown}`);
      draw(target, source.image(index).map((x) => 2 * x - 1), model.shape);
      return make("figure", {}, target, make("figcaption", { class: "note" }, shown));
    }));
  };

  const update = latest(async () => {
    if (!sheet) await prepare();
    const noise = normals(0)(size);
    state.input = sheet.pixels.map((value, index) => 2 * clamp(value + state.noise * noise[index], 0, 1) - 1);
    draw(noisy, state.input, model.shape);
    state.latents = await encode(state.input);
    state.samples = await run("decoder", { latents: floats(state.latents, 1, model.latents) });
    draw(output, state.samples, model.shape, model.range);
    if (codes) search();
  });
  return { element, state, update };
}
