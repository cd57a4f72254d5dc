// The gallery: one button a model; its panel opens when its networks have arrived.
import { panel as autoencoder } from "./autoencoder.js";
import { panel as diffusion } from "./diffusion.js";
import { button, make } from "./elements.js";
import { panel as gan } from "./gan.js";
import { load } from "./network.js";
import { panel as vae } from "./vae.js";

const FAMILIES = {
  gan: ["Generative adversarial networks", gan],
  diffusion: ["Diffusion models", diffusion],
  vae: ["Variational autoencoders", vae],
  autoencoder: ["Autoencoders", autoencoder],
};
const status = document.getElementById("status"), main = document.getElementById("panel");
const toMegabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
let opened = 0;

function fail(error) {
  status.className = "error";
  status.textContent = error.message ?? String(error);
}

async function open(model, pressed) {
  const ticket = ++opened;
  for (const other of document.querySelectorAll("nav button")) other.setAttribute("aria-pressed", other === pressed);
  status.className = "";
  main.replaceChildren();
  main.removeAttribute("data-ready");
  try {
    const run = await load(model, (bytes) => {
      if (ticket === opened) status.textContent = `Fetching ${model.name}: ${toMegabytes(bytes)} of ${toMegabytes(model.bytes)}`;
    });
    if (ticket !== opened) return;
    status.textContent = `Starting ${model.name}`;
    const arrived = performance.now(), { element, state, update } = FAMILIES[model.family][1](model, run);
    main.replaceChildren(make("h2", {}, model.name), make("p", { class: "note" }, model.about), element);
    await update();
    if (ticket !== opened) return;
    state.milliseconds = (state.first ?? performance.now()) - arrived;
    main.state = state;
    main.dataset.ready = model.name;
    status.textContent = "";
  } catch (error) {
    fail(error);
  }
}

async function start() {
  if (typeof WebAssembly !== "object") throw new Error("This page needs a browser with WebAssembly.");
  if (location.protocol === "file:") throw new Error("This page must be served, for example by: python -m http.server");
  const models = await (await fetch("models.json")).json();
  for (const [family, [title]] of Object.entries(FAMILIES)) {
    const members = models.filter((model) => model.family === family);
    if (!members.length) continue;
    const buttons = members.map((model) => {
      const size = make("small", {}, ` ${toMegabytes(model.bytes)}`);
      const opener = button(model.name, () => open(model, opener), { "aria-pressed": false, "data-model": model.name });
      opener.append(size);
      return opener;
    });
    document.getElementById("models").append(make("h2", {}, title), make("div", { class: "buttons" }, ...buttons));
  }
  if (models.length === 1) document.querySelector("nav button").click();
}

addEventListener("unhandledrejection", (event) => fail(event.reason));
start().catch(fail);
