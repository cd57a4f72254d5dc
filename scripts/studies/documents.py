"""Renews the tables of the documents from stored metrics: `python scripts/studies/documents.py`."""

import json
import math
import re
from pathlib import Path

from pretraining import markdown
from stored import CARDS, evaluation_of, in_clf, losses_of, metrics_of, overall

from genhub.evaluation import references
from genhub.repository.card_evaluation import guidance_of
from genhub.repository.card_results import to_show
from genhub.repository.exported import FILES, differences
from genhub.repository.summary import device_of, family_of

RECONSTRUCTIONS = "FD-FM of reconstructions"  # by the autoencoder of a model of latents
ROOT = Path(__file__).parents[2]


def blocks() -> dict[str, str]:
    """Returns the tables by their names, with links as from the root of the clone."""
    stored = references.stored()
    models = {path.name: metrics_of(path) for path in sorted(CARDS.iterdir()) if path.is_dir()}
    vaes, gans, diffusion = (_of_family(family, models) for family in ("VAE", "GAN", "diffusion"))
    machines = _of_family("Boltzmann machine", models)
    autoencoders = _of_family("autoencoder", models)
    evaluations = {
        f"`{name}`": evaluation_of(metrics) for name, metrics in (diffusion | vaes | gans | machines).items()
    }
    complete = {name: evaluation for name, evaluation in evaluations.items() if evaluation["complete"]}
    return {
        "clf": references.table(stored, "clf"),
        "pix": references.table(stored, "pix"),
        "models": references.markdown(complete, "clf"),
        "leaderboard": _leaderboard(models),
        "autoencoders": _autoencoders({k: v for k, v in autoencoders.items() if RECONSTRUCTIONS not in in_clf(v)}),
        "vaes": _vaes(vaes),
        "gans": _gans(gans),
        "diffusion": _diffusion(diffusion),
        "pretraining": _pretraining(),
        "exports": _exports(),
    }


def _of_family(family: str, models: dict[str, dict]) -> dict[str, dict]:
    return {
        name: metrics for name, metrics in models.items() if family_of(metrics["training"]["parameters"]) == family
    }


def _leaderboard(models: dict[str, dict]) -> str:
    """Returns all generative models that were judged by the whole protocol, the nearest to the test images first."""
    head = ["model", "family", "FD-FM", "MIND", "KID x 1000", "recall", "parameters", "network calls per image"]
    head += ["images/s", "on", "minutes of training", "on"]
    shown = {name: to_show(metrics) or {"samples": None} for name, metrics in models.items()}
    judged = {name: models[name] for name, one in shown.items() if one["samples"] and one["complete"]}
    rows = []
    for name, metrics in sorted(judged.items(), key=lambda model: in_clf(model[1]).get("FD-FM", math.inf)):
        evaluation, training, values = evaluation_of(metrics), metrics["training"], in_clf(metrics)
        speed = evaluation["speed"]
        rate = speed[f"images_per_second_batch_{evaluation['samples']['batch_size']}"]
        rows.append(
            [
                f"[`{name}`](model_cards/{name}/README.md)",
                family_of(training["parameters"]) or "",
                f"{values['FD-FM']:.3f}",
                f"{values['MIND']:.4f}" if "MIND" in values else "",
                f"{values['KID x 1000']:.1f}",
                f"{values['recall']:.3f}",
                f"{speed['parameters']:,}",
                f"{speed['passes_per_image']}",
                f"{rate:,.0f}" if rate > 100 else f"{rate:.1f}",
                _machine(evaluation["hardware"]),
                f"{training['seconds'] / 60:.1f}",
                device_of(metrics),
            ]
        )
    return _table(head, rows)


def _machine(hardware: dict) -> str:
    return f"{hardware['device']}, {hardware['processes'] * hardware['threads']} thread(s)"


def _autoencoders(models: dict[str, dict]) -> str:
    head = ["recipe", "parameters", "held-out loss", "the source's", "corrupted", "MSE, test", "PCA, test"]
    head += ["units that vary", "probe, 500 labels", "minutes"]
    rows = []
    for name, metrics in models.items():
        losses, values = losses_of(metrics), overall(metrics)
        length = next((key.split()[4] for key in values if key.startswith("MSE of PCA")), "")
        rows.append(
            [
                f"[`{name}`](model_cards/{name}/README.md)",
                f"{metrics['training']['parameters']['autoencoder']:,}",
                _number(losses.get("val_loss")),
                _number(metrics["reported"].get("val_loss")),
                _number(losses.get("val_mse_corrupted")),
                _number(values["reconstruction MSE, test"]),
                _number(values.get(f"MSE of PCA with {length} components, test")) + (f" ({length})" if length else ""),
                f"{values['units that vary']}",
                _percent(values.get("linear probe, 500 labels")),
                f"{metrics['training']['seconds'] / 60:.1f}",
            ]
        )
    return _table(head, rows)


def _vaes(models: dict[str, dict]) -> str:
    head = ["recipe", "latents", "parameters", "MSE + KL / D, held-out", "the source's", "ELBO in nats, test"]
    head += ["the source's", "bits/dim", "MSE, test", "active units", "probe, 500 labels", "minutes"]
    rows = []
    for name, metrics in models.items():
        losses, values = losses_of(metrics), overall(metrics)
        elbo = next(key for key in values if key.startswith("ELBO") and key.endswith(", test"))
        bits = next((key for key in values if "bits per dimension" in key), None)
        config = json.loads((CARDS / name / "vae/config.json").read_text(encoding="utf-8"))
        rows.append(
            [
                f"[`{name}`](model_cards/{name}/README.md)",
                f"{config['latent_channels']}",
                f"{metrics['training']['parameters']['vae']:,}",
                _number(losses.get("val_mse_plus_kl")),
                _number(metrics["reported"].get("val_mse_plus_kl")),
                f"{values[elbo]:.1f}",
                f"{metrics['reported'][elbo]:.1f}" if elbo in metrics["reported"] else "",
                f"{values[bits]:.3f}" if bits else "",
                _number(next(values[name] for name in values if re.fullmatch("reconstruction MSE.*, test", name))),
                f"{values['active units']}",
                _percent(values.get("linear probe, 500 labels")),
                f"{metrics['training']['seconds'] / 60:.1f}",
            ]
        )
    return _table(head, rows)


def _gans(models: dict[str, dict]) -> str:
    head = ["recipe", "generator", "discriminator", "epochs", "minutes", "on", "FD-FM", "KID x 1000", "recall"]
    head += ["label fidelity", "CAS"]
    rows = []
    for name, metrics in sorted(models.items(), key=lambda model: -in_clf(model[1])["FD-FM"]):
        training, values = metrics["training"], in_clf(metrics) | overall(metrics)
        rows.append(
            [
                f"[`{name}`](model_cards/{name}/README.md)",
                *(f"{training['parameters'][part]:,}" for part in ("generator", "discriminator")),
                f"{training['images'] / training['train_images']:.1f}",
                f"{training['seconds'] / 60:.1f}",
                device_of(metrics),
                f"{values['FD-FM']:.3f}",
                f"{values['KID x 1000']:.1f}",
                f"{values['recall']:.3f}",
                _percent(values.get("label fidelity")),
                _cas(metrics),
            ]
        )
    return _table(head, rows)


def _diffusion(models: dict[str, dict]) -> str:
    head = ["recipe", "U-Net", "images seen", "minutes", "on", "steps", "guidance", "FD-FM", "FD-FM in pix", "recall"]
    head += ["label fidelity", "CAS", RECONSTRUCTIONS]
    rows = []
    for name, metrics in sorted(models.items(), key=lambda model: -in_clf(model[1])["FD-FM"]):
        training, samples, values = metrics["training"], evaluation_of(metrics)["samples"], in_clf(metrics)
        in_pix = {
            metric["name"]: metric["value"] for metric in evaluation_of(metrics)["figures"] if metric["space"] == "pix"
        }
        rows.append(
            [
                f"[`{name}`](model_cards/{name}/README.md)",
                f"{training['parameters']['unet']:,}",
                f"{training['images']:,}",
                f"{training['seconds'] / 60:.1f}",
                _machine(metrics["hardware"]),
                f"{samples['steps']}",
                (guidance_of(samples) or "").removeprefix("guidance "),
                f"{values['FD-FM']:.3f}",
                f"{in_pix['FD-FM']:.3f}",
                f"{values['recall']:.3f}",
                _percent(values.get("label fidelity")),
                _cas(metrics),
                f"{values[RECONSTRUCTIONS]:.3f}" if RECONSTRUCTIONS in values else "",
            ]
        )
    return _table(head, rows)


def _cas(metrics: dict) -> str:
    """Returns the classification accuracy score, with the number of generated images behind it."""
    for metric in evaluation_of(metrics)["figures"]:
        if metric["name"] == "CAS":
            return f"{_percent(metric['value'])} ({metric['images']:,} images)"
    return ""


def _pretraining() -> str:
    text = markdown(json.loads((ROOT / "docs/pretraining/report.json").read_text(encoding="utf-8")))
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _exports() -> str:
    """Returns the sizes of exported graphs, and their differences from PyTorch, as exports.py measures them."""
    stored = json.loads((ROOT / "docs/export.json").read_text(encoding="utf-8"))
    graphs = [(name, part, graph) for name, parts in sorted(stored.items()) for part, graph in parts.items()]
    head = ["model", "graph", "MB", *(f"`{file}`" for file in FILES)]
    sizes = [f"{graph['files'][FILES[0]]['bytes'] / 1e6:.3g}" for *_, graph in graphs]
    rows = [
        [f"[`{name}`](model_cards/{name}/README.md)", f"`{part}`", size, *differences(graph)]
        for (name, part, graph), size in zip(graphs, sizes, strict=True)
    ]
    return _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    )


def written(page: Path, text: str, name: str, table: str) -> tuple[str, int]:
    """Returns the text of a page with its table, between `<!-- name -->` and `<!-- /name -->`, and how many it has."""
    up = "../" * (len(page.relative_to(ROOT).parts) - 1)
    block = f"<!-- {name} -->\n{table.replace('](', f']({up}')}\n<!-- /{name} -->"
    return re.subn(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _: block, text, flags=re.DOTALL)


if __name__ == "__main__":
    for name, table in blocks().items():
        for page in ROOT.glob("docs/**/*.md"):
            page.write_text(written(page, page.read_text(encoding="utf-8"), name, table)[0], encoding="utf-8")
