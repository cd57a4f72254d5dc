// A diffusion model: every step of its sampling, guidance, and inpainting with a brush.
import { button, canvas, choice, draw, make, onCursor, onDrag, seedInput, slider } from "./elements.js";
import { floats, integers, latest } from "./network.js";
import { clamp, normals, part, sizeOf } from "./numbers.js";

const COUNT = 4, BRUSH = 2.5;

/** Returns the x_0 that a prediction means (Salimans & Ho 2022, arXiv 2202.00512, Sec. 4). */
function originalOf(kind, prediction, sample, alpha, sigma) {
  if (kind === "sample") return prediction;
  if (kind === "v_prediction") return sample.map((x, i) => alpha * x - sigma * prediction[i]);
  return sample.map((x, i) => (x - sigma * prediction[i]) / alpha);
}

/** Returns the prediction that means `original`. */
function predictionOf(kind, original, sample, alpha, sigma) {
  if (kind === "sample") return original;
  if (kind === "v_prediction") return sample.map((x, i) => (alpha * x - original[i]) / sigma);
  return sample.map((x, i) => (x - alpha * original[i]) / sigma);
}

/** Samples from `noise`, a batch of x_T; yields {sample, original} after each step. `known` replaces pixels of x_0. */
export async function* sampling(model, predict, table, noise, draws, known = (original) => original) {
  let sample = noise, before = new Float32Array(noise.length);
  for (let step = 0; step < table.length; step++) {
    const [t, signal, noiseLevel, alpha, sigma, bound, a, b, c, d] = table[step];
    let prediction = await predict(sample, t, step);
    const original = known(originalOf(model.prediction, prediction, sample, signal, noiseLevel));
    prediction = predictionOf(model.prediction, original, sample, signal, noiseLevel);
    const now = originalOf(model.prediction, prediction, sample, alpha, sigma).map((x) => clamp(x, -bound, bound));
    const z = d ? draws[step] : null;
    sample = sample.map((x, i) => a * x + b * now[i] + c * before[i] + (z ? d * z[i] : 0));
    before = now;
    yield { sample, original };
  }
}

export function panel(model, run) {
  const counts = Object.keys(model.tables).map(Number).sort((a, b) => a - b), size = sizeOf(model.latent_shape);
  const hasClasses = model.labels.length > 0, any = model.labels.length;
  const state = { seed: 0, label: 0, guidance: model.guidance, count: model.default_steps, shows: "sample", shown: 0,
    latents: null, draws: [], frames: [], samples: null, mask: null, image: null, done: 0, first: null };
  const tiles = Array.from({ length: COUNT }, (_, index) => canvas(model.shape, `Image ${index + 1}, not yet made`));
  const images = make("div", { class: "images view" }, ...tiles);

  async function predict(sample, t, step) {
    const count = sample.length / size, steps = state.count, [first, last] = model.interval;
    const call = (label) => run("unet", {
      sample: floats(sample, count, ...model.latent_shape),
      timestep: integers(Array(count).fill(t)),
      ...(hasClasses && { class_labels: integers(Array(count).fill(label)) }),
    });
    const good = await call(state.label);
    const isGuided = step >= Math.ceil(first * steps - 1e-9) && step < Math.ceil(last * steps - 1e-9);
    if (!model.null || state.label === any || state.guidance === 1 || !isGuided) return good;
    const bad = await call(any);
    return bad.map((value, index) => value + state.guidance * (good[index] - value));
  }

  const update = latest(async (isOutdated) => {
    const source = normals(state.seed), table = model.tables[state.count], total = COUNT * size;
    state.latents = source(total);
    state.draws = table.map(([, , , , , , , , , d]) => (d ? source(total) : null));
    state.frames = [{ sample: state.latents, original: null }, ...table.map(() => ({
      sample: new Float32Array(total), original: new Float32Array(total) }))];
    const { mask, image } = state;
    const known = mask && ((original) => original.map((x, i) => (mask[i] ? x : image[i])));
    for (state.done = 0; state.done < COUNT; ) { // one after another: the first is there soon
      const own = (values) => values && part(values, state.done, size), offset = state.done * size;
      const draws = state.draws.map(own);
      let step = 0;
      for await (const frame of sampling(model, predict, table, own(state.latents), draws, known ?? undefined)) {
        if (isOutdated()) return;
        step += 1;
        if (known && step === table.length) frame.sample = known(frame.sample.map((x) => clamp(x, -1, 1)));
        for (const name of ["sample", "original"]) state.frames[step][name].set(frame[name], offset);
        if (!model.graphs.decoder) paint(state.done, step, frame[state.shows]);
      }
      state.done += 1;
      setShown(table.length);
      await show();
      state.first ??= performance.now();
    }
    editor?.show();
  });
  const editor = model.edits ? inpainting(model, state, update) : null;

  const scrubber = slider("Step that is shown", { min: 0, max: state.count, step: 1, value: 0 }, (value) => {
    state.shown = value;
    return show();
  });
  function setShown(step) {
    state.shown = step;
    const input = scrubber.querySelector("input");
    input.max = state.count;
    input.value = step;
    scrubber.querySelector("output").textContent = `${step} of ${state.count}`;
  }

  function paint(index, step, values) {
    const what = state.label < any ? model.labels[state.label] : "image", kind = state.shows === "sample" ? "" : " as predicted";
    tiles[index].setAttribute("aria-label", `${what} ${index + 1} after step ${step} of ${state.count}${kind}`);
    draw(tiles[index], values, model.shape, model.range);
  }
  const show = latest(async () => {
    const frame = state.frames[state.shown];
    let values = frame[state.shows] ?? frame.sample;
    scrubber.querySelector("output").textContent = `${state.shown} of ${state.count}`;
    const count = state.done;
    if (model.graphs.decoder) {
      values = await run("decoder", { latents: floats(values.slice(0, count * size), count, ...model.latent_shape) });
    }
    state.samples = values;
    for (let index = 0; index < count; index++) paint(index, state.shown, part(values, index, sizeOf(model.shape)));
  });

  const set = (name) => (value) => {
    state[name] = value;
    return update();
  };
  const controls = make("div", { class: "controls" }, seedInput(0, set("seed")),
    choice("Show", ["Noisy image x_t", "Predicted x_0"], 0, (index) => {
      state.shows = ["sample", "original"][index];
      return show();
    }), scrubber);
  if (hasClasses) controls.append(choice("Class", model.null ? [...model.labels, "any"] : model.labels, 0, set("label")));
  controls.append(slider("Sampling steps", { min: 0, max: counts.length - 1, step: 1, value: counts.indexOf(state.count),
    show: (index) => counts[index] }, (index) => set("count")(counts[index])));
  if (model.null) {
    controls.append(slider("Guidance", { min: 1, max: 5, step: 0.25, value: state.guidance, show: (w) => w.toFixed(2) }, set("guidance")));
  }
  const element = make("div", { class: "columns" }, images, controls, ...(editor ? [editor.element] : []));
  return { element, state, update };
}

/** Returns {element, show}: controls that mask a part of the first image, which is then made anew. */
function inpainting(model, state, update) {
  const [channels, height, width] = model.shape, area = height * width;
  const target = canvas(model.shape, "The image to repaint. Drag, or use the arrow keys and space, to mark what is made anew.",
    { class: "brush", tabindex: 0 });
  let image = null, mask = null;

  const first = () => part(state.frames.at(-1).sample, 0, channels * area).map((x) => clamp(x, -1, 1));
  function show() {
    draw(target, image ?? first(), model.shape);
    const context = target.getContext("2d");
    context.fillStyle = "#e5484dcc";
    mask?.forEach((isMarked, index) => isMarked && context.fillRect(index % width, Math.floor(index / width), 1, 1));
  }
  function paint(x, y) {
    if (!image) take();
    for (let row = 0; row < height; row++)
      for (let column = 0; column < width; column++)
        if (Math.hypot(column - x, row - y) < BRUSH) mask[row * width + column] = 1;
  }
  function take() {
    image = first();
    mask = new Uint8Array(area);
    show();
  }
  onDrag(target, (x, y) => {
    paint(x * width - 0.5, y * height - 0.5);
    show();
  });
  onCursor(target, { show, paint });
  function repaint() {
    if (!image) take();
    state.image = image;
    state.mask = Uint8Array.from({ length: channels * area }, (_, index) => mask[index % area]);
    return update();
  }
  function stop() {
    image = mask = state.image = state.mask = null;
    return update();
  }
  const text = make("div", {}, make("h3", {}, "Repaint a part"),
    make("p", { class: "hint" }, "Brush over what should be made anew in the first image, and repaint."),
    make("div", { class: "buttons" }, button("Repaint", repaint, { class: "primary" }), button("Start over", stop)));
  return { element: make("section", { class: "editor row" }, target, text), show };
}
