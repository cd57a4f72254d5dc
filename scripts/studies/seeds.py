"""How much of a model's quality is its seed? Trains a recipe several times, judges each run, renews the first's card.

    python scripts/studies/seeds.py ddpm-quick FASHION_MNIST runs/seeds --seeds 0 1 2

Runs and evaluations that are there are not repeated, so a stopped study goes on.
"""

import argparse
import json
from pathlib import Path

from genhub.commands.evaluate import evaluate
from genhub.repository.card_results import to_show, with_results
from genhub.repository.card_seeds import ONE_RUN
from genhub.training.run import train
from genhub.utils.files import atomic_write

FIGURES = ("FD-FM (clf)", "FD-FM (pix)", "KID x 1000 (clf)", "recall (clf)", "label fidelity (clf)")


def compare(recipe: str, source: str, folder: Path, seeds: list[int]) -> Path:
    """Trains and judges `recipe` with each of `seeds`, and writes all results into the repository of the first.

    Args:
        source: the images to judge against.

    Returns:
        The repository of the first seed.
    """
    runs = []
    for seed in seeds:
        repository = folder / f"{recipe}-{seed}"
        if not (repository / "model_index.json").is_file():
            train(recipe, repository, (repository / "recipe.yaml").is_file(), {"training.seed": seed})
        shown = to_show(json.loads((repository / "metrics.json").read_text(encoding="utf-8")))
        if shown is None:
            evaluate(str(repository), source)
            shown = to_show(json.loads((repository / "metrics.json").read_text(encoding="utf-8")))
        assert shown is not None
        values = {f"{metric['name']} ({metric['space']})": metric["value"] for metric in shown["figures"]}
        runs.append({"seed": seed, "figures": {name: values[name] for name in FIGURES if name in values}})
    first = folder / f"{recipe}-{seeds[0]}"
    metrics = json.loads((first / "metrics.json").read_text(encoding="utf-8")) | {"seeds": runs}
    atomic_write(first / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    card = (first / "README.md").read_text(encoding="utf-8").replace(f" {ONE_RUN}", "")
    atomic_write(first / "README.md", with_results(card, metrics))
    return first


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("source", help="Fashion MNIST, as data.source of a recipe")
    parser.add_argument("folder", type=Path, help="of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    print(compare(options.recipe, options.source, options.folder, options.seeds))
