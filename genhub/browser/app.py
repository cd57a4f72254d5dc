"""A demo of the pipeline in `model/`, with a tab for each thing that the pipeline declares it can do.

This file is the `app.py` of a Space; it needs gradio, diffusers and what the pipeline itself needs.
"""

import base64
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

MODEL = Path(__file__).parent / "model"
SCALE = 5  # pixels on the screen for one of an image
FOUND = 8  # images of a search


def enlarge(image: Image.Image) -> Image.Image:
    return image.resize((SCALE * image.width, SCALE * image.height), Image.Resampling.NEAREST)


def class_names(pipe: Any) -> list[str]:
    """Returns the names of the classes; none of an unconditional pipeline."""
    networks = [part.config for part in pipe.components.values() if hasattr(part, "config")]
    count = pipe.config.get("num_classes") or max((c.get("num_class_embeds") or 0 for c in networks), default=0)
    names = pipe.config.get("id2label") or {}
    return [names.get(str(number), str(number)) for number in range(count)]


def labels_of(pipe: Any, label: str | None) -> dict[str, int]:
    """Returns the argument of a call that asks for a class by its name; none of a pipeline that knows none."""
    names = class_names(pipe)
    return {"class_labels": names.index(label)} if label in names else {}


def network_of(pipe: Any) -> Any:
    """Returns the network that makes images."""
    return next(getattr(pipe, name) for name in ("generator", "vae", "autoencoder") if getattr(pipe, name, None))


def fit(pipe: Any, image: Image.Image) -> Image.Image:
    """Returns an image in the size and the colours of a pipeline's."""
    config = (pipe.unet if hasattr(pipe, "unet") else network_of(pipe)).config
    factor = getattr(pipe, "vae_scale_factor", 1) if hasattr(pipe, "unet") else 1
    size = config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    channels = getattr(pipe, "image_channels", None) or config.get("in_channels") or config["out_channels"]
    return image.convert("L" if channels == 1 else "RGB").resize((width * factor, height * factor))


def seeded(seed: float) -> torch.Generator:
    return torch.Generator().manual_seed(int(seed))


def generate(pipe: Any, count: float, seed: float, label: str | None, **arguments: Any) -> list[Image.Image]:
    """Returns the images of a call."""
    names = class_names(pipe)
    if label in names:
        arguments["class_labels"] = [names.index(label)] * int(count)
    else:
        arguments.pop("guidance_scale", None)
    if "num_inference_steps" in arguments:
        arguments["num_inference_steps"] = int(arguments["num_inference_steps"])
    call = {"generator": seeded(seed), **arguments}
    return [enlarge(image) for image in pipe(batch_size=int(count), **call).images]


def interpolate(pipe: Any, first: float, second: float, label: str | None) -> list[Image.Image]:
    """Returns images from one seed's latents to another's."""
    length, labels = network_of(pipe).config["latent_channels"], labels_of(pipe, label)
    ends = [torch.randn(1, length, generator=seeded(seed)) for seed in (first, second)]
    if hasattr(pipe, "generator"):
        return [enlarge(i) for i in pipe.interpolate(*ends, generator=seeded(0), **labels).images]
    between = ends[0] + torch.linspace(0, 1, 7)[:, None] * (ends[1] - ends[0])
    return [enlarge(image) for image in pipe.decode(between, **labels).images]


def mix(pipe: Any, seed: float, first: float, last: float) -> list[Image.Image]:
    """Returns nine images with styles of three others in layers first..last."""
    latents = torch.randn(6, network_of(pipe).config["latent_channels"], generator=seeded(seed))
    mixed = pipe.mix(latents[:3], latents[3:], layers=(int(first), int(last) + 1), generator=seeded(0))
    return [enlarge(image) for image in mixed.images]


def decode_at(pipe: Any, x: float, y: float, label: str | None) -> list[Image.Image]:
    """Returns the image at a place in the plane of the first two latents."""
    latents = torch.zeros(1, pipe.vae.config["latent_channels"])
    latents[0, 0], latents[0, 1] = x, y
    return [enlarge(pipe.decode(latents, **labels_of(pipe, label)).images[0])]


def reconstruct(pipe: Any, image: Image.Image | None, noise: float, label: str | None) -> list[Image.Image]:
    """Returns an image with noise, and its reconstruction."""
    if image is None:
        return []
    labels = labels_of(pipe, label) if hasattr(pipe, "vae") else {}
    pixels = np.asarray(fit(pipe, image), np.float32) / 255
    pixels = (pixels + noise * np.random.default_rng(0).standard_normal(pixels.shape)).clip(0, 1)
    noisy = Image.fromarray((pixels * 255).round().astype(np.uint8))
    return [enlarge(noisy), enlarge(pipe.reconstruct(noisy, **labels).images[0])]


def read_examples(file: Path) -> list[Image.Image]:
    """Returns the images of a file that holds their shape and, in base64, their pixels."""
    stored = json.loads(file.read_text(encoding="utf-8"))
    pixels = np.frombuffer(base64.b64decode(stored["pixels"]), np.uint8).reshape(stored["shape"])
    return [Image.fromarray(image) for image in pixels]


def search(pipe: Any, examples: list[Image.Image], image: Image.Image | None) -> list[tuple[Image.Image, str]]:
    """Returns the examples whose codes are nearest to an image's, with the distances: of hashes in bits."""
    if image is None:
        return []
    codes, query = pipe.encode([fit(pipe, example) for example in examples]), pipe.encode(fit(pipe, image))
    is_hash = "hash" in pipe.tasks
    distances = (codes.round() - query.round() if is_hash else codes - query).square().sum(1)
    nearest = distances.sort(stable=True).indices[:FOUND].tolist()
    shown = [f"{int(distances[i])} bits" if is_hash else f"distance {distances[i].sqrt():.2f}" for i in nearest]
    return [(enlarge(examples[index]), text) for index, text in zip(nearest, shown, strict=True)]


def repaint(pipe: Any, edited: dict[str, Any] | None, seed: float, label: str | None) -> list[Image.Image]:
    """Returns an image whose brushed part is made anew."""
    if not edited or edited["background"] is None:
        return []
    labels = labels_of(pipe, label)
    image = fit(pipe, edited["background"])
    alphas = [layer.convert("RGBA").getchannel("A").resize(image.size) for layer in edited["layers"]]
    mask = np.max([np.asarray(alpha) > 0 for alpha in alphas], axis=0) if alphas else np.zeros(image.size[::-1], bool)
    marked = Image.fromarray((255 * mask).astype(np.uint8))
    return [enlarge(i) for i in pipe(image=image, mask_image=marked, generator=seeded(seed), **labels).images]


def sampling_sliders(gr: Any, pipe: Any) -> dict[str, Any]:
    """Returns the sliders of those arguments of a call that the pipeline declares."""
    declared, sliders = set(getattr(pipe, "sampling_arguments", ())), {}
    if "num_inference_steps" in declared:
        steps = pipe.config.get("num_inference_steps") or 50
        sliders["num_inference_steps"] = gr.Slider(1, 100, steps, step=1, label="Sampling steps", render=False)
    if "guidance_scale" in declared and getattr(pipe, "has_null_class", False):
        scale = pipe.config.get("guidance_scale") or 1.0
        sliders["guidance_scale"] = gr.Slider(1, 5, scale, step=0.25, label="Guidance", render=False)
    if "truncation" in declared and (pipe.has_styles or not pipe.generator.has_normalized_latents):
        sliders["truncation"] = gr.Slider(0, 1, 1, step=0.05, label="Truncation", render=False)
    return sliders


def tabs(gr: Any, pipe: Any, examples: list[Image.Image]) -> list[tuple[str, Any, list]]:
    """Returns the name of each tab, its function and its controls; `examples` are images to be searched."""
    names, tasks, inputs = class_names(pipe), set(pipe.tasks), set(getattr(pipe, "inputs", ()))
    sliders = sampling_sliders(gr, pipe)

    def seed(label: str = "Seed", value: int = 0) -> Any:
        return gr.Number(value, label=label, precision=0, minimum=0, render=False)

    def slider(low: float, high: float, value: float, step: float, label: str) -> Any:
        return gr.Slider(low, high, value, step=step, label=label, render=False)

    def classes() -> Any:
        return gr.Dropdown(names or [""], value=(names or [""])[0], label="Class", visible=bool(names), render=False)

    def call(pipe: Any, count: float, seed: float, label: str, *values: Any) -> list[Image.Image]:
        return generate(pipe, count, seed, label, **dict(zip(sliders, values, strict=True)))

    found: list[tuple[str, Any, list]] = []
    if "generate" in tasks:
        found.append(("Generate", call, [slider(1, 32, 8, 1, "Images"), seed(), classes(), *sliders.values()]))
    if "interpolate" in tasks:
        found.append(("Interpolate", interpolate, [seed("First seed"), seed("Second seed", 1), classes()]))
    if "mix" in tasks:
        last = pipe.generator.layers_in_use - 1
        layers = [slider(0, last, 0, 1, "First layer"), slider(0, last, 1, 1, "Last layer")]
        found.append(("Mix styles", mix, [seed(), *layers]))
    if "manifold" in tasks:
        found.append(("Plane", decode_at, [slider(-3, 3, 0, 0.05, "x"), slider(-3, 3, 0, 0.05, "y"), classes()]))
    if "reconstruct" in tasks:
        image = gr.Image(type="pil", label="Image", render=False)
        found.append(("Reconstruct", reconstruct, [image, slider(0, 1, 0, 0.05, "Noise"), classes()]))
    if "encode" in tasks and "image" in inputs and examples:
        image = gr.Image(type="pil", label="Image", render=False)
        found.append(("Search", lambda pipe, image: search(pipe, examples, image), [image]))
    if "mask_image" in inputs and "outpaint" in tasks:
        editor = gr.ImageEditor(type="pil", label="Brush over what is made anew", render=False)
        found.append(("Repaint", repaint, [editor, seed(), classes()]))
    return found


def build(pipe: Any, title: str, examples: list[Image.Image]) -> Any:
    """Returns the demo of a pipeline, with a tab for each of its tasks, and one to search `examples` if it encodes."""
    import gradio as gr  # pyright: ignore

    with gr.Blocks(title=title, analytics_enabled=False) as demo:
        gr.Markdown(f"# {title}")
        for name, function, controls in tabs(gr, pipe, examples):
            with gr.Tab(name):
                for control in controls:
                    control.render()
                gallery = gr.Gallery(label="Images", columns=8, height="auto", format="png")
                act = functools.partial(function, pipe)
                address = name.lower().replace(" ", "_")
                gr.Button(name, variant="primary").click(act, controls, gallery, api_name=address)
    return demo


if __name__ == "__main__":
    model = DiffusionPipeline.from_pretrained(str(MODEL), trust_remote_code=True)
    build(model, MODEL.parent.name, read_examples(MODEL.parent / "examples.json")).launch()
