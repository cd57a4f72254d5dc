"""Judging a saved pipeline by protocol fmnist-eval-1; the figures go into `metrics.json` and onto the card."""

import datetime
import inspect
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import DiffusionPipeline, SchedulerMixin

from genhub import data, plotting
from genhub.evaluation import protocol
from genhub.evaluation.features import ImageNetSpace
from genhub.evaluation.generation import Evaluator, Figure
from genhub.evaluation.memorisation import Memorisation
from genhub.evaluation.metrics import mean_of
from genhub.evaluation.reconstructions import can_probe, judge_likelihoods, judge_reconstructions
from genhub.evaluation.sampling import Sampler
from genhub.recipes.configs import TrainingConfig
from genhub.recipes.recipe import Recipe, load_recipe
from genhub.repository import card_results as results
from genhub.repository.capabilities import generates, is_conditional
from genhub.repository.load import AutoPipeline, download, find_class
from genhub.training.distributed import make_accelerator
from genhub.training.feature_classifier import feature_spaces, hits_after_training
from genhub.utils.cache import content_hash
from genhub.utils.environment import hardware, versions
from genhub.utils.files import atomic_write, sha256

LEAST = 129  # images, for the covariance of the 128 features of the protocol's classifier


def evaluate(
    repo: str,
    data_source: str | None = None,
    count: int = protocol.COUNT,
    seed: int | None = None,
    batch_size: int = protocol.BATCH_SIZE,
    steps: int | None = None,
    scheduler: str | None = None,
    guidance_scale: float | None = None,
    feature_net: str | None = None,
    imagenet: bool = False,
    cas: int = 0,
    output: str | None = None,
) -> Path:
    """Judges the pipeline of `repo`; returns the folder with `metrics.json`, the card and the closest pairs.

    Under `accelerate launch` all processes generate, and the images are the same on any number of them.

    Args:
        data_source: what to compare with, as `data.source` of a recipe; the repository's own where it is not given.
        count: images to generate; the protocol says 10,000.
        seed: of sampling; 10,000 plus the seed of training where it is not given.
        steps, scheduler, guidance_scale: how a diffusion model samples, where it is not the pipeline's own way.
        feature_net: a folder or repository of `feature-classifier`, for a data set that is not Fashion MNIST; where it
            is not given, one is trained, once.
        imagenet: measure the kernel distance in an ImageNet space too.
        cas: train classifiers on so many images, for the classification accuracy score of a conditional model; 0 for
            none.
        output: where the results go; the repository itself if it is a folder, else `evaluation-<name>`.

    Raises:
        ValueError: the repository, the data or an argument does not fit, before any work; or a generated image is not
            finite.
    """
    accelerator = make_accelerator(TrainingConfig(), logs=Path())
    folder = download(repo)
    if not (folder / "recipe.yaml").is_file():
        raise ValueError(
            f"The repository {repo} has no recipe.yaml, which says what it was trained on: it cannot be evaluated."
        )
    recipe = load_recipe(folder)
    pipeline = AutoPipeline.from_pretrained(folder).to(accelerator.device)
    pipeline.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipeline.scheduler = find_class(scheduler, SchedulerMixin).from_config(pipeline.scheduler.config)
        if not hasattr(pipeline.scheduler, "init_noise_sigma"):
            raise ValueError(f"`scheduler` must be one that denoises as this pipeline does, got {scheduler}.")
    _check_pipeline(repo, pipeline, steps, guidance_scale, cas)
    if cas and accelerator.num_processes > 1:
        raise ValueError("`cas` must be off under several processes: it trains classifiers on one.")
    target = _output(repo, folder, output)
    judged = Evaluation(pipeline, folder, recipe, target, data_source, accelerator)
    if generates(pipeline):
        seed = protocol.SEED + recipe.training.seed if seed is None else seed
        given = {"num_inference_steps": steps, "guidance_scale": guidance_scale}
        judged.samples(count, seed, batch_size, given, feature_net, imagenet)
    if callable(getattr(pipeline, "reconstruct", None)):
        judged.reconstructions()
    judged.write()
    if cas:
        judged.accuracy_after_training(cas)
        judged.write()
    return target


class Evaluation:
    """One evaluation of one pipeline: what is compared with what, and what was found.

    Raises:
        ValueError: the data cannot be loaded, or `target` cannot be written or belongs to another repository.
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        folder: Path,
        recipe: Recipe,
        target: Path,
        data_source: str | None,
        accelerator: Accelerator,
    ):
        self.pipeline, self.folder, self.target, self.accelerator = pipeline, folder, target, accelerator
        self.recipe, self.pairs = recipe, None
        weights = [sha256(path) for path in sorted(folder.glob("*/*.safetensors"))]
        configs = [path.read_text() for path in sorted([folder / "model_index.json", *folder.glob("*/*config.json")])]
        repository = content_hash(*weights, *configs)
        _check_target(target, repository)

        self.config = (
            recipe.data if data_source is None else replace(recipe.data, source=data_source, val_size=0, labelled=None)
        )
        self.splits = {split: _in_memory(self.config, split) for split in ("train", "test")}
        if data_source is not None and len(self.train) == 60_000 and protocol.is_fashion_mnist(self.train.images):
            self.splits["train"] = self.train[:55_000]
        if self.config.val_size:
            self.splits["val"] = _in_memory(self.config, "val")
        self.result = {
            "protocol": protocol.PROTOCOL,
            "complete": protocol.is_official(self.train, self.test),
            "date": datetime.date.today().isoformat(),
            "repository": repository,
            "training_seed": recipe.training.seed,
            "reference": {
                "data": self.config.source,
                "split": "test",
                "images": len(self.test),
                "train_images": len(self.train),
            },
            "samples": None,
            "spaces": {},
            "figures": [],
            "hardware": hardware(accelerator),
            "versions": versions(),
        }

    @property
    def train(self) -> data.Images:
        """The training images of what the pipeline is compared with."""
        return self.splits["train"]

    @property
    def test(self) -> data.Images:
        """The test images of what the pipeline is compared with."""
        return self.splits["test"]

    def samples(
        self, count: int, seed: int, batch_size: int, given: dict, feature_net: str | None, imagenet: bool
    ) -> None:
        """Generates images and judges them: quality, memorisation, speed."""
        self._check_numbers(count, seed, batch_size)
        extra = [ImageNetSpace(self.accelerator.device)] if imagenet else []
        named = self._named(count, seed, batch_size, given)
        sampler = self.sampler = self._sampler(named, {key: one for key, one in given.items() if one is not None})
        sampler.try_one()  # of another shape, or refused, is known before any work
        seen = self._seen()
        spaces = feature_spaces(self.train, self.config, feature_net, self.accelerator)
        if self.accelerator.is_main_process:
            yardstick = Evaluator(self.train, self.test, spaces, extra, self.tell)
            yardstick.check(count)
        generated, seconds = sampler.draw(count)
        if not self.accelerator.is_main_process:
            return

        speed = sampler.speed(seconds)
        found = yardstick.judge(generated, sampler.labels(count))
        as_asked = (count, batch_size, named["dtype"]) == (protocol.COUNT, protocol.BATCH_SIZE, "float32")
        self.result["complete"] &= as_asked and spaces[0].is_pinned
        self.result["samples"] = named
        self.result["spaces"] = {space.name: space.key for space in yardstick.spaces}
        self.result["feature_net_accuracy"] = yardstick.accuracy()
        self.result["figures"] += [figure.to_dict() for figure in found]
        self.result["speed"] = speed
        self.result["memorisation"] = {}
        if seen is not None:
            memory = yardstick.memorisation(generated, seen)
            self.pairs = closest_pairs(generated, seen, memory["pix"])
            self.result["memorisation"] = {name: report.to_dict() for name, report in memory.items()}

    def _check_numbers(self, count: int, seed: int, batch_size: int):
        """Refuses numbers, and sets of real images, that are too small."""
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("count", count, LEAST)):
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")
        for split in ("train", "test"):
            if len(self.splits[split]) < LEAST:
                raise ValueError(
                    f"{self.config.source} must have at least {LEAST} images in its split {split}, for the covariance "
                    f"of {LEAST - 1} features, got {len(self.splits[split])}; `--data` names other images."
                )
        if is_conditional(self.pipeline) and self.test.labels is None:
            raise ValueError(f"{self.config.source} has no labels, and the model must be asked for classes.")

    def _named(self, count: int, seed: int, batch_size: int, given: dict) -> dict:
        """Returns how the images are sampled, as the result says it."""
        return {
            "images": count,
            "seed": seed,
            "batch_size": batch_size,
            "classes": self.test.shape.num_classes if is_conditional(self.pipeline) else None,
            "sampler": type(self.pipeline.scheduler).__name__ if "scheduler" in self.pipeline.components else None,
            "steps": given["num_inference_steps"] or self.pipeline.config.get("num_inference_steps"),
            "guidance_scale": given["guidance_scale"],
            "dtype": str(self.pipeline.dtype).removeprefix("torch."),
        }

    def _sampler(self, named: dict, arguments: dict) -> Sampler:
        """Returns what generates, under a key of all that decides what it makes and how fast."""
        decisive = [self.result[part] for part in ("repository", "hardware", "versions")]
        return Sampler(
            self.pipeline,
            shape=tuple(self.test.images.shape[1:]),
            seed=named["seed"],
            batch_size=named["batch_size"],
            classes=named["classes"],
            arguments=arguments,
            key=repr(decisive) + repr(getattr(self.pipeline, "scheduler", None)) + named["dtype"],
        )

    def reconstructions(self) -> None:
        """Judges what an autoencoder gives back, and its codes."""
        can_probe(self.train, self.test)  # or refuses, before any work
        if self.accelerator.is_main_process:
            vae = self.pipeline.components.get("vae")
            has_posterior = vae is not None and "likelihood" in vae.config
            binarise = self.recipe.stages[-1].objective.arguments.get("binarise")
            conditional = is_conditional(self.pipeline)
            found = judge_reconstructions(self.pipeline, self.splits, self.tell, conditional, has_posterior, binarise)
            if has_posterior:
                found += judge_likelihoods(vae, self.splits, binarise, self.tell)
            self.result["figures"] += [figure.to_dict() for figure in found]

    def accuracy_after_training(self, count: int) -> None:
        """Adds the classification accuracy score: that of a classifier trained on `count` generated images (Ravuri &
        Vinyals 2019, arXiv 1905.10887, Sec. 3), beside that of one trained on as many real ones."""
        generated = data.Images(self.sampler.draw(count)[0], self.sampler.labels(count), self.test.class_names)
        real = self.train.choose(min(count, len(self.train)), seed=0)
        for name, images in (("CAS", generated), (f"CAS of {len(real):,} real images", real)):
            value, spread = mean_of(hits_after_training(images, self.test))
            figure = Figure(name, "", value, spread, "standard error over test images", len(images))
            self.result["figures"].append(figure.to_dict())

    def _seen(self) -> torch.Tensor | None:
        """Returns the images that the model was trained on, None where they are not at hand."""
        if self.config.source == self.recipe.data.source:
            return self.train.images
        try:
            images = _in_memory(self.recipe.data, "train").images
        except ValueError as error:
            self.tell(f"no memorisation: the training images are not at hand ({error})")
            return None
        return images if images.shape[1:] == self.test.images.shape[1:] else None

    def tell(self, what: str):
        """Says what is being measured."""
        if self.accelerator.is_main_process:
            print(f"measuring {what}", file=sys.stderr)

    def write(self) -> None:
        """Adds the result to those of the repository, in place of an older one of the same settings, and renews the
        card."""
        if self.accelerator.is_main_process:
            self.target.mkdir(parents=True, exist_ok=True)
            metrics = json.loads(self._newest("metrics.json") or "{}")
            metrics["evaluations"] = merged(metrics.get("evaluations", []), self.result)
            atomic_write(self.target / "metrics.json", json.dumps(metrics, indent=2) + "\n")
            if self.pairs is not None and results.to_show(metrics) == self.result:
                atomic_write(self.target / "closest.png", self.pairs)
            if (text := self._newest("README.md")) is not None:
                atomic_write(self.target / "README.md", results.with_results(text, metrics))
        self.accelerator.wait_for_everyone()

    def _newest(self, name: str) -> str | None:
        path = next((place / name for place in (self.target, self.folder) if (place / name).is_file()), None)
        return None if path is None else path.read_text()


def merged(evaluations: list[dict], result: dict) -> list[dict]:
    """Returns `evaluations` with `result` in place of one of the same settings, whose classification accuracy score it
    takes over where it has none."""
    same = [one for one in evaluations if _settings(one) == _settings(result)]
    if not any(figure["name"].startswith("CAS") for figure in result["figures"]):
        result["figures"] += [figure for one in same for figure in one["figures"] if figure["name"].startswith("CAS")]
    return [one for one in evaluations if one not in same] + [result]


def _settings(one: dict) -> list:
    return [one[part] for part in ("protocol", "samples", "reference", "spaces", "repository")]


def closest_pairs(images: torch.Tensor, seen: torch.Tensor, found: Memorisation) -> bytes:
    """Returns a picture of the generated images that are nearest to training images: each above its neighbour."""
    ours, theirs = (part.float() / 255 for part in (images[found.closest[0]], seen[found.closest[1]]))
    return plotting.png(plotting.grid(plotting.pairs(ours, theirs), columns=8))


def _check_pipeline(repo: str, pipeline: DiffusionPipeline, steps: int | None, guidance: float | None, cas: int):
    """Refuses a pipeline that cannot be judged, and arguments that it does not take."""
    if not (generates(pipeline) or callable(getattr(pipeline, "reconstruct", None))):
        name = type(pipeline).__name__
        raise ValueError(f"{repo} must hold a pipeline that generates or reconstructs images, got {name}.")
    takes = inspect.signature(pipeline.__call__).parameters
    for name, value in (("num_inference_steps", steps), ("guidance_scale", guidance)):
        if value is not None and name not in takes:
            raise ValueError(f"`{name}` must be unset: {type(pipeline).__name__} does not take it.")
    if cas and cas < LEAST:
        raise ValueError(f"`cas` must be 0, or at least {LEAST} images, got {cas}.")
    if cas and not is_conditional(pipeline):
        raise ValueError("`cas` must be off: the model is not conditional, so its images have no labels.")


def _check_target(target: Path, repository: str):
    """Refuses a folder that cannot be written, or that holds what was found of another repository."""
    existing = next(place for place in [target, *target.absolute().parents] if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"The folder {target} cannot be written; `output` names another one.")
    if (target / "metrics.json").is_file():
        found = json.loads((target / "metrics.json").read_text()).get("evaluations", [])
        if any(one["repository"] != repository for one in found):
            raise ValueError(f"The folder {target} holds the evaluation of another repository.")


def _in_memory(config: data.DataConfig, split: str) -> data.Images:
    """Loads a split of the data that a model is compared with."""
    images = data.load(replace(config, streaming=False), split)
    if not isinstance(images, data.Images):
        raise ValueError(f"`data.memory_limit_gb` must be enough for {config.source}, got {config.memory_limit_gb}.")
    return images


def _output(repo: str, folder: Path, output: str | None) -> Path:
    if output is not None:
        return Path(output)
    return folder if Path(repo).expanduser().is_dir() else Path(f"evaluation-{repo.split('/')[-1]}")
