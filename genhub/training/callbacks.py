"""What a run does every so many steps besides training: validate, sample, measure quality, save."""

import io
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from genhub import plotting
from genhub.data import Images, Latents
from genhub.evaluation.monitor import QualityMonitor
from genhub.objectives.objective import Objective, Step
from genhub.recipes.configs import EvaluationConfig
from genhub.training.distributed import all_reduce
from genhub.training.export import Exporter
from genhub.training.run_folder import RunFolder
from genhub.training.state import Progress, State
from genhub.utils.modules import evaluation_mode
from genhub.utils.randomness import BatchRandom

VALIDATION_BATCH = 250
RECONSTRUCTED, ENCODED = 16, 1000  # held-out images that a run shows and encodes again and again


class Callback:
    """Called on all processes after every `every` steps; 0 means never.

    Attributes:
        sees_start: whether it is also called before the first step.
    """

    every: int
    sees_start = False

    def is_due(self, steps: int) -> bool:
        return self.every > 0 and steps % self.every == 0 and (steps > 0 or self.sees_start)

    def __call__(self, progress: Progress):
        raise NotImplementedError


class Validate(Callback):
    """Logs the losses on held-out images, with the averaged weights if the recipe keeps them.

    Args:
        batch_size: images at a time: those of training for a network that looks at its batch.
    """

    def __init__(
        self,
        every: int,
        objective: Objective,
        held_out: Images | Latents,
        exporter: Exporter,
        folder: RunFolder,
        accelerator: Accelerator,
        batch_size: int = VALIDATION_BATCH,
        seed: int = 0,
    ):
        self.every, self.objective, self.held_out, self.exporter = every, objective, held_out, exporter
        self.folder, self.accelerator, self.batch_size, self.seed = folder, accelerator, batch_size, seed

    def __call__(self, progress: Progress) -> dict[str, float]:
        with self.exporter.averaged_weights(), unwrapped_evaluation(self.objective, self.accelerator):
            losses = self.measure()
        losses = {f"val_{name}": value for name, value in losses.items()}
        self.folder.log({"step": progress.total_steps} | losses)
        return losses

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Returns the mean of each loss over the held-out images, with the same random numbers every time."""
        accelerator, count = self.accelerator, len(self.held_out)
        held_out, sums = self.held_out.to(accelerator.device), {}
        for start in range(0, count, self.batch_size):
            total = min(self.batch_size, count - start)
            bounds = [total * rank // accelerator.num_processes for rank in range(accelerator.num_processes + 1)]
            rows = range(bounds[accelerator.process_index], bounds[accelerator.process_index + 1])
            if not rows:
                continue
            random = BatchRandom("validation", self.seed, start, rows=rows, total=total, device=accelerator.device)
            batch = held_out.batch(slice(start + rows.start, start + rows.stop))
            for name, value in self.objective.validate(batch, Step(0, 0.0, random)).items():
                sums[name] = sums.get(name, 0) + value.float() * len(rows)
        names = sorted(sums)
        row = all_reduce(torch.stack([sums[name] for name in names]), accelerator, "sum") / count
        return dict(zip(names, row.tolist(), strict=True))


class DrawSamples(Callback):
    """Records, on the main process, how a model learns, from the untrained one on: images of fixed seeds in
    `training/samples`; of a model that generates and encodes also the reconstructions of the same held-out images in
    `training/reconstructions`; of any model that encodes the codes of the first held-out images, float16 (N, L), in
    `training/codes`."""

    sees_start = True

    def __init__(self, every: int, exporter: Exporter, folder: RunFolder, accelerator: Accelerator):
        self.every, self.exporter, self.folder, self.accelerator = every, exporter, folder, accelerator

    def __call__(self, progress: Progress):
        if self.accelerator.is_main_process:
            try:
                self.record(progress.total_steps)
            except ValueError as error:  # not finite: that may pass
                tqdm.write(f"Warning, step {progress.total_steps}: no samples. {error}", file=sys.stderr)
        self.accelerator.wait_for_everyone()

    def record(self, step: int):
        """Writes a file of each kind that the model can show."""
        exporter = self.exporter
        if exporter.makes_images:
            self.folder.save_record("samples", step, draw(exporter.samples()[0]))
        if not exporter.encodes:
            return
        if exporter.generates:
            self.folder.save_record("reconstructions", step, draw(exporter.reconstruct(RECONSTRUCTED)))
        codes, file = exporter.codes(ENCODED), io.BytesIO()
        np.save(file, codes.half().numpy())
        self.folder.save_record("codes", step, file.getvalue(), ".npy")


def draw(images: torch.Tensor) -> bytes:
    """Returns images (N, C, H, W) in [0, 1] as a PNG file of eight columns."""
    return plotting.png(plotting.grid(images, columns=8))


class SaveCheckpoint(Callback):
    """Saves the state of the run; returns the checkpoint's path."""

    def __init__(self, every: int, state: State, folder: RunFolder):
        self.every, self.state, self.folder = every, state, folder

    def __call__(self, progress: Progress) -> Path:
        return self.folder.save_checkpoint(self.state, progress)


class MonitorQuality(Callback):
    """Logs the kernel distance of generated images and the share near to training images; keeps the best repository in
    `training/best`, and in `training/healthy` the last one, with a checkpoint, of an adversarial game without a
    failure mode."""

    def __init__(
        self,
        config: EvaluationConfig,
        monitor: QualityMonitor,
        objective: Objective,
        state: State,
        exporter: Exporter,
        folder: RunFolder,
        accelerator: Accelerator,
    ):
        self.every, self.config, self.monitor, self.objective = config.every, config, monitor, objective
        self.state, self.exporter, self.folder, self.accelerator = state, exporter, folder, accelerator

    def __call__(self, progress: Progress):
        value, shares = self.measure()
        self.folder.log({"step": progress.total_steps, self.monitor.name: value, **shares})
        row = {"name": self.monitor.name, "value": value, "split": "val", "images": self.monitor.images, "seeds": 1}
        results = [row | {"generated": self.config.count}]
        if self.config.keep_best:
            self.keep_best(value, results)
        if self.objective.has_diagnostics:
            self.keep_healthy(progress, results, is_finite=math.isfinite(value))

    def measure(self) -> tuple[float, dict[str, float]]:
        """Returns the distance, nan if images are not finite, and the shares of images that are near to training
        images and, for diagnostics, of each class."""
        try:
            images = self.exporter.generate(self.config.count, self.config.arguments)
        except ValueError:  # not finite: that may pass
            return math.nan, {}
        features = self.monitor.space(images)
        shares = self.monitor.shares(features) if self.objective.has_diagnostics else {}
        return self.monitor.distance(features), self.monitor.near(images) | shares

    def keep_best(self, value: float, results: list[dict]):
        """Saves the repository if its distance is the lowest so far."""
        if self.accelerator.is_main_process:
            path = self.folder.best / "metrics.json"
            best = json.loads(path.read_text())["results"][0]["value"] if path.is_file() else math.inf
            if value < best:
                self.exporter.save(self.folder.best, results)
        self.accelerator.wait_for_everyone()

    def keep_healthy(self, progress: Progress, results: list[dict], is_finite: bool):
        """Saves the repository and a checkpoint as long as no failure mode shows, not even once."""
        is_healthy = torch.tensor(0.0, device=self.accelerator.device)
        if self.accelerator.is_main_process and self.is_healthy(progress) and is_finite:
            self.exporter.save(self.folder.healthy, results)
            is_healthy += 1
        if all_reduce(is_healthy, self.accelerator, "sum").item():  # it is a run's folder too
            self.folder.save_checkpoint(self.state, progress, self.folder.healthy, keep=1)

    def is_healthy(self, progress: Progress) -> bool:
        """Logs each new failure mode once; returns True if none is detected, even tentatively."""
        records = self.folder.records()
        failures = self.objective.diagnose(records)
        healthy = [index for index, record in enumerate(records) if record.get("healthy")]
        since = healthy[-1] + 1 if healthy else 0
        known = {record["warning"] for record in records[since:] if "warning" in record}
        for name in failures.keys() - known:
            self.warn(progress, name, failures[name])
        if not failures and known:
            self.folder.log({"step": progress.total_steps, "healthy": True})
        return not self.objective.diagnose(records, window=1)

    def warn(self, progress: Progress, name: str, message: str):
        """Logs a failure mode, and says where the last healthy state is."""
        self.folder.log({"step": progress.total_steps, "warning": name, "message": message})
        tqdm.write(f"Warning, step {progress.total_steps}: {name}. {message}", file=sys.stderr)
        if self.folder.healthy.is_dir():
            hint = f"`genhub train --resume {self.folder.healthy}` resumes from the last healthy state."
        else:
            hint = "No evaluation has found the run healthy yet, so no earlier state is kept."
        tqdm.write(hint, file=sys.stderr)


@contextmanager
def unwrapped_evaluation(objective: Objective, accelerator: Accelerator) -> Iterator[None]:
    """Puts an objective's modules, unwrapped, into evaluation mode for as long as the block lasts."""
    prepared = objective.modules
    objective.modules = {name: accelerator.unwrap_model(module) for name, module in prepared.items()}
    try:
        with evaluation_mode(objective.modules.values()):
            yield
    finally:
        objective.modules = prepared
