// People tell real images from generated ones; guessing gives a half.
import { canvas, draw, make } from "./elements.js";

const Z = 1.959964; // of a normal distribution's central 95%

/** Returns the interval of a share, of `right` out of `count` (Wilson 1927), at 95%. */
export function wilson(right, count) {
  const share = right / count, shrink = 1 + Z ** 2 / count;
  const middle = (share + Z ** 2 / (2 * count)) / shrink;
  const reach = (Z / shrink) * Math.sqrt((share * (1 - share)) / count + Z ** 2 / (4 * count ** 2));
  return [Math.max(0, middle - reach), Math.min(1, middle + reach)];
}

const panel = document.getElementById("panel"), status = document.getElementById("status");
const percent = (share) => `${Math.round(100 * share)}%`;

async function start() {
  const { shape, pairs, real } = await (await fetch("pairs.json")).json();
  let index = 0, right = 0;
  function show() {
    if (index === pairs.length) return end();
    status.textContent = `Pair ${index + 1} of ${pairs.length}`;
    panel.replaceChildren(make("div", { class: "row" }, ...pairs[index].map((pixels, side) => {
      const target = canvas(shape, side ? "The right image" : "The left image");
      draw(target, Float32Array.from(atob(pixels), (letter) => letter.charCodeAt(0) / 127.5 - 1), shape);
      return make("button", { type: "button", onclick: () => answer(side), "aria-label": side ? "The right one is real" : "The left one is real" }, target);
    })));
  }
  function answer(side) {
    if (index === pairs.length) return;
    right += side === real[index];
    index += 1;
    show();
  }
  function end() {
    const [low, high] = wilson(right, pairs.length);
    status.textContent = "";
    const verdict = low > 0.5 ? "You can tell them apart." : high < 0.5 ? "You took the generated ones for real."
      : "That is no better than guessing, as far as so few answers tell.";
    panel.replaceChildren(make("h2", {}, `${right} of ${pairs.length} right`),
      make("p", {}, `${percent(right / pairs.length)}, 95% interval ${percent(low)} to ${percent(high)} (Wilson 1927); guessing gives 50%. ${verdict}`));
    panel.dataset.right = right;
    panel.dataset.interval = `${low} ${high}`;
  }
  addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") answer(0);
    if (event.key === "ArrowRight") answer(1);
  });
  show();
}

start().catch((error) => {
  status.className = "error";
  status.textContent = error.message;
});
