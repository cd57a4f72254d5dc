// The gallery: a card a model. The address names the model that is open; its panel comes when its networks have arrived.
import { panel as autoencoder } from "./autoencoder.js";
import { panel as diffusion } from "./diffusion.js";
import { button, bytesOf, canvas, draw, make } from "./elements.js";
import { panel as gan } from "./gan.js";
import { get, load } from "./network.js";
import { panel as vae } from "./vae.js";

const FAMILIES = {
  gan: ["Generative adversarial networks", gan,
    "A generator makes an image of random numbers in one pass. A discriminator, which told its images from real ones, trained it."],
  diffusion: ["Diffusion models", diffusion,
    "A network removes noise from an image. Applied step by step, it makes an image of nothing but noise."],
  vae: ["Variational autoencoders", vae,
    "Images are decoded from a space of latent numbers that has no holes. Move through it, and the image follows."],
  autoencoder: ["Autoencoders", autoencoder,
    "An encoder squeezes an image into a short code, from which a decoder rebuilds it. Draw, and see what survives."],
};
const status = document.getElementById("status"), main = document.getElementById("panel"), gallery = document.getElementById("models");
const title = document.title, toMegabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
let models = [], opened = 0;

function fail(error, again = null) {
  status.className = "error";
  status.replaceChildren(error.message ?? String(error), ...(again ? [" ", button("Try again", again)] : []));
}

function sayProgress(model, bytes) {
  const bar = make("progress", { max: model.bytes, value: bytes, "aria-label": "Fetched" });
  status.replaceChildren(`Fetching ${model.name}, ${toMegabytes(model.bytes)} `, bar);
}

async function open(model) {
  const ticket = opened;
  try {
    const run = await load(model, (bytes) => ticket === opened && sayProgress(model, bytes));
    if (ticket !== opened) return;
    status.textContent = `Starting ${model.name}`;
    const { element, state, update } = FAMILIES[model.family][1](model, run);
    const heading = make("h2", { tabindex: -1 }, model.name);
    const back = models.length > 1 ? [make("a", { href: "#", class: "back" }, "← All models")] : [];
    main.replaceChildren(...back, heading, make("p", { class: "note" }, model.about), element);
    if (models.length > 1) heading.focus();
    await update();
    if (ticket !== opened) return;
    state.milliseconds = (state.first ?? performance.now()) - run.arrived;
    main.state = state;
    main.dataset.ready = model.name;
    status.textContent = "";
  } catch (error) {
    if (ticket === opened) fail(error, route);
  }
}

/** Shows what the address names: a model, or the gallery. */
function route() {
  const name = decodeURIComponent(location.hash.slice(1)), last = main.dataset.ready;
  const model = models.find((one) => one.name === name) ?? (models.length === 1 ? models[0] : null);
  opened += 1;
  main.replaceChildren();
  main.removeAttribute("data-ready");
  status.className = status.textContent = "";
  document.body.dataset.view = model ? "model" : "gallery";
  document.title = model ? `${model.name} · ${title}` : title;
  if (model) return open(model);
  if (last) document.querySelector(`[data-model="${CSS.escape(last)}"]`)?.focus();
}

function card(model) {
  const target = canvas(model.picture.shape, `Images of ${model.name}`);
  draw(target, bytesOf(model.picture.pixels).map((byte) => byte / 127.5 - 1), model.picture.shape);
  return make("li", {}, make("a", { href: `#${encodeURIComponent(model.name)}`, class: "card", "data-model": model.name },
    target, make("strong", {}, model.name), make("span", { class: "note" }, toMegabytes(model.bytes))));
}

async function start() {
  if (typeof WebAssembly !== "object") throw new Error("This page needs a browser with WebAssembly.");
  models = await (await get("models.json")).json();
  for (const [family, [name, , about]] of Object.entries(FAMILIES)) {
    const members = models.filter((model) => model.family === family);
    if (!members.length) continue;
    gallery.append(make("section", {}, make("h2", {}, name), make("p", { class: "note" }, about),
      make("ul", { class: "cards" }, ...members.map(card))));
  }
  addEventListener("hashchange", route);
  route();
}

addEventListener("unhandledrejection", (event) => fail(event.reason));
start().catch(fail);
