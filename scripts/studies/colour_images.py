"""Writes colour images of 64 x 64 pixels to try recipes on: the clothes of the sample, dyed, before a coloured wall.

    python scripts/studies/colour_images.py colour-images
    genhub train autoencoder-kl --data.source colour-images --data.padding 0

The folder has a subfolder for each class in `train` and `test`, as `genhub train` reads images of one's own.
"""

import argparse
import colorsys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from genhub.data import DataConfig, Images, load

SIZE, PIECE = 64, 56  # of an image and of the piece of clothing in it, in pixels


def write_images(folder: Path, seed: int = 0) -> None:
    """Writes the images of both splits, a PNG file each.

    Raises:
        ValueError: `folder` exists.
    """
    if folder.exists():
        raise ValueError(f"The folder {folder} must not exist yet.")
    random = np.random.default_rng(seed)
    for split in ("train", "test"):
        images = load(DataConfig(source="sample", val_size=0), split)
        assert isinstance(images, Images)
        assert images.labels is not None
        assert images.class_names is not None
        names = [name.partition("/")[0].lower().replace(" ", "-") for name in images.class_names]
        for name in names:
            (folder / split / name).mkdir(parents=True)
        labels = images.labels.tolist()
        for index, (pixels, label) in enumerate(zip(images.images[:, 0].numpy(), tqdm(labels, split), strict=True)):
            dye(pixels, random).save(folder / split / names[label] / f"{index:05}.png")


def dye(pixels: np.ndarray, random: np.random.Generator) -> Image.Image:
    """Returns a grey image, uint8 (H, W), enlarged, in a random colour before a wall that is lit from above."""
    cloth, wall = (
        np.array(colorsys.hsv_to_rgb(random.random(), *saturation)) for saturation in ((0.8, 1), (0.4, 0.7))
    )
    piece = Image.fromarray(pixels).resize((PIECE, PIECE), Image.Resampling.BICUBIC)
    grey = Image.new("L", (SIZE, SIZE))
    left, top = random.integers(0, SIZE - PIECE + 1, 2)
    grey.paste(piece, (int(left), int(top)))
    value = np.asarray(grey, np.float32)[..., None] / 255  # (H, W, 1)
    shown = np.clip(value / 0.15, 0, 1)  # 1 in the piece, 0 in the wall
    light = np.linspace(1.1, 0.7, SIZE)[:, None, None]
    colour = shown * (0.15 + 0.85 * value) * cloth + (1 - shown) * light * wall
    return Image.fromarray(np.round(255 * np.clip(colour, 0, 1)).astype(np.uint8))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the images; must not exist yet")
    write_images(parser.parse_args().folder)


if __name__ == "__main__":
    main()
