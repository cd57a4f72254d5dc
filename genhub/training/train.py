"""From a recipe to a trained repository: the parts are built here, the loop moves them."""

import inspect
import json
import sys
import time
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm.auto import tqdm

from genhub import card, data, figures
from genhub.doctor import device_name, versions
from genhub.hub import save_repo
from genhub.objectives.objective import Objective
from genhub.randomness import fold, keyed_generator
from genhub.training.loop import Loop, Progress, TrainingStopped, averaged, validate
from genhub.training.processes import make_accelerator, share_of, signals_to
from genhub.training.recipe import FROM_LENGTH, Recipe, Stage, TrainingConfig, load_recipe, recipe_names
from genhub.training.run_folder import RunFolder


def train(
    recipe: str | Path,
    output_dir: str | Path | None = None,
    resume: bool = False,
    overrides: dict[str, object] | None = None,
) -> Path:
    """Trains a recipe and saves a repository of the Hub's format; under `accelerate launch`, on all its processes.

    Args:
        recipe: name of a published recipe, a YAML file, a run's folder or a repository of the Hub.
        output_dir: where the repository goes, with checkpoints, samples and logs in its folder `training`;
            `runs/<recipe>` where it is not given.
        resume: go on from the newest whole checkpoint in `output_dir`; `recipe` may be the run's folder itself.
        overrides: dotted key -> value, over the recipe's.

    Returns:
        The folder of the repository.

    Raises:
        ValueError: a mistake in the recipe, the data or the folder, before anything is written.
        TrainingStopped: training ended early: a signal, or a loss that is not finite.
    """
    if resume and str(recipe) not in recipe_names():  # it is the run's folder, or a recipe file of one's own
        if not Path(recipe).exists():
            raise ValueError(f"There is no folder {recipe} with a run to resume.")
        output_dir = output_dir or (recipe if Path(recipe).is_dir() else None)
    recipe = load_recipe(recipe, overrides)
    folder = Path(output_dir or Path("runs") / recipe.name)
    return Run(recipe, folder, resume).train()


class Run:
    """One training run: a recipe, a folder, and the processes that `accelerate` gives."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool):
        self.recipe, self.config = recipe, recipe.training
        self.folder = RunFolder(folder, recipe, resume)
        self.accelerator = make_accelerator(self.config, self.folder.logs)
        device = self.accelerator.device
        with self.accelerator.main_process_first():  # one process decodes, the others read what it cached
            self.images = data.load(recipe.data, "train")
            self.held_out = data.load(recipe.data, "val") if recipe.data.val_size else None
        if self.held_out and len(self.held_out) < self.accelerator.num_processes:
            raise ValueError(f"`data.val_size` must be at least the {self.accelerator.num_processes} processes.")
        self.shares = [share_of(stage.training, len(self.images), self.accelerator) for stage in recipe.stages]

        torch.manual_seed(fold("weights", self.config.seed))
        self.components = recipe.build_components(self.images.shape)
        self.modules = {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}
        layout = torch.channels_last if self.config.channels_last else torch.preserve_format
        for module in self.modules.values():
            module.to(device, memory_format=layout)
        for stage in recipe.stages:  # every stage is tried before any work
            self._objective(stage)
        self._check_labels()
        recipe.build_pipeline(self.components)
        self.averages = make_averages(self.modules, self.config)

    def train(self) -> Path:
        """Runs all stages from where the run stands, and saves the repository."""
        state = self.folder.open(self.accelerator)
        loop = Loop(
            self.accelerator, self.modules, self.averages, self.folder.log, self.folder.save_checkpoint, self._watch()
        )
        if state is not None:
            loop.progress = Progress(**state["progress"])
            for name, module in self.modules.items():
                module.load_state_dict(state["modules"][name])
            for name, average in self.averages.items():
                average.load_state_dict(state["averages"][name])
        for average in self.averages.values():
            average.to(self.accelerator.device)
        if self.config.compile:
            for module in self.modules.values():
                module.compile()
        lengths = [stage.training.steps(len(self.images)) for stage in self.recipe.stages]
        bar = tqdm(
            total=sum(lengths),
            initial=loop.progress.total_steps,
            desc=self.recipe.name,
            unit="step",
            disable=not self.accelerator.is_main_process,
            mininterval=0.5 if sys.stderr.isatty() else 15,
        )
        with bar, signals_to(loop.ask_to_stop):
            for number, stage in enumerate(self.recipe.stages):
                if number > loop.progress.stage:
                    loop.progress.stage, loop.progress.step = number, 0
                if number == loop.progress.stage:
                    self._run_stage(loop, number, stage, lengths[number], state, bar)
                    state = None
                if loop.out_of_time:
                    bar.write(f"The {self.config.max_minutes} minutes of `training.max_minutes` are over: saving.")
                    break
        return self._finish(loop)

    def _run_stage(self, loop: Loop, number: int, stage: Stage, steps: int, state: dict | None, bar: tqdm):
        """Prepares one stage's objective and optimizers, takes back their state, and runs it."""
        objective = self._objective(stage)
        moved = {phase.trains: _target(objective, phase.trains) for phase in objective.phases}
        for module in objective.modules.values():
            module.requires_grad_(False)
        for module in moved.values():  # what no phase of this stage moves stays out of the gradient exchange
            module.requires_grad_(True)
        optimizers, schedules = {}, {}
        for name, (spec, schedule) in stage.optimizers.items():
            optimizers[name] = spec.build(moved[name].parameters())
            if schedule is not None:
                length = {key: steps for key in FROM_LENGTH if schedule.lacks(key)}
                schedules[name] = schedule.build(optimizers[name], **length)
        objective.modules = {name: self.accelerator.prepare(module) for name, module in objective.modules.items()}
        optimizers = {name: self.accelerator.prepare(optimizer) for name, optimizer in optimizers.items()}
        if state is not None:
            for name, optimizer in optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            for name, schedule in schedules.items():
                schedule.load_state_dict(state["schedules"][name])
            if self.accelerator.scaler:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            objective.load_state_dict(state["objective"])
        share, world = self.shares[number], self.accelerator.num_processes
        start = loop.progress.images + self.accelerator.process_index * share
        batches = self.images.batches(share, start, share * world, self.config.seed, self.accelerator.device)
        loop.run(objective, optimizers, schedules, batches, stage.training, steps, bar)
        self.accelerator.free_memory()
        for module in self.modules.values():
            module.requires_grad_(True)

    def _objective(self, stage: Stage) -> Objective:
        """Builds the objective of a stage, and checks that its phases and the optimizers name the same modules."""
        objective = stage.objective.build(**self.components)
        trains = {phase.trains for phase in objective.phases}
        for name in trains:
            _target(objective, name)
        objective.check(self.images.shape)
        if trains != set(stage.optimizers):
            raise ValueError(
                f"`optimizers` must be for {', '.join(sorted(trains))}, which {stage.objective.path} moves, "
                f"got {', '.join(sorted(stage.optimizers)) or 'none'}."
            )
        return objective

    def _check_labels(self):
        """Refuses a model of classes for images without them, or with more."""
        for name, module in self.modules.items():
            known = module.config.get("num_class_embeds")
            if known and not self.images.has_labels:
                raise ValueError(f"`components.{name}.num_class_embeds` must be unset: the data set has no labels.")
            labels = self.images.labels if known and isinstance(self.images, data.Images) else None
            if labels is not None and not 0 <= labels.min() <= labels.max() < known:
                raise ValueError(
                    f"`components.{name}.num_class_embeds` is {known}, "
                    f"the labels run from {labels.min()} to {labels.max()}."
                )

    def _watch(self) -> list:
        """What else to do while training, and after how many steps."""
        return [
            (self.config.validate_every if self.held_out else 0, self._validate),
            (self.config.sample_every, self._sample),
        ]

    def _validate(self, loop: Loop):
        """Logs the validation terms, of the averaged weights where there are."""
        self.folder.log({"step": loop.progress.total_steps} | self.validation(loop))

    def validation(self, loop: Loop) -> dict[str, float]:
        """Returns the validation terms by name, `val_...`."""
        with averaged(self.accelerator, self.modules, self.averages):
            held = self.held_out.to(self.accelerator.device)
            terms = validate(self.accelerator, loop.objective, held.batch, len(held), 250, self.config.seed)
        return {f"val_{name}": value for name, value in terms.items()}

    def _sample(self, loop: Loop):
        """Draws the images of fixed seeds, on the main process, into `training/samples`."""
        if self.accelerator.is_main_process:
            self.folder.save_picture(loop.progress.total_steps, figures.png(figures.grid(self.samples()[0])))
        self.accelerator.wait_for_everyone()

    def samples(self) -> tuple[torch.Tensor, float]:
        """Returns `num_samples` images (N, C, H, W) in [0, 1] of the averaged weights, and the seconds that they
        took."""
        count = self.config.num_samples
        generator = keyed_generator("samples", self.config.seed, device="cpu")
        training = {name: module.training for name, module in self.modules.items()}
        start = time.monotonic()
        with averaged(self.accelerator, self.modules, self.averages):
            for module in self.modules.values():
                module.eval()
            pipeline = self.recipe.build_pipeline(self.components)
            pipeline.set_progress_bar_config(disable=True)
            arguments = {"batch_size": count}
            if "batch_size" not in inspect.signature(pipeline.__call__).parameters:  # it makes images of images
                arguments = {"image": self.held_out.batch(slice(0, count))["pixel_values"]}
            known = max(module.config.get("num_class_embeds") or 0 for module in self.modules.values())
            if known:  # one class after the other, row by row
                classes = len(self.images.shape.class_names or ()) or known
                arguments["class_labels"] = [place % classes for place in range(count)]
            images = pipeline(**arguments, generator=generator, output_type="pt").images
            for name, module in self.modules.items():
                module.train(training[name])
        return images.cpu(), time.monotonic() - start

    def _finish(self, loop: Loop) -> Path:
        """Saves the trained pipeline with its card; the last checkpoint stays, so that training can go on."""
        self.folder.save_checkpoint(loop)
        results = self.validation(loop) if self.held_out else {}
        if results:
            self.folder.log({"step": loop.progress.total_steps} | results)
        if self.accelerator.is_main_process:
            images, sampling_seconds = self.samples()
            with averaged(self.accelerator, self.modules, self.averages):
                for name, module in self.modules.items():
                    self.components[name] = self.accelerator.unwrap_model(module, keep_fp32_wrapper=False).eval()
                pipeline = self.recipe.build_pipeline(self.components)
                metrics = self._metrics(loop, results, sampling_seconds)
                documents = {
                    "recipe.yaml": self.recipe.text,
                    "metrics.json": json.dumps(metrics, indent=2) + "\n",
                    "samples.png": figures.png(figures.grid(images)),
                }
                documents["README.md"] = card.write(self.recipe, pipeline, metrics)
                save_repo(pipeline, self.folder.path, documents)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return self.folder.path

    def _metrics(self, loop: Loop, results: dict[str, float], sampling_seconds: float) -> dict:
        """Returns what was measured in this run, and on what."""
        p, device = loop.progress, self.accelerator.device
        return {
            "results": [
                {"name": key, "value": value, "split": "val", "images": len(self.held_out), "seeds": 1}
                for key, value in results.items()
            ],
            "training": {
                "steps": p.total_steps,
                "images": p.images,
                "seconds": round(p.seconds, 1),
                "images_per_second": round(p.images / max(p.seconds, 1e-9), 1),
                "parameters": {k: sum(x.numel() for x in m.parameters()) for k, m in self.modules.items()},
                "train_images": len(self.images),
                "seed": self.config.seed,
            },
            "sampling": {"images": self.config.num_samples, "seconds": round(sampling_seconds, 1)},
            "hardware": {
                "device": device_name(device),
                "processes": self.accelerator.num_processes,
                "threads": torch.get_num_threads(),
            },
            "versions": versions(),
        }


def make_averages(modules: dict[str, nn.Module], config: TrainingConfig) -> dict[str, EMAModel]:
    """Returns the moving averages that `training.ema` asks for."""
    return {
        name: EMAModel(modules[name].parameters(), decay=decay, foreach=True) for name, decay in config.ema.items()
    }


def _target(objective: Objective, trains: str) -> nn.Module:
    """Returns the module that a phase moves: one of the objective's, or a part of it by its dotted name."""
    root, _, part = trains.partition(".")
    try:
        return objective.modules[root].get_submodule(part)
    except (KeyError, AttributeError) as error:
        raise ValueError(
            f"A phase of {type(objective).__name__} trains {trains!r}, which is not one of its modules."
        ) from error


__all__ = ["Run", "TrainingStopped", "train"]
