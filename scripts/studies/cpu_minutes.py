"""Repositories trained for so many minutes of one thread, judged alike, and the report of what was measured."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from genhub import recipes
from genhub.data import DataConfig, Images, load
from genhub.evaluation.features import ClassifierSpace, pinned_spaces
from genhub.evaluation.metrics import Gaussian, frechet_distance
from genhub.evaluation.sampling import Sampler
from genhub.recipes.sections import resume_conflicts
from genhub.repository.load import AutoPipeline
from genhub.training.clock import Clock
from genhub.training.run import train
from genhub.utils.environment import device_name, versions
from genhub.utils.files import atomic_write

QUIET: dict[str, Any] = {"training.validate_every": 0, "training.sample_every": 0, "training.checkpoint_every": 0}


class Report:
    """The rows of a study in report.json, beside a README.md that is rendered anew after each of them.

    Args:
        settings: what all rows share.
        markdown: renders the content of report.json.

    Raises:
        ValueError: the folder holds a report of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], markdown: Callable[[dict[str, Any]], str]):
        self.folder, self.markdown, self.path = folder, markdown, folder / "report.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.content: dict[str, Any] = (
            json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {"rows": {}}
        )
        if self.content["rows"] and {name: self.content.get(name) for name in settings} != settings:
            raise ValueError(f"{self.path} was measured with other settings than {settings}.")
        self.content |= settings | {"device": device_name(torch.device("cpu")), "versions": versions()}

    def save(self):
        """Writes both files."""
        atomic_write(self.path, json.dumps(self.content, indent=1) + "\n")
        atomic_write(self.folder / "README.md", self.markdown(self.content))


class Judge:
    """Trains repositories, and measures the Fréchet distance of their images to images that none is trained on.

    Args:
        train: images that they are trained on.
        held_out: images that they are not trained on.
        space: of the distance.
        count: number of generated images.
    """

    def __init__(self, train: Images, held_out: Images, space: ClassifierSpace, count: int):
        Clock.now = staticmethod(time.process_time)  # other work on the machine costs a run nothing
        torch.set_num_threads(1)
        self.train, self.held_out, self.space, self.count = train, held_out, space, count
        channels, height, width = held_out.images.shape[1:]
        self.real, self.shape = Gaussian.fit(self.space(held_out.images)), (channels, height, width)

    @classmethod
    def of_fashion_mnist(cls, source: str, count: int) -> "Judge":
        """Measures the distance to the held-out images of Fashion MNIST in the features of the protocol."""
        train, held_out = (load(DataConfig(source=source, val_size=5000), split) for split in ("train", "val"))
        assert isinstance(train, Images)
        assert isinstance(held_out, Images)
        return cls(train, held_out, next(pinned_spaces()), count)

    def __call__(self, recipe: str, folder: Path, minutes: float, overrides: dict[str, Any]) -> dict[str, Any]:
        """Returns a row: of the repository in `folder`, which is trained first if it is not there."""
        self.train_recipe(recipe, folder, minutes, overrides)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        pipeline: Any = AutoPipeline.from_pretrained(folder)
        guidances = dict.fromkeys((1.0, pipeline.config["guidance_scale"]))
        return {
            "images": metrics["training"]["images"],
            "parameters": metrics["training"]["parameters"]["unet"],
            "val_loss": metrics["results"][0]["value"],
            "distances": {f"{guidance:g}": self.distance(pipeline, guidance) for guidance in guidances},
        }

    def train_recipe(self, recipe: str, folder: Path, minutes: float, overrides: dict[str, Any]) -> None:
        """Trains the repository in `folder`, if it is not there.

        Raises:
            ValueError: another one is there.
        """
        overrides = QUIET | {"training.max_minutes": minutes} | overrides
        if not (folder / "model_index.json").is_file():
            train(recipe, folder, overrides=overrides, trust_code=True)
        found, wanted = recipes.load(folder, trust_code=True), recipes.load(recipe, overrides, trust_code=True)
        changed = resume_conflicts(found.sections, wanted.sections)
        if found.training.max_minutes != wanted.training.max_minutes:
            changed.append("training.max_minutes")
        if changed:
            raise ValueError(f"{folder} was trained with another {', '.join(changed)}.")

    def distance(self, pipeline: Any, guidance: float) -> float:
        """Returns the distance of images of all classes in turn."""
        classes, arguments = pipeline.config["num_classes"], {"guidance_scale": guidance}
        sampler = Sampler(pipeline, self.shape, seed=0, batch_size=250, classes=classes, arguments=arguments)
        features = self.space(sampler.draw(self.count)[0])
        return round(frechet_distance(self.real, Gaussian.fit(features)), 3)

    def floor(self) -> float:
        """Returns the distance of as many training images."""
        features = self.space(self.train.choose(self.count, seed=0).images)
        return round(frechet_distance(self.real, Gaussian.fit(features)), 3)
