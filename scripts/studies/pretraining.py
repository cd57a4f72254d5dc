"""Does pretraining without labels help if few images have one (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17,
exercise 10)? Writes the report in docs/pretraining.

    python scripts/studies/pretraining.py FASHION_MNIST docs/pretraining

A denoising autoencoder learns from all training images. A classifier starts from its first layers and learns from
500 labels, fine-tuned (all weights) or frozen (the last layer only). It is compared with the same network from
scratch, and with logistic regression and a support vector machine on pixels. All of them get the same draws of labels,
and a network takes the same number of steps however it starts.
"""

import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined
from torch import nn

from genhub import recipes
from genhub.data import DataConfig, Images, load, to_model_range
from genhub.repository.load import AutoPipeline
from genhub.training.run import train
from genhub.utils.environment import versions
from genhub.utils.files import atomic_write

TEMPLATE = Path(__file__).with_suffix(".md.jinja")
RECIPE = "pretrained-classifier"
SCRATCH, FINE_TUNED, FROZEN = STARTS = ("from scratch", "pretrained, fine-tuned", "pretrained, frozen")
# Classifier -> recipe of the autoencoder that it may start from, and overrides of RECIPE
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": (
        "denoising-ae",
        {
            "components.classifier": {"class": "genhub.DenseClassifier"},
            "objective": {"class": "genhub.objectives.Classification", "label_smoothing": 0}
            | {"max_shift": 0, "erasing": 0},
            "optimizers": {"classifier": {"class": "torch.optim.NAdam", "lr": 1e-3, "eps": 1e-7}},
            "training.batch_size": 32,
            "training.epochs": 50,
            "training.mixed_precision": "no",
            "training.channels_last": False,
        },
    ),
    "convolutional": ("pretraining-ae", {}),
}
QUIET: dict[str, Any] = {"training.validate_every": 0, "training.checkpoint_every": 0, "training.log_every": 100}


def write_report(source: str, folder: Path, runs: Path = Path("runs/pretraining"), draws: int = 5) -> dict[str, Any]:
    """Measures what is missing in report.json in `folder`, writes it and README.md after each measurement, and returns
    it.

    Args:
        source: of the images: Fashion MNIST.
        runs: folder of the trained repositories; existing ones are not trained again.

    Raises:
        ValueError: fewer than two draws of labels, or more draws than labels.
    """
    config = recipes.load(RECIPE, {"data.source": source}).data
    labels = config.labelled or 0
    if not 2 <= draws <= labels:
        raise ValueError(f"`draws` must lie in 2..{labels}, the labels of a draw, got {draws}.")
    test, path = load_images(config, "test"), folder / "report.json"
    folder.mkdir(parents=True, exist_ok=True)
    stored = path.read_text(encoding="utf-8") if path.is_file() else '{"pretraining": {}, "rows": {}}'
    report: dict[str, Any] = json.loads(stored)
    report |= {"labels": labels, "test_images": len(test), "draws": draws, "versions": versions()}
    for row in ROWS:
        entry = report["rows"].setdefault(row, {"accuracy": {}, "steps": None})
        for draw in range(draws):
            if str(draw) in entry["accuracy"]:
                continue
            accuracy, entry["steps"] = measure(row, draw, source, runs, test)
            entry["accuracy"][str(draw)] = accuracy
            print(f"{row}, draw {draw}: {accuracy:.2%}", flush=True)
            for autoencoder, _ in NETWORKS.values():
                if (runs / autoencoder / "metrics.json").is_file():
                    report["pretraining"][autoencoder] = training_length(runs / autoencoder)
            atomic_write(path, json.dumps(report, indent=1) + "\n")
            atomic_write(folder / "README.md", markdown(report))
    atomic_write(folder / "README.md", markdown(report))
    return report


def measure(row: str, draw: int, source: str, runs: Path, test: Images) -> tuple[float, int | None]:
    """Returns the test accuracy of the classifier of a row with one draw of labels, and the steps that it was trained
    for, if it is a network."""
    where = {"data.source": source, "data.label_draw": draw}
    labelled = load_images(recipes.load(RECIPE, where).data, "train")
    if row in BASELINES:
        return fit_and_score(BASELINES[row], labelled, test, lambda images: images.flatten(1) / 255), None
    if row in PROBES:  # the frozen rows come first
        frozen = AutoPipeline.from_pretrained(run_folder(runs, PROBES[row], draw)).classifier
        return fit_and_score(logistic_regression, labelled, test, partial(features, frozen)), None
    network, _, start = row.partition(", ")
    autoencoder, overrides = NETWORKS[network]
    if start != SCRATCH:
        train_once(autoencoder, runs / autoencoder, {"data.source": source})
    overrides = overrides | where | {"training.seed": draw}
    overrides |= start_overrides(start, overrides, runs / autoencoder)
    folder = train_once(RECIPE, run_folder(runs, row, draw), overrides)
    return score(folder, test), training_length(folder)["steps"]


def load_images(config: DataConfig, split: str) -> Images:
    """Loads a split into memory."""
    images = load(config, split)
    assert isinstance(images, Images)
    return images


def run_folder(runs: Path, row: str, draw: int) -> Path:
    """Returns the folder of the repository of a row and a draw."""
    return runs / row.replace(", ", "-").replace(" ", "-") / str(draw)


def start_overrides(start: str, overrides: dict[str, Any], autoencoder: Path) -> dict[str, Any]:
    """Returns the overrides of RECIPE that say where a network starts, and which of its layers learn."""
    if start == SCRATCH:
        return {"components.classifier.weights": None}
    weights = {"components.classifier.weights": f"{autoencoder}/autoencoder"}
    if start == FINE_TUNED:
        return weights
    optimizer = recipes.load(RECIPE, overrides).sections["optimizers"]["classifier"]
    return weights | {"objective.trains_body": False, "optimizers": {"classifier.head": optimizer}}


def train_once(recipe: str, folder: Path, overrides: dict[str, Any]) -> Path:
    """Trains a repository into `folder`, unless it is there; resumes a stopped run."""
    if not (folder / "model_index.json").is_file():
        train(recipe, folder, resume=(folder / "recipe.yaml").is_file(), overrides=overrides | QUIET)
    return folder


def training_length(folder: Path) -> dict[str, int]:
    """Returns the steps and the images that a repository was trained for."""
    training = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["training"]
    return {name: training[name] for name in ("steps", "images")}


def score(folder: Path, test: Images, batch_size: int = 500) -> float:
    """Returns the test accuracy of the classifier in `folder`."""
    pipeline: Any = AutoPipeline.from_pretrained(folder)
    labels = torch.cat([pipeline(batch / 255).labels for batch in test.images.split(batch_size)])
    return (labels == test.labels).float().mean().item()


@torch.no_grad()
def features(classifier: nn.Module, images: torch.Tensor, batch_size: int = 500) -> torch.Tensor:
    """Returns the inputs of the last layer of `classifier` for uint8 images, (N, K)."""
    return torch.cat([classifier(to_model_range(batch)).features for batch in images.split(batch_size)])


def logistic_regression():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=2000), [1e-3, 1e-2, 1e-1, 1, 10, 100, 1000]


def support_vectors():
    from sklearn.svm import SVC

    return SVC(kernel="rbf"), [0.1, 1, 10, 100]


BASELINES = {"logistic regression on pixels": logistic_regression, "SVM (RBF) on pixels": support_vectors}
PROBES = {
    f"logistic regression on features of the pretrained {network} network": f"{network}, {FROZEN}"
    for network in NETWORKS
}
ROWS = (*BASELINES, *(f"{network}, {start}" for network in NETWORKS for start in STARTS), *PROBES)


def fit_and_score(
    model: Callable, labelled: Images, test: Images, inputs: Callable[[torch.Tensor], torch.Tensor]
) -> float:
    """Fits a scikit-learn model to labelled images and returns its test accuracy; its C is chosen by cross-validation.

    Args:
        model: returns the estimator and the values of C to try.
        inputs: computes the estimator's inputs (N, K) from uint8 images.
    """
    from sklearn.model_selection import GridSearchCV

    estimator, strengths = model()
    search: Any = GridSearchCV(estimator, {"C": strengths}, cv=5)
    search.fit(inputs(labelled.images).numpy(), labelled.labels)
    return float(search.score(inputs(test.images).numpy(), test.labels))


def markdown(report: dict) -> str:
    """Renders the report."""
    draws = [str(draw) for draw in range(report["draws"])]
    entries = {row: report["rows"][row] for row in ROWS if row in report["rows"]}
    rows = {row: [entry["accuracy"][d] for d in draws if d in entry["accuracy"]] for row, entry in entries.items()}
    rows = {row: values for row, values in rows.items() if values}
    table = []
    for row, values in rows.items():
        network, _, start = row.partition(", ")
        others = [rows.get("SVM (RBF) on pixels"), rows.get(f"{network}, {SCRATCH}") if start else None]
        cells = [difference(values, other) if other and other is not values else "" for other in others]
        table.append([row, entries[row]["steps"] or "", mean_and_sd(values), *cells])
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    rates = compare_rates(report["learning_rates"]) if "learning_rates" in report else None
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(report | {"table": table, "answers": answers(rows), "rates": rates})


def answers(rows: dict[str, list[float]]) -> list[str]:
    """Returns for each network, in a sentence, whether pretraining helped."""
    sentences = []
    for network in NETWORKS:
        for start in (FINE_TUNED, FROZEN):
            scratch, values = rows.get(f"{network}, {SCRATCH}"), rows.get(f"{network}, {start}")
            if scratch and values:
                better = sum(a > b for a, b in zip(values, scratch, strict=False))
                points = difference(values, scratch)
                sentences.append(f"{network}, {start}: {points} points, better in {better} of {len(values)} draws.")
    return sentences


def compare_rates(learning_rates: dict) -> dict[str, str]:
    """Returns the best peak learning rate from scratch and with pretraining, and the points between these two."""
    rows = learning_rates["rows"]
    scratch, tuned = (max(rows, key=lambda row: row["accuracy"].get(start, 0)) for start in (SCRATCH, FINE_TUNED))
    gain = 100 * (tuned["accuracy"][FINE_TUNED] - scratch["accuracy"][SCRATCH])
    return {"scratch": f"{scratch['peak']:g}", "pretrained": f"{tuned['peak']:g}", "gain": f"{gain:.1f}"}


def mean_and_sd(values: list[float]) -> str:
    """Returns mean ± sample standard deviation, in percent."""
    if len(values) < 2:
        return f"{100 * values[0]:.1f}"
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def difference(values: list[float], others: list[float]) -> str:
    """Returns the mean difference ± its standard deviation over the draws that both have, in points."""
    text = mean_and_sd([a - b for a, b in zip(values, others, strict=False)])
    return text if text.startswith("-") else f"+{text}"


if __name__ == "__main__":
    write_report(sys.argv[1], Path(sys.argv[2]))
