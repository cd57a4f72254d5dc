"""One evaluation: the data to compare with, the measurements, and the files that store them."""

import datetime
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DiffusionPipeline

from genhub import data, plotting
from genhub.evaluation import protocol
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.likelihood import evaluate_likelihoods
from genhub.evaluation.memorisation import Memorisation
from genhub.evaluation.metrics import mean_of
from genhub.evaluation.reconstruction import can_probe, evaluate_reconstructions
from genhub.evaluation.result import Metric, merge_evaluation
from genhub.evaluation.sampling import Sampler, sampling_record
from genhub.recipes.recipe import Recipe
from genhub.repository import card_results
from genhub.repository.capabilities import capabilities_of
from genhub.training.feature_classifier import classifies_correctly, feature_spaces
from genhub.utils.cache import content_hash
from genhub.utils.environment import hardware, versions
from genhub.utils.files import atomic_write, sha256

MIN_IMAGES = 129  # for the covariance of the 128 features of the protocol's classifier


class Evaluation:
    """One evaluation of one pipeline: its data, and the result as `metrics.json` stores it.

    Args:
        folder: the repository.
        target: folder of the results.

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
        self.recipe, self.closest_pairs = recipe, None
        self.capabilities = capabilities_of(pipeline)
        repository = _hash(folder)
        _check_target(target, repository)
        self.config, self.splits = _load_splits(recipe, data_source)
        self.train, self.test = self.splits["train"], self.splits["test"]
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

    def evaluate_samples(
        self,
        count: int,
        seed: int,
        batch_size: int,
        arguments: dict[str, Any],
        scheduler_arguments: dict[str, Any],
        feature_net: str | None,
    ) -> None:
        """Generates images and measures quality, memorisation and speed."""
        self._check_samples(count, seed, batch_size)
        sampler = self.sampler = self._sampler(seed, batch_size, arguments)
        sampler.try_one()
        seen = self._seen()
        spaces = feature_spaces(self.train, self.config, feature_net, self.accelerator)
        if self.accelerator.is_main_process:
            evaluator = Evaluator(self.train, self.test, spaces, self.tell)
            evaluator.check(count)
        images, seconds = sampler.draw(count)
        if not self.accelerator.is_main_process:
            return

        record = sampling_record(sampler, count, scheduler_arguments)
        follows_protocol = (count, batch_size, record["dtype"]) == (protocol.COUNT, protocol.BATCH_SIZE, "float32")
        self.result["complete"] &= follows_protocol and spaces[0].is_pinned
        self.result["samples"] = record
        self.result["spaces"] = {space.name: space.key for space in evaluator.spaces}
        self.result["feature_net_accuracy"] = evaluator.accuracy()
        self.result["speed"] = sampler.speed(seconds)
        self._add(evaluator.evaluate(images, sampler.labels(count)))
        self.result["memorisation"] = {}
        if seen is not None:
            reports = evaluator.memorisation(images, seen)
            self.closest_pairs = draw_closest_pairs(images, seen, reports["pix"])
            self.result["memorisation"] = {name: report.to_dict() for name, report in reports.items()}

    def _check_samples(self, count: int, seed: int, batch_size: int) -> None:
        """Raises ValueError if numbers or sets of real images are too small."""
        for name, value, minimum in (("batch_size", batch_size, 1), ("seed", seed, 0), ("count", count, MIN_IMAGES)):
            if value < minimum:
                raise ValueError(f"`{name}` must be at least {minimum}, got {value}.")
        for split in ("train", "test"):
            if len(self.splits[split]) < MIN_IMAGES:
                raise ValueError(
                    f"{self.config.source} must have at least {MIN_IMAGES} images in its split {split}, for the "
                    f"covariance of {MIN_IMAGES - 1} features, got {len(self.splits[split])}; `--data` names other "
                    "images."
                )
        if self.capabilities.num_classes is not None and self.test.labels is None:
            raise ValueError(f"{self.config.source} has no labels, and the model must be asked for classes.")

    def _sampler(self, seed: int, batch_size: int, arguments: dict[str, Any]) -> Sampler:
        """Returns the sampler, with a key of all that decides its images and their speed."""
        classes, data_classes = self.capabilities.num_classes, self.test.shape.num_classes
        channels, height, width = self.test.images.shape[1:]
        decisive = [self.result[part] for part in ("repository", "hardware", "versions")]
        scheduler, dtype = self.pipeline.components.get("scheduler"), str(self.pipeline.dtype).removeprefix("torch.")
        return Sampler(
            self.pipeline,
            shape=(channels, height, width),
            seed=seed,
            batch_size=batch_size,
            classes=None if classes is None or data_classes is None else min(classes, data_classes),
            arguments=arguments,
            key=repr(decisive) + repr(scheduler) + dtype,
        )

    def evaluate_reconstructions(self) -> None:
        """Measures reconstructions and codes, and likelihoods if the model has one."""
        can_probe(self.train, self.test)  # raises before any work
        if self.accelerator.is_main_process:
            vae = self.pipeline.components.get("vae")
            has_posterior = vae is not None and "likelihood" in vae.config
            binarise = self.recipe.stages[-1].objective.arguments.get("binarise")
            self._add(evaluate_reconstructions(self.pipeline, self.splits, self.tell, has_posterior, binarise))
            if vae is not None and has_posterior:
                self._add(evaluate_likelihoods(vae, self.splits, binarise, self.tell))

    def evaluate_cas(self, count: int) -> None:
        """Adds the classification accuracy score (CAS): the test accuracy of a classifier trained on `count` generated
        images (Ravuri & Vinyals 2019, arXiv 1905.10887, Sec. 3), and of one trained on as many real ones."""
        generated = data.Images(self.sampler.draw(count)[0], self.sampler.labels(count), self.test.class_names)
        real = self.train.choose(min(count, len(self.train)), seed=0)
        for name, images in (("CAS", generated), (f"CAS of {len(real):,} real images", real)):
            value, spread = mean_of(classifies_correctly(images, self.test))
            self._add([Metric(name, "", value, spread, "standard error over test images", len(images))])

    def _add(self, metrics: list[Metric]) -> None:
        self.result["figures"] += [metric.to_dict() for metric in metrics]

    def _seen(self) -> torch.Tensor | None:
        """Returns the images that the model was trained on, None if they are not available."""
        if self.config.source == self.recipe.data.source:
            return self.train.images
        try:
            images = _load(self.recipe.data, "train").images
        except ValueError as error:
            self.tell(f"no memorisation: the training images are not available ({error})")
            return None
        return images if images.shape[1:] == self.test.images.shape[1:] else None

    def tell(self, what: str) -> None:
        """Prints what is being measured."""
        if self.accelerator.is_main_process:
            print(f"measuring {what}", file=sys.stderr)

    def write(self) -> None:
        """Merges the result into `metrics.json` and renews the card."""
        if self.accelerator.is_main_process:
            self.target.mkdir(parents=True, exist_ok=True)
            metrics = json.loads(self._read_newest("metrics.json") or "{}")
            metrics["evaluations"] = merge_evaluation(metrics.get("evaluations", []), self.result)
            atomic_write(self.target / "metrics.json", json.dumps(metrics, indent=2) + "\n")
            is_shown = card_results.to_show(metrics) == metrics["evaluations"][-1]
            if self.closest_pairs is not None and is_shown:
                atomic_write(self.target / "closest.png", self.closest_pairs)
            if (card := self._read_newest("README.md")) is not None:
                atomic_write(self.target / "README.md", card_results.with_results(card, metrics))
        self.accelerator.wait_for_everyone()

    def _read_newest(self, name: str) -> str | None:
        """Returns a document of the target, else of the repository."""
        paths = (folder / name for folder in (self.target, self.folder))
        return next((path.read_text() for path in paths if path.is_file()), None)


def draw_closest_pairs(images: torch.Tensor, seen: torch.Tensor, memorisation: Memorisation) -> bytes:
    """Draws the generated images nearest to training images, each above its neighbour."""
    generated, real = memorisation.closest
    return plotting.png(plotting.grid(plotting.pairs(images[generated] / 255, seen[real] / 255), columns=8))


def _check_target(target: Path, repository: str) -> None:
    """Raises ValueError if a folder cannot be written, or has results of another repository."""
    existing = next(path for path in [target, *target.absolute().parents] if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"The folder {target} cannot be written; `output` names another one.")
    if (target / "metrics.json").is_file():
        evaluations = json.loads((target / "metrics.json").read_text()).get("evaluations", [])
        if any(evaluation["repository"] != repository for evaluation in evaluations):
            raise ValueError(f"The folder {target} holds the evaluation of another repository.")


def _hash(folder: Path) -> str:
    """Returns what identifies a repository: a hash of its weights and configs."""
    weights = [sha256(path) for path in sorted(folder.glob("*/*.safetensors"))]
    configs = [path.read_text() for path in sorted([folder / "model_index.json", *folder.glob("*/*config.json")])]
    return content_hash(*weights, *configs)


def _load_splits(recipe: Recipe, data_source: str | None) -> tuple[data.DataConfig, dict[str, data.Images]]:
    """Loads the data to compare with, by split: the recipe's, or others, split as the protocol demands."""
    config = recipe.data
    if data_source is not None:
        config = replace(config, source=data_source, val_size=0, labelled=None)
    splits = {split: _load(config, split) for split in ("train", "test")}
    train = splits["train"]
    if data_source is not None and len(train) == 60_000 and protocol.is_fashion_mnist(train.images):
        splits["train"] = train[:55_000]
    if config.val_size:
        splits["val"] = _load(config, "val")
    return config, splits


def _load(config: data.DataConfig, split: str) -> data.Images:
    images = data.load(replace(config, streaming=False), split)
    if not isinstance(images, data.Images):
        raise ValueError(f"`data.memory_limit_gb` must be enough for {config.source}, got {config.memory_limit_gb}.")
    return images
