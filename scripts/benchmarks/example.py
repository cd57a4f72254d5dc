"""genhub against the steps of diffusers' example for unconditional generation."""

import tempfile
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from benchmarks.loop import Contestant
from benchmarks.turns import in_turns
from diffusers import DDPMScheduler
from torch.utils.data import DataLoader

from genhub import data, recipes
from genhub.data.sources import open_splits
from genhub.recipes.recipe import Recipe


class UnconditionalExample:
    """What diffusers' examples/unconditional_image_generation/train_unconditional.py does at its defaults: each image
    decoded by pillow when it is wanted, a `DataLoader`, float32, its noise schedule, AdamW, clipping."""

    def __init__(self, recipe: Recipe, images: data.Images, dataset, steps: int):
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator()
        unet = recipe.build_components(images.shape)["unet"]
        optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
        size = (images.shape.width, images.shape.height)

        def transform(examples):
            pictures = [image.resize(size) for image in examples["image"]]
            pixels = [
                torch.from_numpy(np.array(p)).float().div(255).sub(0.5).div(0.5).reshape(-1, *size) for p in pictures
            ]
            return {"input": pixels}

        loader = DataLoader(dataset.with_transform(transform), batch_size=recipe.training.batch_size, shuffle=True)
        self.unet, self.optimizer, self.loader = accelerator.prepare(unet, optimizer, loader)
        self.accelerator, self.scheduler, self.steps = accelerator, DDPMScheduler(1000), steps
        self.batches = iter(self.loader)

    def step(self) -> float:
        start = time.perf_counter()
        for _ in range(self.steps):
            batch = next(self.batches, None)
            if batch is None:
                self.batches = iter(self.loader)
                batch = next(self.batches)
            clean = batch["input"]
            noise = torch.randn(clean.shape)
            t = torch.randint(0, 1000, (len(clean),))
            loss = torch.nn.functional.mse_loss(
                self.unet(self.scheduler.add_noise(clean, noise, cast(torch.IntTensor, t)), t).sample.float(), noise
            )
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.unet.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            loss.item()
        return (time.perf_counter() - start) / self.steps


def benchmark_example(source: str, name: str, rounds: int, steps: int):
    """Prints the images per second of both, with the same U-Net and batch."""
    config = data.DataConfig(source=source, val_size=0)
    unconditional: dict[str, object] = {"components.unet.num_class_embeds": None}  # the example knows no labels
    recipe, images = recipes.load(name, unconditional), cast(data.Images, data.load(config))
    dataset = open_splits(config)["train"]
    with tempfile.TemporaryDirectory() as folder:
        ours = Contestant(name, source, Path(folder) / "run", compiled=False, overrides=unconditional)
        theirs = UnconditionalExample(recipe, images, dataset, steps)
        seconds = in_turns({"example": theirs.step, "genhub": ours.by_loop}, rounds)
    size = recipe.training.batch_size
    print(
        f"\nAgainst the steps of diffusers' train_unconditional.py, same U-Net, batch {size}: "
        f"{size / seconds['example']:.1f} and {size / seconds['genhub']:.1f} images/s, "
        f"{seconds.times('example', 'genhub'):.2f} x"
    )
