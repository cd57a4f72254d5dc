"""One evaluation: the data to compare with, the measurements, and the files that store them."""

import datetime
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from diffusers import DiffusionPipeline

from genhub import data, plotting
from genhub.commands.evaluation_data import check_target, config_of, load_images, load_splits, metrics_of, read_newest
from genhub.commands.subject import Subject
from genhub.data.image_files import with_classes_of
from genhub.evaluation import protocol
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.latents import find_autoencoder, reconstruct_by
from genhub.evaluation.likelihood import evaluate_likelihoods
from genhub.evaluation.memorisation import Memorisation
from genhub.evaluation.metrics import mean_of
from genhub.evaluation.prompts import attribute_fidelity, captions_to_ask
from genhub.evaluation.reconstruction import evaluate_reconstructions
from genhub.evaluation.result import Metric, merge_evaluation
from genhub.evaluation.sampling import Sampler
from genhub.evaluation.stored_images import StoredImages
from genhub.recipes.places import published_value
from genhub.repository import card, card_results
from genhub.training.distributed import on_main
from genhub.training.feature_classifier import classifies_correctly, feature_spaces, labels_of
from genhub.utils.environment import hardware, versions
from genhub.utils.files import atomic_write
from genhub.utils.locks import locked

WAIT = 10  # seconds for another evaluation that writes its results
MIN_IMAGES = 129  # for the covariance of the 128 features of the protocol's classifier


class Evaluation:
    """One evaluation of one subject: its data, and the result as `metrics.json` stores it.

    Args:
        target: folder of the results.

    Raises:
        ValueError: the data cannot be loaded, or `target` cannot be written or belongs to another repository.
    """

    def __init__(self, subject: Subject, target: Path, data_source: str | None, accelerator: Accelerator):
        self.subject, self.target, self.accelerator = subject, target, accelerator
        self.closest_pairs, self.evaluator = None, None
        check_target(target, subject)
        self.config, self.splits = load_splits(subject.recipe, data_source)
        self.train, self.test = self.splits["train"], self.splits["test"]
        self.padding = 0 if subject.recipe is None else subject.recipe.data.padding
        self.result = {
            "protocol": protocol.PROTOCOL,
            "complete": protocol.is_official(self.train, self.test),
            "date": datetime.date.today().isoformat(),
            "repository": subject.key,
            "training_seed": None if subject.recipe is None else subject.recipe.training.seed,
            "reference": {
                "data": published_value("data.source", self.config.source),
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
        self, source: Sampler | StoredImages, record: dict[str, Any], feature_net: str | None
    ) -> None:
        """Measures quality, memorisation and speed of images of `source`.

        Args:
            record: their number, and how they are sampled.
        """
        self.source, count = source, record["images"]
        self._check_samples(count)
        source.try_one()
        seen = self._seen()
        evaluator = self._evaluator(feature_net)
        if evaluator is not None:
            evaluator.check(count)
        images, seconds = source.draw(count)
        if evaluator is None:
            return
        self.result["complete"] &= protocol.is_followed(record) and evaluator.clf.is_pinned
        self.result["samples"] = record
        self.result["effective_rank"] = evaluator.effective_ranks()
        self.result["feature_net_accuracy"] = evaluator.accuracy()
        labels = source.labels(count)
        self._add(evaluator.evaluate(images, labels))
        if isinstance(source, Sampler):
            self.result["speed"] = source.speed(seconds)
            if (prompts := source.prompts(count)) is not None and labels is not None:
                self._add(attribute_fidelity(self.train, prompts, images, labels))
            self._evaluate_latents()
        self.result["memorisation"] = {}
        if seen is not None:
            reports = evaluator.memorisation(images, seen)
            self.closest_pairs = draw_closest_pairs(images, seen, reports["pix"])
            self.result["memorisation"] = {name: report.to_dict() for name, report in reports.items()}

    def _evaluator(self, feature_net: str | None) -> Evaluator | None:
        """Returns what compares images with the test images, in the main process."""
        if self.evaluator is None:
            spaces = feature_spaces(self.train, self.config, feature_net, self.accelerator)
            if self.accelerator.is_main_process:
                self.evaluator = Evaluator(self.train, self.test, spaces, self.tell)
                self.result["spaces"] = {space.name: space.key for space in self.evaluator.spaces}
        return self.evaluator

    def _evaluate_latents(self) -> None:
        """Measures the distance of reconstructions, if the pipeline works in the latents of an autoencoder and images
        are compared anyhow, or in the features of the protocol."""
        autoencoder = find_autoencoder(cast(DiffusionPipeline, self.subject.pipeline).components.values())
        if autoencoder is None or (self.evaluator is None and not protocol.is_fashion_mnist(self.train.images)):
            return
        if (evaluator := self._evaluator(None)) is not None:
            images = reconstruct_by(autoencoder, self.test, self.padding)
            self._add([evaluator.reconstruction_distance(images)])

    def _check_samples(self, count: int) -> None:
        """Raises ValueError if sets of generated or real images are too small."""
        if count < MIN_IMAGES:
            raise ValueError(f"`count` must be at least {MIN_IMAGES}, got {count}.")
        for split in ("train", "test"):
            if len(self.splits[split]) < MIN_IMAGES:
                raise ValueError(
                    f"{self.config.source} must have at least {MIN_IMAGES} images in its split {split}, for the "
                    f"covariance of {MIN_IMAGES - 1} features, got {len(self.splits[split])}; `--data` names other "
                    "images."
                )
        if self.subject.capabilities.num_classes is not None and self.test.labels is None:
            raise ValueError(f"{self.config.source} has no labels, and the model must be asked for classes.")

    def stored_images(self, count: int | None) -> StoredImages:
        """Returns the images of the subject, of the classes of the data."""
        images, shape = cast(data.Images, self.subject.images), self.test.shape
        if len(images) < (minimum := max(count or 0, MIN_IMAGES)):
            raise ValueError(f"{self.subject.source} must hold at least {minimum:,} images, got {len(images):,}.")
        if shape.num_classes is None:
            images = replace(images, labels=None)
        else:
            images = with_classes_of(images, shape.class_names, shape.num_classes)
        return StoredImages(images, (shape.channels, shape.height, shape.width))

    def sampler(self, seed: int, batch_size: int, arguments: dict[str, Any]) -> Sampler:
        """Returns the sampler of the pipeline, with a key of all that decides its images and their speed."""
        pipeline, shape = cast(DiffusionPipeline, self.subject.pipeline), self.test.shape
        classes, data_classes = self.subject.capabilities.num_classes, shape.num_classes
        decisive = [self.result[part] for part in ("repository", "hardware", "versions")]
        scheduler, dtype = pipeline.components.get("scheduler"), str(pipeline.dtype).removeprefix("torch.")
        return Sampler(
            pipeline,
            shape=(shape.channels, shape.height, shape.width),
            seed=seed,
            batch_size=batch_size,
            classes=None if classes is None or data_classes is None else min(classes, data_classes),
            captions=captions_to_ask(self.train, self.test) if "prompt" in self.subject.capabilities.inputs else None,
            padding=self.padding,
            arguments=arguments,
            key=repr(decisive) + repr(scheduler) + dtype,
        )

    def evaluate_reconstructions(self) -> None:
        """Measures reconstructions and codes, and likelihoods if the model has one."""
        if self.accelerator.is_main_process:
            pipeline, recipe = cast(DiffusionPipeline, self.subject.pipeline), self.subject.recipe
            vae = pipeline.components.get("vae")
            has_posterior = vae is not None and "likelihood" in vae.config
            binarise = None if recipe is None else recipe.stages[-1].objective.arguments.get("binarise")
            self._add(
                evaluate_reconstructions(pipeline, self.splits, self.tell, has_posterior, binarise, self.padding)
            )
            if vae is not None and has_posterior:
                self._add(evaluate_likelihoods(vae, self.splits, binarise, self.tell))
            if not self.subject.capabilities.can("generate"):
                self._evaluate_latents()

    def evaluate_cas(self, count: int) -> None:
        """Adds and writes the classification accuracy score (CAS): the test accuracy of a classifier trained on
        `count` generated images (Ravuri & Vinyals 2019, arXiv 1905.10887, Sec. 3), and of others trained on as many
        real ones, or all if there are fewer, and on both."""
        generated = data.Images(self.source.draw(count)[0], self.source.labels(count), self.test.class_names)
        real = self.train.choose(min(count, len(self.train)), seed=0)
        labels = torch.cat([labels_of(real), labels_of(generated)])
        both = data.Images(torch.cat([real.images, generated.images]), labels, real.class_names)
        sets = {"CAS": generated, f"CAS of {len(real):,} real images": real, "CAS of real and generated images": both}
        for name, images in sets.items():
            value, spread = mean_of(classifies_correctly(images, self.test))
            self._add([Metric(name, "", value, spread, "standard error over test images", len(images))])
        self.write()

    def _add(self, metrics: list[Metric]) -> None:
        self.result["figures"] += [metric.to_dict() for metric in metrics]

    def _seen(self) -> torch.Tensor | None:
        """Returns the images that the model was trained on, those of the data if no recipe names others; None if they
        are not available."""
        recipe = self.subject.recipe
        if recipe is None or self.config == config_of(recipe):
            return self.train.images
        try:
            images = load_images(config_of(recipe), "train").images
        except ValueError as error:
            self.tell(f"no memorisation: the training images are not available ({error})")
            return None
        return images if images.shape[1:] == self.test.images.shape[1:] else None

    def tell(self, what: str) -> None:
        """Prints what is being measured."""
        if self.accelerator.is_main_process:
            print(f"measuring {what}", file=sys.stderr)

    def write(self) -> None:
        """Merges the result into `metrics.json` and renews the card.

        Raises:
            ValueError: another process writes to the folder; the generated images are kept for the next evaluation.
        """
        on_main(self._write)

    def _write(self) -> None:
        with locked(self.target, wait=WAIT):
            metrics = metrics_of(self.target, self.subject.folder)
            metrics["evaluations"] = merge_evaluation(metrics.get("evaluations", []), self.result)
            atomic_write(self.target / "metrics.json", json.dumps(metrics, indent=2) + "\n")
            is_shown = card_results.to_show(metrics) == metrics["evaluations"][-1]
            if self.closest_pairs is not None and is_shown:
                atomic_write(self.target / "closest.png", self.closest_pairs)
            text = read_newest("README.md", self.target, self.subject.folder)
            if text is None and self.subject.recipe is None:
                text = card.of_results(self.subject.name)
            if text is not None:
                atomic_write(self.target / "README.md", card_results.with_results(text, metrics))


def draw_closest_pairs(images: torch.Tensor, seen: torch.Tensor, memorisation: Memorisation) -> bytes:
    """Draws the generated images nearest to training images, each above its neighbour."""
    generated, real = memorisation.closest
    return plotting.png(plotting.grid(plotting.pairs(images[generated] / 255, seen[real] / 255), columns=8))
