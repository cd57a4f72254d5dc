"""Draws nine published models, sixteen images each: `python scripts/studies/families.py docs/families.png`."""

import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import genhub
from genhub import plotting
from genhub.data import DataConfig, load

CARDS = Path(__file__).parents[2] / "model_cards"
SIDE, GAP = 232, 12  # pixels of a panel, and between panels
CLASSES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5]
PROMPTS = ["a dark dress", "a bright bag", "a narrow trouser", "an ankle boot"]


def denoised(pipe) -> torch.Tensor:
    """Returns 4 x 4 images: in turns a row of noisy test images (deviation 0.2), and the row that is made of it."""
    images = load(DataConfig(source="sample"), "test").images[:8] / 255
    noisy = (images + 0.2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    made = pipe.denoise(noisy, output_type="pt").images
    return torch.cat([noisy[:4], made[:4], noisy[4:], made[4:]])


def found(pipe) -> torch.Tensor:
    """Returns 4 x 4 images: in each row a test image, and the three training images of the nearest codes."""
    train, test = (load(DataConfig(source="sample"), split).images / 255 for split in ("train", "test"))
    pipe.index(train)
    nearest = pipe.search(test[:4], num_images=3).indices
    return torch.cat([torch.cat([test[row : row + 1], train[nearest[row]]]) for row in range(4)])


def copied(pipe) -> torch.Tensor:
    """Returns 4 x 4 images: in turns a row of test images and its copies."""
    images = load(DataConfig(source="sample"), "test").images[8:16] / 255
    made = pipe.reconstruct(images, output_type="pt").images
    return torch.cat([images[:4], made[:4], images[4:], made[4:]])


def plane(pipe) -> torch.Tensor:
    return pipe.manifold(num_images=16, output_type="pt").images


def sampled(pipe) -> torch.Tensor:
    asked: dict[str, Any] = {"batch_size": 16}
    if "text_encoder" in pipe.components:
        asked = {"prompt": PROMPTS * 4, "num_inference_steps": 20, "guidance_scale": 2.0}  # as its recipe has it
    elif pipe.components.keys() & {"unet", "generator"} and getattr(pipe.config, "id2label", None):
        asked["class_labels"] = CLASSES
    images = pipe(**asked, generator=torch.Generator().manual_seed(0), output_type="pt").images
    return images[:, :1]  # Stable Diffusion answers in three equal channels


PANELS = {  # published model -> what is shown of it
    "denoising-gaussian-ae": denoised,
    "recurrent-ae": copied,
    "hashing-ae": found,
    "vae-best": sampled,
    "conv-vae-mnist": plane,
    "gan": sampled,
    "stylegan": sampled,
    "conditional-ddpm": sampled,
    "text-to-image": sampled,
}


def panel(name: str) -> Image.Image:
    """Returns the images of a published model, under its name."""
    images = PANELS[name](genhub.AutoPipeline.from_pretrained(str(CARDS / name)))
    sheet = plotting.grid(images.cpu().float(), columns=4).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return plotting.add_title(sheet, name)


def picture() -> Image.Image:
    panels = [panel(name) for name in PANELS]
    width, height = panels[0].size
    sheet = Image.new("L", (3 * width + 2 * GAP, 3 * height + 2 * GAP), 255)
    for index, one in enumerate(panels):
        sheet.paste(one, (index % 3 * (width + GAP), index // 3 * (height + GAP)))
    return sheet


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(plotting.png(picture()))
