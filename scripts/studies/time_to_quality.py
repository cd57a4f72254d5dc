"""How good is a diffusion model after so many minutes of one processor? Writes docs/time-to-quality.

    python scripts/studies/time_to_quality.py FASHION_MNIST docs/time-to-quality --minutes 1 2 6 20 60

Trains `conditional-ddpm` and, on the same machine in the same run, the recipe of diffusers'
`examples/unconditional_image_generation/train_unconditional.py` with its defaults, but for 32 x 32 pixels and the
moving average, which is switched on: a U-Net of 113 M parameters, batches of 16, AdamW 1e-4 with 500 steps of warm-up,
noise prediction, linear schedule. It is sampled in 20 steps of DPM-Solver++, as 1,000 ancestral ones would take days,
and makes fewer images, each of which takes seconds. So the report also has the distance of as many training images.
Each budget is a training run of its own. What is measured already is not measured again.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from cpu_minutes import Judge, Report
from datasets import Dataset, Features, Image
from PIL import Image as Picture

from genhub.data import DataConfig, Images, load
from genhub.evaluation.protocol import PADDING

DIFFUSERS: dict[str, Any] = {
    "components": {
        "unet": {
            "class": "diffusers.UNet2DModel",
            "layers_per_block": 2,
            "block_out_channels": [128, 128, 256, 256, 512, 512],
            "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
        },
        "scheduler": {
            "class": "diffusers.DPMSolverMultistepScheduler",
            "num_train_timesteps": 1000,
            "beta_schedule": "linear",
            "beta_start": 1e-4,
            "beta_end": 0.02,
        },
    },
    "objective": {"class": "genhub.objectives.NoisePrediction", "loss": "mse"},
    "optimizers": {
        "unet": {
            "class": "torch.optim.AdamW",
            "lr": 1e-4,
            "betas": [0.95, 0.999],
            "weight_decay": 1e-6,
            "schedule": {"class": "diffusers.optimization.get_cosine_schedule_with_warmup", "num_warmup_steps": 500},
        }
    },
    "pipeline": {"class": "genhub.CosineDDPMPipeline", "num_inference_steps": 20},
    "training.batch_size": 16,
    "training.epochs": 100,
    "training.ema": {"unet": 0.9999},
}
CONTESTANTS: dict[str, tuple[str, dict[str, Any], int]] = {  # name -> recipe, overrides, number of images
    "genhub, `conditional-ddpm`": ("conditional-ddpm", {}, 2000),
    "diffusers, `train_unconditional.py`": ("ddpm-best", DIFFUSERS, 300),
}


def write_report(source: str, folder: Path, minutes: list[float], names: list[str], runs: Path) -> dict[str, Any]:
    """Measures what is missing in the report in `folder`, and writes it after each run.

    Args:
        minutes: budgets, of one thread.
        names: of `CONTESTANTS`.
    """
    report, judges = (
        Report(folder, {}, markdown),
        {name: Judge.of_fashion_mnist(source, CONTESTANTS[name][2]) for name in names},
    )
    floors = {name: {"count": judge.count, "distance": judge.floor()} for name, judge in judges.items()}
    report.content["floors"] = report.content.get("floors", {}) | floors
    for budget, name in itertools.product(minutes, names):
        recipe, overrides, _ = CONTESTANTS[name]
        rows, judge = report.content["rows"].setdefault(name, {}), judges[name]
        if f"{budget:g}" not in rows:
            data = padded(source, runs / "padded") if recipe == "ddpm-best" else source
            overrides = {"data.source": str(data)} | overrides
            rows[f"{budget:g}"] = judge(recipe, runs / f"{recipe}-{budget:g}", budget, overrides)
            print(name, budget, rows[f"{budget:g}"], flush=True)
        report.save()
    return report.content


def padded(source: str, folder: Path) -> Path:
    """Writes the training images with black edges, 32 x 32 pixels, which six levels can halve; returns the folder."""
    if not folder.is_dir():
        images = load(DataConfig(source=source), "train")
        assert isinstance(images, Images)
        pixels = F.pad(images.images, [PADDING] * 4)[:, 0].numpy()
        rows = {"image": [Picture.fromarray(image) for image in pixels]}
        folder.mkdir(parents=True)
        Dataset.from_dict(rows, features=Features({"image": Image()})).to_parquet(folder / "train.parquet")
    return folder


def markdown(report: dict[str, Any]) -> str:
    """Renders the report."""
    budgets = sorted({budget for rows in report["rows"].values() for budget in rows}, key=float)
    lines = [
        "# Quality against minutes",
        "",
        "FD-FM of generated images to the 5,000 held-out images of Fashion MNIST after so many minutes of one thread",
        f"of an {report['device']}, in brackets the images seen; one seed. genhub's model samples",
        "in its 10 calls with guidance, that of diffusers in 20 calls of DPM-Solver++. A distance of fewer images is",
        "larger, so the last column is that of as many training images. Written by",
        "`scripts/studies/time_to_quality.py`.",
        "",
        f"| recipe | images | {' | '.join(f'{budget} min' for budget in budgets)} | training images |",
        "|---" * (len(budgets) + 3) + "|",
    ]
    for name, rows in report["rows"].items():
        cells = [
            f"{[*rows[b]['distances'].values()][-1]:.2f} ({rows[b]['images']:,})" if b in rows else "" for b in budgets
        ]
        floor = report["floors"][name]
        lines.append(f"| {' | '.join([name, str(floor['count']), *cells, format(floor['distance'], '.2f')])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", help="Fashion MNIST, as data.source of a recipe")
    parser.add_argument("output", type=Path, help="folder of the report")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 2.0, 6.0, 20.0, 60.0])
    parser.add_argument("--recipes", nargs="+", default=[*CONTESTANTS], choices=[*CONTESTANTS], metavar="RECIPE")
    parser.add_argument("--runs", type=Path, default=Path("runs/time-to-quality"))
    options = parser.parse_args()
    write_report(options.source, options.output, options.minutes, options.recipes, options.runs)
