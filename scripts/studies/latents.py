"""Where do latents pay? Trains in pixels and in latents for as many minutes of one thread. Writes docs/latents.

    python scripts/studies/colour_images.py colour-images
    python scripts/studies/latents.py colour-images docs/latents

The time in latents is that of the autoencoder and of the model on them. The images have one size, divisible
by 8. Quality is the Fréchet distance to the test images in the features of a classifier of these images,
which is trained first. What is measured already is not measured again.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from cpu_minutes import Judge, Report

from genhub import plotting
from genhub.data import DataConfig, Images, load
from genhub.evaluation.latents import find_autoencoder, reconstruct_by
from genhub.evaluation.metrics import Gaussian, frechet_distance
from genhub.evaluation.sampling import sample
from genhub.repository.load import AutoPipeline
from genhub.training.feature_classifier import feature_spaces
from genhub.utils.cache import content_hash

RECIPES = {"pixels": "conditional-ddpm", "latents": "latent-ddpm"}
SHARE = 0.5  # of the minutes, for the autoencoder
SHOWN = 40  # images of a picture


def write_report(source: str, folder: Path, minutes: float, count: int, runs: Path) -> dict[str, Any]:
    """Measures what is missing in the report in `folder`, and writes it after each run.

    Args:
        minutes: of one thread, for each way.
        count: number of generated images.
    """
    config = DataConfig(source=source, val_size=0)
    train, test = load(config, "train"), load(config, "test")
    assert isinstance(train, Images)
    assert isinstance(test, Images)
    (space,) = feature_spaces(train, config, None, Accelerator())
    judge = Judge(train, test, space, count)
    settings: dict[str, Any] = {"data": content_hash(train.images), "count": count, "minutes": minutes}
    settings |= {"size": test.images.shape[-1], "tested": len(test)}
    report = Report(folder, settings, markdown)
    report.content |= {"floor": judge.floor()}
    rows: dict[str, Any] = report.content["rows"]
    for name in RECIPES:
        if name not in rows:
            rows[name] = measure(judge, name, source, minutes, runs)
            print(name, rows[name], flush=True)
            report.save()
    for name, recipe in RECIPES.items():
        images = sample(AutoPipeline.from_pretrained(runs / recipe), SHOWN, seed=0)
        (folder / f"{name}.png").write_bytes(plotting.png(plotting.grid(images, columns=10)))
    return report.content


def measure(judge: Judge, name: str, source: str, minutes: float, runs: Path) -> dict[str, Any]:
    """Trains in pixels or in latents, and returns the row."""
    overrides: dict[str, Any] = {"data.source": source, "data.val_size": 500}
    if name == "pixels":
        return judge(RECIPES[name], runs / RECIPES[name], minutes, overrides)
    overrides |= {"data.padding": 0}
    first, second = round(SHARE * minutes, 2), round((1 - SHARE) * minutes, 2)
    judge.train_recipe("autoencoder-kl", runs / "autoencoder-kl", first, overrides)
    overrides |= {"components.vae.from": f"{runs / 'autoencoder-kl'}/autoencoder"}
    row = judge(RECIPES[name], runs / RECIPES[name], second, overrides)
    autoencoder: Any = find_autoencoder(AutoPipeline.from_pretrained(runs / RECIPES[name]).components.values())
    copies = judge.space(reconstruct_by(autoencoder, judge.held_out))
    bound = round(frechet_distance(judge.real, Gaussian.fit(copies)), 3)
    return row | {"autoencoder_minutes": first, "reconstructions": bound}


def markdown(report: dict[str, Any]) -> str:
    """Renders the report."""
    rows = report["rows"]
    lines = [
        f"# Pixels and latents at {report['size']} pixels",
        "",
        f"Both ways were trained for {report['minutes']:g} minutes of one thread of an {report['device']}, once.",
        f"FD of {report['count']:,} generated images to {report['tested']:,} test images in the features of a",
        f"classifier of these images; that of as many training images is {report['floor']:.2f}. Written by",
        "`scripts/studies/latents.py`.",
        "",
        "| trained in | images seen | FD | FD of reconstructions |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        bound = f"{row['reconstructions']:.2f}" if "reconstructions" in row else ""
        lines.append(f"| {name} | {row['images']:,} | {[*row['distances'].values()][-1]:.2f} | {bound} |")
    if "latents" in rows:
        lines += ["", f"{rows['latents']['autoencoder_minutes']:g} minutes of the latents' went into the autoencoder."]
    for name in rows:
        lines += ["", f"In {name}:", "", f"![images]({name}.png)"]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="images of one's own, as data.source of a recipe")
    parser.add_argument("folder", type=Path, help="of the report")
    parser.add_argument("--minutes", type=float, default=30.0, help="of one thread, for each way (default: 30)")
    parser.add_argument("--count", type=int, default=1000, help="generated images of each row (default: 1,000)")
    parser.add_argument("--runs", type=Path, default=Path("runs/latents"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(markdown(write_report(options.source, options.folder, options.minutes, options.count, options.runs)))


if __name__ == "__main__":
    main()
