"""From a recipe to a trained repository: the parts are built here, the loop moves them."""

import inspect
import itertools
import json
import math
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm.auto import tqdm

from genhub import data, plotting
from genhub.evaluation.monitor import QualityMonitor
from genhub.evaluation.sampling import Sampler
from genhub.objectives.objective import Objective
from genhub.recipes.configs import TrainingConfig
from genhub.recipes.recipe import FROM_LENGTH, Recipe, Stage, load_recipe, recipe_names
from genhub.repository import card
from genhub.repository.capabilities import generates
from genhub.repository.load import download_recipe
from genhub.repository.save import save_repo
from genhub.training.distributed import flush_denormals, handle_signals, make_accelerator, micro_batch_size
from genhub.training.loop import Loop, Progress, TrainingStopped, averaged, state_of, trainable_parameters, validate
from genhub.training.pretrained import load_pretrained
from genhub.training.run_folder import RunFolder
from genhub.utils.environment import hardware, versions
from genhub.utils.randomness import keyed_generator, seed_of


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
    recipe = load_recipe(download_recipe(recipe) or recipe, overrides)
    folder = Path(output_dir or Path("runs") / recipe.name)
    with flush_denormals():
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
        self.shares = [micro_batch_size(stage.training, len(self.images), self.accelerator) for stage in recipe.stages]

        torch.manual_seed(seed_of("weights", self.config.seed))
        self.components = recipe.build_components(self.images.shape)
        self.modules = {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}
        if not self.folder.has_checkpoints:
            for name, weights in recipe.weights.items():
                taken = load_pretrained(weights, name, self.modules[name])
                if self.accelerator.is_main_process:
                    total = len(self.modules[name].state_dict())
                    print(f"{name} starts from {len(taken)} of its {total} tensors in {weights}", file=sys.stderr)
        layout = torch.channels_last if self.config.channels_last else torch.preserve_format
        for module in self.modules.values():
            module.to(device, memory_format=layout)
        for stage in recipe.stages:  # every stage is tried before any work
            self._objective(stage)
        self._check_labels()
        pipeline = recipe.build_pipeline(self.components)
        self.generates = generates(pipeline)
        takes = inspect.signature(pipeline.__call__).parameters  # `output_type` as all of diffusers
        is_picture = not (isinstance(self.images, data.Images) and self.images.images.is_floating_point())
        self.makes_images = is_picture and "output_type" in takes and (self.generates or bool(self.held_out))
        steps = sum(stage.training.steps(len(self.images)) for stage in recipe.stages)
        watched = self.generates and self.held_out and 0 < recipe.evaluation.every <= steps
        self.averages = make_averages(self.modules, self.config)
        self.watch = QualityMonitor(self.images, self.held_out, device) if watched else None
        if self.watch:
            self._try_watching()

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
        with bar, handle_signals(loop.ask_to_stop):
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
        moved = {
            phase.trains: trainable_parameters(phase, _target(objective, phase.trains)) for phase in objective.phases
        }
        for module in objective.modules.values():
            module.requires_grad_(False)
        for parameter in itertools.chain(*moved.values()):  # what none moves stays out of the gradient exchange
            parameter.requires_grad_(True)
        optimizers, schedules = {}, {}
        for name, (spec, schedule) in stage.optimizers.items():
            optimizers[name] = spec.build(moved[name])
            if schedule is not None:
                moves = sum(math.ceil(steps / phase.every) for phase in objective.phases if phase.trains == name)
                length = {key: moves for key in FROM_LENGTH if schedule.lacks(key)}
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
            objective.load_state_dict(self._own(state["objective"], objective, number))
        share, world = self.shares[number], self.accelerator.num_processes
        start = loop.progress.images + self.accelerator.process_index * share
        batches = self.images.batches(share, start, share * world, self.config.seed, self.accelerator.device)
        loop.run(objective, optimizers, schedules, batches, stage.training, steps, bar)
        # What exchanges this stage's gradients would listen on in the next one
        objective.modules = {name: self.accelerator.unwrap_model(m) for name, m in objective.modules.items()}
        self.accelerator.free_memory()
        for module in self.modules.values():
            module.requires_grad_(True)

    def _own(self, remembered: dict, objective: Objective, number: int) -> dict:
        """Returns what this process remembers of the state of an objective: the places of its own samples."""
        world, rank, share = self.accelerator.num_processes, self.accelerator.process_index, self.shares[number]
        own = torch.arange(self.recipe.stages[number].training.batch_size) // share % world == rank
        return remembered | {
            name: remembered[name] * own.view(-1, *[1] * (remembered[name].ndim - 1))
            for name in objective.per_sample
            if name in remembered
        }

    def _objective(self, stage: Stage) -> Objective:
        """Builds the objective of a stage, and checks that its phases and the optimizers name the same modules."""
        objective = stage.objective.build(**self.components)
        trains = {phase.trains for phase in objective.phases}
        for name in trains:
            _target(objective, name)
        objective.check(self.images.shape)
        if self.config.compile and objective.needs_double_backward:
            raise ValueError(
                "`training.compile` must be off with a penalty on gradients (`r1_weight`, `gradient_penalty_weight`): "
                "PyTorch cannot differentiate what it compiled a second time."
            )
        objective.check_batch(stage.training.batch_size, self.shares[self.recipe.stages.index(stage)])
        if trains != set(stage.optimizers):
            raise ValueError(
                f"`optimizers` must be for {', '.join(sorted(trains))}, which {stage.objective.path} moves, "
                f"got {', '.join(sorted(stage.optimizers)) or 'none'}."
            )
        return objective

    def _check_labels(self):
        """Refuses a model of classes for images without them, or with more."""
        labels = self.images.labels if isinstance(self.images, data.Images) else None
        for name, module in self.modules.items():
            for key in ("num_class_embeds", "num_classes"):
                known = module.config.get(key)
                if known and not self.images.has_labels:
                    raise ValueError(f"`components.{name}.{key}` is {known}, the data set has no labels.")
                if known and labels is not None and not 0 <= labels.min() <= labels.max() < known:
                    raise ValueError(
                        f"`components.{name}.{key}` is {known}, the labels run from {labels.min()} to {labels.max()}."
                    )

    def _watch(self) -> list:
        """What else to do while training, and after how many steps."""
        return [
            (self.config.validate_every if self.held_out else 0, self._validate),
            (self.config.sample_every, self._sample),
            (self.recipe.evaluation.every if self.watch else 0, self._evaluate),
        ]

    def _validate(self, loop: Loop):
        """Logs the validation terms, of the averaged weights where there are."""
        self.folder.log({"step": loop.progress.total_steps} | self.validation(loop))

    def validation(self, loop: Loop) -> dict[str, float]:
        """Returns the validation terms by name, `val_...`."""
        looks_at_batch = any(getattr(module, "has_batch_statistics", False) for module in self.modules.values())
        size = self.shares[loop.progress.stage] * self.accelerator.num_processes if looks_at_batch else 250
        with averaged(self.accelerator, self.modules, self.averages):
            held = self.held_out.to(self.accelerator.device)
            terms = validate(self.accelerator, loop.objective, held.batch, len(held), size, self.config.seed)
        return {f"val_{name}": value for name, value in terms.items()}

    def _sample(self, loop: Loop):
        """Draws the images of fixed seeds, on the main process, into `training/samples`."""
        if self.accelerator.is_main_process and self.makes_images:
            picture = plotting.png(plotting.grid(self.samples()[0], columns=8))
            self.folder.save_picture(loop.progress.total_steps, picture)
        self.accelerator.wait_for_everyone()

    def _sampler(self, pipeline: DiffusionPipeline) -> Sampler:
        shape = self.images.shape
        return Sampler(
            pipeline,
            shape=(shape.channels, shape.height, shape.width),
            seed=self.config.seed,
            batch_size=64,
            classes=self._classes(),
            arguments=self.recipe.evaluation.arguments,
            is_quiet=True,
        )

    def _try_watching(self):
        """Makes one image, so that arguments which the pipeline refuses do not end a long run."""
        with torch.random.fork_rng(), torch.no_grad(), self._pipeline() as pipeline:
            sampler = self._sampler(pipeline)
            sampler.call(0, sampler.labels(1), 1)

    def _evaluate(self, loop: Loop):
        """Logs the figure of quality of generated images, and keeps the weights with the best one, and those of an
        adversarial game as long as it is healthy."""
        config, name = self.recipe.evaluation, self.watch.name
        with self._pipeline() as pipeline:
            try:
                features = self.watch.space(self._sampler(pipeline).draw(config.count)[0])
                value = self.watch.distance(features)
                shares = self.watch.shares(features) if loop.objective.has_diagnostics else {}
            except ValueError:  # images that are not finite: that may pass
                value, shares = math.nan, {}
        self.folder.log({"step": loop.progress.total_steps, name: value} | shares)
        if self.accelerator.is_main_process:
            row = {"name": name, "value": value, "split": "val", "images": self.watch.images, "seeds": 1}
            if config.keep_best and value < self._best():
                self._save(self.folder.logs / "best", loop, [row | {"generated": config.count}])
        self.accelerator.wait_for_everyone()
        if loop.objective.has_diagnostics:
            is_healthy = torch.tensor(0.0, device=self.accelerator.device)
            if self.accelerator.is_main_process and self._is_healthy(loop):
                self._save(self.folder.healthy, loop, [row | {"generated": config.count}])
                is_healthy += 1
            if self.accelerator.reduce(is_healthy, "sum").item():  # it is a run's folder too
                self.folder.save_checkpoint(loop, self.folder.healthy, keep=1)

    def _is_healthy(self, loop: Loop) -> bool:
        """Warns of what goes wrong, once for each trouble while it lasts; returns whether nothing shows, not even for
        the first time."""
        records = self.folder.records()
        troubles = loop.objective.diagnose(records)
        since = next((place for place in reversed(range(len(records))) if records[place].get("healthy")), -1)
        known = {record["warning"] for record in records[since + 1 :] if "warning" in record}
        for name in troubles.keys() - known:
            self.folder.log({"step": loop.progress.total_steps, "warning": name, "message": troubles[name]})
            tqdm.write(f"Warning, step {loop.progress.total_steps}: {name}. {troubles[name]}", file=sys.stderr)
            where, kept = self.folder.healthy, "No evaluation has found it healthy yet, so no earlier state is kept."
            if where.is_dir():
                kept = (
                    f"`genhub train --resume {where}` goes on from the last healthy state, by the recipe.yaml in it."
                )
            tqdm.write(kept, file=sys.stderr)
        if not troubles and known:
            self.folder.log({"step": loop.progress.total_steps, "healthy": True})
        return not loop.objective.diagnose(records, window=1)

    def _best(self) -> float:
        """Returns the figure of the best repository that the run has kept, infinity if none."""
        path = self.folder.logs / "best" / "metrics.json"
        return json.loads(path.read_text())["results"][0]["value"] if path.is_file() else math.inf

    @contextmanager
    def _pipeline(self):
        """Yields the pipeline of the averaged weights, for as long as the block lasts."""
        training = {name: module.training for name, module in self.modules.items()}
        with averaged(self.accelerator, self.modules, self.averages):
            for module in self.modules.values():
                module.eval()
            pipeline = self.recipe.build_pipeline(self.components)
            pipeline.set_progress_bar_config(disable=True)
            try:
                yield pipeline
            finally:
                for name, module in self.modules.items():
                    module.train(training[name])

    def _classes(self) -> int | None:
        """Returns how many classes can be asked for, None where the models know of none."""
        known = max(module.config.get("num_class_embeds") or 0 for module in self.modules.values())
        return (len(self.images.shape.class_names or ()) or known) if known else None

    def samples(self) -> tuple[torch.Tensor, float]:
        """Returns `num_samples` images (N, C, H, W) in [0, 1] of the averaged weights, and the seconds that they took;
        of a pipeline that only copies, held-out images above their copies."""
        count, classes = self.config.num_samples, self._classes()
        arguments = {"batch_size": count, "generator": keyed_generator("samples", self.config.seed, device="cpu")}
        if not self.generates:
            arguments = {"image": self.held_out.images[: max(count // 2, 1)] / 255}
        if classes:  # one class after the other, row by row
            arguments["class_labels"] = [place % classes for place in range(count)]
        start = time.monotonic()
        with self._pipeline() as pipeline:
            images = pipeline(**arguments, output_type="pt").images.cpu()
        seconds = time.monotonic() - start
        return images if self.generates else plotting.pairs(arguments["image"], images), seconds

    def _finish(self, loop: Loop) -> Path:
        """Saves the trained pipeline with its card; the last checkpoint stays, so that training can go on."""
        self.folder.save_checkpoint(loop)
        results = self.validation(loop) if self.held_out else {}
        if results:
            self.folder.log({"step": loop.progress.total_steps} | results)
        if self.accelerator.is_main_process:
            row = {"split": "val", "images": len(self.held_out or ()), "seeds": 1}
            self._save(self.folder.path, loop, [{"name": k, "value": v, **row} for k, v in results.items()])
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return self.folder.path

    def _save(self, path: Path, loop: Loop, results: list[dict]):
        """Saves the pipeline of the averaged weights with its documents."""
        metrics, documents = self._metrics(loop, results), {"recipe.yaml": self.recipe.text}
        if self.makes_images:
            images, seconds = self.samples()
            documents["samples.png"] = plotting.png(plotting.grid(images, columns=8))
            made = {"images": len(images), "seconds": round(seconds, 1)}
            metrics["sampling"] = made if self.generates else {"reconstructions": len(images) // 2}
        with self._pipeline() as pipeline:
            documents["metrics.json"] = json.dumps(metrics, indent=2) + "\n"
            documents["README.md"] = card.write(self.recipe, pipeline, metrics)
            save_repo(pipeline, path, documents)

    def _metrics(self, loop: Loop, results: list[dict]) -> dict:
        """Returns what was measured in this run, and on what."""
        p = loop.progress
        return {
            "recipe": self.recipe.name,
            "data": self.recipe.data.source,
            "reported": self.recipe.reported,
            "results": results,
            "training": {
                "steps": p.total_steps,
                "images": p.images,
                "seconds": round(p.seconds, 1),
                "images_per_second": round(p.images / max(p.seconds, 1e-9), 1),
                "parameters": {k: sum(x.numel() for x in m.parameters()) for k, m in self.modules.items()},
                "train_images": len(self.images),
                "seed": self.config.seed,
                "steps_on": p.steps_on,
            },
            "hardware": hardware(self.accelerator),
            "versions": versions(),
        }


def make_averages(modules: dict[str, nn.Module], config: TrainingConfig) -> dict[str, EMAModel]:
    """Returns the moving averages that `training.ema` asks for."""
    return {name: EMAModel(state_of(modules[name]), decay=decay, foreach=True) for name, decay in config.ema.items()}


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
