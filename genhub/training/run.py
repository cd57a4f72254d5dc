"""From a recipe to a trained repository: builds the parts, and runs the loop stage by stage."""

import contextlib
import copy
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from tqdm.auto import tqdm

from genhub import data, recipes
from genhub.evaluation.monitor import QualityMonitor
from genhub.objectives.objective import Batch, Objective
from genhub.recipes.recipe import Recipe
from genhub.recipes.sections import as_overrides
from genhub.recipes.stages import Stage
from genhub.repository.capabilities import capabilities_of
from genhub.repository.format import RepositoryError
from genhub.repository.shown_path import ShownPath
from genhub.training.arithmetic import flush_denormals
from genhub.training.callbacks import (
    ENCODED,
    VALIDATION_BATCH,
    Callback,
    DrawSamples,
    MonitorQuality,
    SaveCheckpoint,
    Validate,
)
from genhub.training.checkpoint import CheckpointError
from genhub.training.clock import Clock
from genhub.training.components import ComponentBuilder
from genhub.training.describe import describe_splits
from genhub.training.distributed import (
    StopSignal,
    TrainingStopped,
    accelerator_aside,
    end_with_the_others,
    make_accelerator,
    micro_batch_size,
    on_main,
)
from genhub.training.ema import MovingAverage
from genhub.training.export import Exporter
from genhub.training.loop import Loop
from genhub.training.pretrained import download_recipe, starting_weights
from genhub.training.rehearsal import SAMPLES, Rehearsal
from genhub.training.restore import STATE, restore_recipe
from genhub.training.run_folder import RunFolder
from genhub.training.stage_optimizers import StageOptimizers
from genhub.training.state import FrozenState, ObjectiveState, Progress, State, training_state
from genhub.training.trainable import trainable_module
from genhub.utils.notebook import in_notebook
from genhub.utils.progress import EVERY, progress_bar
from genhub.utils.randomness import seed_of
from genhub.utils.reading import one_line

__all__ = ["Run", "TrainingStopped", "train"]


def train(
    recipe: str | Path,
    output_dir: str | Path | None = None,
    resume: bool = False,
    overrides: dict[str, object] | None = None,
    trust_code: bool = False,
    auto_resume: bool = False,
    start_from: str | Path | None = None,
    **sections: Mapping[str, Any],
) -> Path:
    """Trains a recipe and saves a repository of the Hub's format; under `accelerate launch`, on all its processes.

        genhub.train("ddpm-quick", "runs/mine", data={"source": "./photos", "size": 28}, training={"max_minutes": 2})

    Args:
        recipe: name of a published recipe, a YAML file, a run's folder or a repository of the Hub.
        output_dir: folder of the repository, with checkpoints, samples and logs in its folder `training`; default
            `runs/<recipe>`.
        resume: go on from the newest whole checkpoint in `output_dir`; `recipe` may be the run's folder itself.
        overrides: dotted key -> value, over the recipe's, such as `{"data.source": "./photos"}`.
        trust_code: let the recipe name classes of your own; never of a downloaded recipe.
        auto_resume: start in an empty `output_dir`, and go on with a run of the same recipe until it is done: one call
            for a queue that restarts its jobs.
        start_from: repository whose networks the run starts from; tensors of another shape start anew.
        sections: values over those, by section and key.

    Returns:
        The folder of the repository. In a notebook it shows its samples and metrics, and Ctrl-C ends training with a
        checkpoint and a folder whose `stopped` says so.

    Raises:
        ValueError: a mistake in the recipe, the data or the folder, before anything is written.
        TrainingStopped: training ended early: a signal, or a loss that is not finite.
    """
    overrides = (overrides or {}) | as_overrides(sections)
    is_run = str(recipe) not in recipes.names()  # or a recipe file of one's own
    if (resume or auto_resume) and is_run:
        if resume and not Path(recipe).exists():
            raise ValueError(f"There is no folder {recipe} with a run to resume.")
        output_dir = output_dir or (recipe if Path(recipe).is_dir() else None)
    if (resume or auto_resume) and (folder := Path(output_dir or recipe)).is_dir():
        restore_recipe(folder)
    if (downloaded := download_recipe(recipe)) is not None:
        recipe, trust_code = downloaded, False
    checked = recipes.load(recipe, overrides, trust_code)
    if start_from is not None:
        checked = recipes.load(recipe, overrides | starting_weights(checked, str(start_from)), trust_code)
    folder = Path(output_dir or Path("runs") / checked.name)
    shown = ShownPath(folder)
    with flush_denormals(), end_with_the_others(), accelerator_aside():
        try:
            Run(checked, folder, None if auto_resume else resume).train()
        except TrainingStopped as stop:
            if stop.exit_code != 128 + signal.SIGINT or not in_notebook():
                raise
            shown.stopped = str(stop)
    return shown


class Run:
    """One training run: a recipe, a folder, and the processes of `accelerate`.

    Args:
        resume: whether a run in the folder goes on; None for "if there is one, until it is done".
    """

    def __init__(self, recipe: Recipe, folder: Path, resume: bool | None):
        self.recipe, self.config, self.resume = recipe, recipe.training, resume
        self.frozen = recipe.frozen
        self.accelerator = make_accelerator(self.config, folder / STATE)
        self.folder = RunFolder(folder, recipe, self.accelerator, resume)
        self.replay = self._shares_to_replay()
        self._load_data()
        self._build_components()
        objectives = [self._objective(stage, self.components) for stage in recipe.stages]
        self.notes = [*dict.fromkeys([*self.images.notes, *(note for part in objectives for note in part.notes)])]
        self._say(*describe_splits(self.images, self.held_out), *self.notes)
        self.progress, self.stop = Progress(), StopSignal()
        for name in self.config.ema:
            if name not in self.modules or name in self.frozen:
                raise ValueError(f"`training.ema.{name}` must be left out: the component is not trained.")
        self.averages = {name: MovingAverage(self.modules[name], decay) for name, decay in self.config.ema.items()}
        parts = (self.components, self.averages, self.images, self.held_out or self._test_images())
        self.exporter = Exporter(recipe, *parts, self.progress, self.accelerator, self.prompts, self.notes)
        self._rehearse()
        self.monitor = self._quality_monitor()

    def _load_data(self):
        """Loads the images and cuts batches into micro-batches."""
        config, accelerator = self.recipe.data, self.accelerator
        with accelerator.local_main_process_first():  # one of each machine decodes, the others read what it cached
            self.images = data.load(config, "train")
            self.held_out = cast(data.Images, data.load(config, "val")) if config.has_val else None
        if self.held_out and len(self.held_out) < accelerator.num_processes:
            raise ValueError(f"`data.val_size` must be at least the {accelerator.num_processes} processes.")
        self.lengths = [stage.training.steps(len(self.images)) for stage in self.recipe.stages]
        self.micro_batches = [
            micro_batch_size(stage.training, len(self.images), accelerator) for stage in self.recipe.stages
        ]

    def _test_images(self) -> data.Images | None:
        """Returns test images for a model that encodes to show, as none are held out of the training images; None if
        there are none like them."""
        if capabilities_of(self.recipe.pipeline.cls).can("encode"):
            with contextlib.suppress(ValueError):  # there is no test split
                test = data.load(self.recipe.data, "test")[:ENCODED]
                test = test.load() if isinstance(test, data.Lazy) else test
                return test if test.shape == self.images.shape else None
        return None

    def _build_components(self):
        """Builds the components, and the data that they are trained on: the images, or their latents."""
        recipe, accelerator = self.recipe, self.accelerator
        torch.manual_seed(seed_of("weights", self.config.seed))
        builder = ComponentBuilder(recipe, accelerator, load_weights=not self.folder.has_checkpoints)
        self.train_data, self.val_data = builder.encode(*builder.caption(self.images, self.held_out))
        self.prompts = builder.prompts
        self.components = builder.build(self.images.measure(), self.train_data.measure())
        self.modules = {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}
        layout = torch.channels_last if self.config.channels_last else torch.preserve_format
        for module in self.modules.values():
            module.to(accelerator.device, memory_format=layout)  # pyright: ignore[reportCallIssue]

    def _rehearse(self):
        """Takes a step of every stage on copies of the components, and makes one image: what does not fit must not end
        a long run."""
        samples = self.train_data[:SAMPLES]
        samples = samples.load() if isinstance(samples, data.Lazy) else samples
        batch = samples.to(self.accelerator.device).batch(slice(None))
        can_be_padded = isinstance(self.train_data, data.Images) and not isinstance(samples, data.Points)
        padding = self.recipe.data.padding if can_be_padded else None
        copies = copy.deepcopy({name: part for name, part in self.modules.items() if name not in self.frozen})
        averages = {name: MovingAverage(copies[name], decay) for name, decay in self.config.ema.items()}
        for stage, steps in zip(self.recipe.stages, self.lengths, strict=True):
            objective = self._objective(stage, self.components | copies)
            Rehearsal(objective, stage, steps, batch, averages, self.accelerator, padding)
        self.exporter.rehearse()

    def _quality_monitor(self) -> QualityMonitor | None:
        """Returns what measures quality while training, after trying one image: arguments that the pipeline refuses
        must not end a long run."""
        config = self.recipe.evaluation
        is_due = self.exporter.generates and 0 < config.every <= sum(self.lengths)
        if not (is_due and self.held_out):
            return None
        with torch.random.fork_rng():
            self.exporter.generate(1, config.arguments)
        return QualityMonitor(self.images, self.held_out, self.accelerator.device)

    def train(self) -> Path:
        """Trains all stages from where the run stands, and saves the repository."""
        try:
            return self._train()
        finally:
            self.folder.close()

    def _train(self) -> Path:
        saved = self.folder.open()
        if saved is not None:
            self.progress.load_state_dict(saved["progress"])
        if self.resume is None and self._is_done():
            self._say(f"The run in {self.folder.path} is done, with all {self.progress.total_steps:,} steps.")
            return self.folder.path
        self._say_how_many()
        bar = progress_bar(
            is_hidden=not self.accelerator.is_main_process,
            total=None if self.config.max_minutes else sum(self.lengths),
            initial=self.progress.total_steps,
            desc=self.recipe.name,
            unit="step",
            mininterval=0.5 if sys.stderr.isatty() or in_notebook() else EVERY,
        )
        with bar, self.stop.handle():
            for number in range(self.progress.stage, len(self.recipe.stages)):
                if number > self.progress.stage:
                    self.progress.stage, self.progress.step = number, 0
                loop = self._train_stage(number, saved, bar)
                saved = None
                if loop.is_out_of_time:
                    told = f"The {self.config.max_minutes} minutes of `training.max_minutes` are over: saving."
                    bar.write(told, file=sys.stderr)
                    break
        return self._finish(loop)

    def _say_how_many(self):
        """Says how many processes take part: a launcher may start fewer than it was asked for."""
        count, size = self.accelerator.num_processes, self.recipe.stages[self.progress.stage].training.batch_size
        self._say(f"Training on {count} process(es), {size // count} images of a step on each.")
        if sum(self.lengths) < self.progress.total_steps:
            done = f"{self.progress.total_steps:,} steps already, and the recipe asks for {sum(self.lengths):,}"
            self._say(f"The run has {done}: it is saved as it is.")

    def _say(self, *sentences: str):
        if self.accelerator.is_main_process:
            print(*sentences, sep="\n", file=sys.stderr)

    def _is_done(self) -> bool:
        """Returns whether the run was trained to its end, and saved."""
        clock, last = self._clock(self.progress.stage), len(self.recipe.stages) - 1
        is_trained = self.progress.stage == last and self.progress.step >= clock.steps
        return (is_trained or clock.is_over()) and self.folder.saved_steps() == self.progress.total_steps

    def _train_stage(self, number: int, saved: dict | None, bar: tqdm) -> Loop:
        """Trains one stage from where the run stands."""
        loop, batches = self.prepare_stage(number, saved)
        objective, unwrap = loop.objective, self.accelerator.unwrap_model
        try:
            loop.run(batches, bar)
        finally:  # unwrap DDP: its hooks must not fire in the next stage
            objective.modules = {name: unwrap(module) for name, module in objective.modules.items()}
            self.accelerator.free_memory()
            for name, module in self.modules.items():
                module.requires_grad_(name not in self.frozen)
        return loop

    def prepare_stage(self, number: int, saved: dict | None = None) -> tuple[Loop, Iterator[Batch]]:
        """Builds the loop of a stage and its batches, and loads the `saved` state of a run that is resumed."""
        stage, accelerator = self.recipe.stages[number], self.accelerator
        objective = self._objective(stage, self.components)
        built = StageOptimizers(objective, stage, self.lengths[number])
        if self.config.compile:
            for module in objective.modules.values():  # as the objective calls them, which is where graphs begin
                module.compile()
        objective.modules = {name: self._prepare(module) for name, module in objective.modules.items()}
        optimizers = {name: accelerator.prepare(optimizer) for name, optimizer in built.optimizers.items()}
        size = self.micro_batches[number]
        state = training_state(
            self.progress,
            modules={name: self._module_state(name, module) for name, module in self.modules.items()},
            tokenizer=self._tokens(),
            averages=self.averages,
            optimizers=optimizers,
            schedules=built.schedules,
            scaler=accelerator.scaler,
            objective=ObjectiveState(objective, accelerator, stage.training.batch_size, size),
        )
        if saved is not None:
            self._load_state(state, saved, stage, built)
        self.progress.changeable = stage.changeable()
        start, stride = self.progress.images + accelerator.process_index * size, size * accelerator.num_processes
        self.validate = self._validation(objective, stride)
        loop = Loop(
            accelerator=accelerator,
            objective=objective,
            optimizers=optimizers,
            schedules=built.schedules,
            averages=self.averages,
            config=stage.training,
            clock=self._clock(number),
            folder=self.folder,
            stop=self.stop,
            callbacks=self._callbacks(objective, state),
            checkpoint=SaveCheckpoint(stage.training.checkpoint_every, state, self.folder),
        )
        return loop, self.train_data.batches(size, start, stride, self.config.seed, accelerator.device)

    def _load_state(self, state: State, saved: dict, stage: Stage, built: StageOptimizers):
        """Loads the `saved` state of a run, but for what it has changed since: arguments of optimizers, its length."""
        changes = self.progress.change(stage.changeable())
        try:
            built.follow(saved, [change["key"] for change in changes])
            state.load_state_dict(saved | {"progress": self.progress.state_dict()})
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"The checkpoint of step {self.progress.total_steps} in {self.folder.path} does not fit its recipe "
                f"({one_line(error)}). Without it the run goes on from the one before."
            ) from error
        self.folder.log_changes(changes)

    def _clock(self, number: int) -> Clock:
        """Returns the clock of a stage; one of several goes by steps, and `max_minutes` only ends the run."""
        by_time = len(self.recipe.stages) == 1
        return Clock(self.progress, self.lengths[number], self.config.max_minutes, by_time, self.replay)

    def _shares_to_replay(self) -> list[float] | None:
        """Returns the shares of time that `training.replay` names."""
        if self.config.replay is None:
            return None
        if self.config.max_minutes is None or len(self.recipe.stages) > 1:
            raise ValueError("`training.replay` must be left out: the recipe does not go by `training.max_minutes`.")
        return self.folder.read_shares(Path(self.config.replay))

    def _prepare(self, module: nn.Module) -> nn.Module:
        """Prepares a module that is trained; DDP refuses one without gradients."""
        is_trained = any(parameter.requires_grad for parameter in module.parameters())
        return self.accelerator.prepare(module) if is_trained else module

    def _module_state(self, name: str, module: nn.Module) -> nn.Module | FrozenState:
        return FrozenState(name, module) if name in self.frozen else module

    def _tokens(self) -> FrozenState | None:
        """Returns the state of a tokenizer, which is learnt anew from the same captions when a run is resumed."""
        tokenizer = self.components.get("tokenizer")
        return None if tokenizer is None else FrozenState("tokenizer", tokenizer)

    def _validation(self, objective: Objective, batch_size: int) -> Validate | None:
        """Returns the validation of a stage, None without held-out images."""
        if not self.val_data:
            return None
        uses_batch_statistics = any(getattr(module, "has_batch_statistics", False) for module in self.modules.values())
        return Validate(
            self.config.validate_every,
            objective,
            self.val_data,
            self.exporter,
            self.folder,
            self.accelerator,
            batch_size if uses_batch_statistics else VALIDATION_BATCH,
            self.config.seed,
        )

    def _callbacks(self, objective: Objective, state: State) -> list[Callback]:
        """Returns what else to do while a stage is trained."""
        shared = (self.exporter, self.folder, self.accelerator)
        callbacks = [self.validate, DrawSamples(self.config.sample_every, *shared)]
        if self.monitor:
            callbacks.append(MonitorQuality(self.recipe.evaluation, self.monitor, objective, state, *shared))
        return [callback for callback in callbacks if callback is not None]

    def _objective(self, stage: Stage, components: dict[str, Any]) -> Objective:
        """Builds the objective of a stage, and checks that its phases and the optimizers name the same modules."""
        objective = stage.objective.build(**components)
        trains = {phase.trains for phase in objective.phases}
        for name in trains:
            trainable_module(name, objective)
        objective.check(self.train_data.shape)
        objective.check_labels(self.train_data)
        if self.config.compile and objective.needs_double_backward:
            raise ValueError(
                "`training.compile` must be off with a gradient penalty (`r1_weight`, `gradient_penalty_weight`): "
                "PyTorch cannot differentiate compiled code a second time."
            )
        objective.check_batch(stage.training.batch_size, self.micro_batches[self.recipe.stages.index(stage)])
        if trains != set(stage.optimizers):
            raise ValueError(
                f"`optimizers` must be for {', '.join(sorted(trains))}, which {stage.objective.path} trains, "
                f"got {', '.join(sorted(stage.optimizers)) or 'none'}."
            )
        return objective

    def _finish(self, loop: Loop) -> Path:
        """Saves the trained pipeline with its card; the last checkpoint stays, so that training can go on."""
        results = self.validate(self.progress) if self.validate else {}
        loop.guard.check_losses(results, self.progress.total_steps, 1)
        loop.checkpoint(self.progress)
        self.folder.save_shares(self.progress.shares)
        row = {"split": "val", "images": len(self.held_out or ()), "seeds": 1}
        rows = [{"name": name, "value": value, **row} for name, value in results.items()]
        try:
            on_main(lambda: self.exporter.save(self.folder.path, rows))
        except (OSError, RepositoryError) as error:
            raise RepositoryError(
                f"The repository could not be saved to {self.folder.path} ({one_line(error)}). Its state is in a "
                "checkpoint; make room and go on with --resume."
            ) from error
        self.accelerator.end_training()
        return self.folder.path
