"""Writes the tables of README.md anew from stored files: `python scripts/studies/readme.py`."""

import json
import re
from pathlib import Path

from studies.pretraining import markdown

from genhub.evaluation import references
from genhub.repository.card_results import to_show

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "model_cards"


def blocks() -> dict[str, str]:
    """Returns the table of each pair of marks, `<!-- name -->` and `<!-- /name -->`."""
    stored = references.stored()
    diffusion = {
        "`ddpm-quick`, 20 steps of DPM-Solver++": to_show(_metrics(ROOT / "docs/ddpm-quick")),
        "the same, trained and judged again": to_show(_metrics(ROOT / "docs/ddpm-quick-again")),
    }
    made = {name: _metrics(CARDS / name) for name in sorted(path.name for path in CARDS.glob("*") if path.is_dir())}
    autoencoders = {k: m for k, m in made.items() if "autoencoder" in m["training"]["parameters"]}
    vaes = {k: m for k, m in made.items() if "vae" in m["training"]["parameters"]}
    gans = {k: m for k, m in made.items() if "generator" in m["training"]["parameters"]}
    generating = vaes | gans
    on_fashion_mnist = {f"`{k}`": to_show(m) for k, m in generating.items() if to_show(m) and to_show(m)["complete"]}
    return {
        "clf": references.table(stored, "clf"),
        "pix": references.table(stored, "pix"),
        "models": references.markdown(diffusion | on_fashion_mnist, "clf"),
        "autoencoders": _autoencoders(autoencoders),
        "vaes": _vaes(vaes),
        "gans": _gans(gans),
        "pretraining": _pretraining(),
    }


def _autoencoders(made: dict[str, dict]) -> str:
    head = ["recipe", "parameters", "held-out loss", "the source's", "corrupted", "MSE, test", "PCA, test"]
    head += ["units that vary", "probe, 500 labels", "minutes"]
    rows = []
    for name, metrics in made.items():
        results, figures = _results(metrics), _figures(metrics)
        length = next((key.split()[4] for key in figures if key.startswith("MSE of PCA")), "")
        rows.append(
            [
                f"[`{name}`](model_cards/{name}/README.md)",
                f"{metrics['training']['parameters']['autoencoder']:,}",
                _number(results.get("val_loss")),
                _number(metrics["reported"].get("val_loss")),
                _number(results.get("val_mse_corrupted")),
                _number(figures["reconstruction MSE, test"]),
                _number(figures.get(f"MSE of PCA with {length} components, test"))
                + (f" ({length})" if length else ""),
                f"{figures['units that vary']}",
                _percent(figures.get("linear probe, 500 labels")),
                f"{metrics['training']['seconds'] / 60:.1f}",
            ]
        )
    return _table(head, rows)


def _vaes(made: dict[str, dict]) -> str:
    head = ["recipe", "latents", "parameters", "MSE + KL / D, held-out", "the source's", "ELBO in nats, test"]
    head += ["the source's", "bits/dim", "MSE, test", "active units", "probe, 500 labels", "minutes"]
    rows = []
    for name, metrics in made.items():
        results, figures = _results(metrics), _figures(metrics)
        elbo = next(key for key in figures if key.startswith("ELBO") and key.endswith(", test"))
        bits = next((key for key in figures if "bits per dimension" in key), None)
        config = json.loads((CARDS / name / "vae/config.json").read_text())
        rows.append(
            [
                f"[`{name}`](model_cards/{name}/README.md)",
                f"{config['latent_channels']}",
                f"{metrics['training']['parameters']['vae']:,}",
                _number(results.get("val_mse_plus_kl")),
                _number(metrics["reported"].get("val_mse_plus_kl")),
                f"{figures[elbo]:.1f}",
                f"{metrics['reported'][elbo]:.1f}" if elbo in metrics["reported"] else "",
                f"{figures[bits]:.3f}" if bits else "",
                _number(_of(figures, "reconstruction MSE", ", test")),
                f"{figures['active units']}",
                _percent(figures.get("linear probe, 500 labels")),
                f"{metrics['training']['seconds'] / 60:.1f}",
            ]
        )
    return _table(head, rows)


def _gans(made: dict[str, dict]) -> str:
    head = ["recipe", "generator", "discriminator", "epochs", "minutes", "on", "FD-FM", "KID x 1000", "recall"]
    head += ["label fidelity", "CAS"]
    rows = []
    for name, metrics in sorted(made.items(), key=lambda one: -_in_clf(one[1])["FD-FM"]):
        training, figures = metrics["training"], _in_clf(metrics) | _figures(metrics)
        rows.append(
            [
                f"[`{name}`](model_cards/{name}/README.md)",
                *(f"{training['parameters'][part]:,}" for part in ("generator", "discriminator")),
                f"{training['images'] / training['train_images']:.1f}",
                f"{training['seconds'] / 60:.1f}",
                " and ".join(training.get("steps_on") or [metrics["hardware"]["device"]]),
                f"{figures['FD-FM']:.3f}",
                f"{figures['KID x 1000']:.1f}",
                f"{figures['recall']:.3f}",
                _percent(figures.get("label fidelity")),
                _cas(metrics),
            ]
        )
    return _table(head, rows)


def _cas(metrics: dict) -> str:
    """Returns the classification accuracy score, with the generated images that its classifier was trained on."""
    found = [figure for figure in to_show(metrics)["figures"] if figure["name"] == "CAS"]
    return f"{_percent(found[0]['value'])} ({found[0]['images']:,} images)" if found else ""


def _pretraining() -> str:
    text = markdown(json.loads((ROOT / "docs/pretraining/report.json").read_text()))
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


def _metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def _results(metrics: dict) -> dict[str, float]:
    return {row["name"]: row["value"] for row in metrics["results"]}


def _figures(metrics: dict) -> dict[str, float]:
    shown = to_show(metrics)
    if shown is None:
        raise ValueError(f"model_cards/{metrics['recipe']} must be evaluated first.")
    return {figure["name"]: figure["value"] for figure in shown["figures"] if not figure["space"]}


def _in_clf(metrics: dict) -> dict[str, float]:
    return {figure["name"]: figure["value"] for figure in to_show(metrics)["figures"] if figure["space"] == "clf"}


def _of(figures: dict[str, float], start: str, end: str) -> float:
    return next(value for name, value in figures.items() if name.startswith(start) and name.endswith(end))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    )


if __name__ == "__main__":
    text = (ROOT / "README.md").read_text()
    for name, table in blocks().items():
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text, count = re.subn(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, text, flags=re.DOTALL)
        assert count == 1, name
    (ROOT / "README.md").write_text(text)
