"""Pages made from stored files: the API reference, the gallery, the list of studies, the index of papers."""

import ast
import re
from collections.abc import Iterator

import papers
import yaml
from links import ROOT

import genhub
from genhub.recipes import describe, published
from genhub.repository.summary import summarise

CARDS = ROOT / "model_cards"
ROOMS = {  # page of the API reference -> what stands there
    "functions": "What `genhub X` does, as functions.",
    "pipelines": "Pipelines generate, reconstruct or classify.",
    "models": "Networks; each travels in one file with its weights.",
    "schedulers": "The schedule of noise, and its ancestral sampler.",
    "objectives": "What models are trained on: from a batch to named losses.",
    "training": "Optimizers and schedules that recipes name beside those of PyTorch.",
    "data": "From a data set to batches.",
    "plotting": "Drawing of what comes as arguments.",
}
TRAVELLING = ("pipelines", "models", "schedulers")
FAMILIES = {  # heading of the gallery -> the family under it
    "Diffusion": "diffusion",
    "Adversarial networks": "GAN",
    "Variational autoencoders": "VAE",
    "Autoencoders": "autoencoder",
    "Boltzmann machines": "Boltzmann machine",
    "Classifiers": "classifier",
}
PICTURES = ("classes.png", "samples.png", "plane.png")  # the first that a repository has stands for it


def all_pages() -> dict[str, str]:
    """Returns the text of each page that is made, by its place in docs/."""
    return {"gallery.md": gallery(), "studies.md": studies(), "papers.md": papers.index(), **api()}


def api() -> dict[str, str]:
    """Returns the pages of the API reference: an index, and one for each room of the package."""
    found = entries()
    pages = {room: [f"# {room.capitalize()}\n", f"{text}\n"] for room, text in ROOMS.items()}
    index = ["# API reference\n", "`import genhub` imports nothing heavy; a name is loaded when it is first used.\n"]
    for room, lines in pages.items():
        names = sorted(name for name, (where, _) in found.items() if where == room)
        lines += [f"::: {found[name][1]}\n    options: {{heading: {name}}}\n" for name in names]
        index += [f"## {room.capitalize()}\n", f"{ROOMS[room]}\n"]
        index += [", ".join(f"[`{name}`]({room}.md#{found[name][1]})" for name in names) + "\n"]
    theirs = sorted(name for name, module in genhub._MODULES.items() if not module.startswith("genhub."))
    lines = (f"[`genhub.{name}`](https://huggingface.co/docs/diffusers)" for name in theirs)
    index += ["## Names of diffusers\n", f"{', '.join(lines)} are diffusers' own classes.\n"]
    return {"api/index.md": "\n".join(index)} | {f"api/{room}.md": "\n".join(pages[room]) for room in pages}


def entries() -> dict[str, tuple[str, str]]:
    """Returns the room of each public name, and the path of its definition."""
    found = {}
    for name, module in genhub._MODULES.items():
        room = module.split(".")[1] if module.startswith("genhub.") else None
        if room:
            is_function = name != "AutoPipeline" and not name[0].isupper()
            room = "functions" if is_function else "pipelines" if room == "repository" else room
            found[f"genhub.{name}"] = (room, f"{module}.{name}")
    for room in ("objectives", "data", "plotting"):
        for name, module in _exported(room):
            found[f"genhub.{room}.{name}"] = (room, f"{module}.{name}")
    known = {path for _, path in found.values()}
    for room in TRAVELLING:
        for path in (ROOT / "genhub" / room).glob("[!_]*.py"):
            module = f"genhub.{room}.{path.stem}"
            classes = [
                node.name
                for node in ast.parse(path.read_text(encoding="utf-8")).body
                if isinstance(node, ast.ClassDef)
            ]
            paths = (f"{module}.{name}" for name in classes if not name.startswith("_"))
            found |= {path: (room, path) for path in paths if path not in known}
    return found


def _exported(room: str) -> Iterator[tuple[str, str]]:
    """Yields what a room exports, and the module that defines it."""
    where = {}
    for node in ast.parse((ROOT / "genhub" / room / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            where |= {alias.asname or alias.name: f"{node.module}" for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            yield from ((name, where.get(name, f"genhub.{room}")) for name in ast.literal_eval(node.value))


def gallery() -> str:
    """Returns the page of all published models: picture, description, what training took and gave."""
    lines = ["# Gallery\n", "Every published model: one seed, samples not selected. The name leads to its card.\n"]
    families = {path.name: summarise(path)["family"] for path in sorted(CARDS.iterdir()) if path.is_dir()}
    told = published()
    for heading, family in FAMILIES.items():
        names = [name for name, found in families.items() if found == family]
        cards = "\n".join(_card(name, told.get(name)) for name in names)
        lines += [f"## {heading}\n", f'<div class="grid cards" markdown>\n\n{cards}\n</div>\n'] if names else []
    return "\n".join(lines)


def _card(name: str, model: dict | None) -> str:
    card = f"../model_cards/{name}/README.md"
    figures = f"{model['quality']}; {model['minutes']} min on {model['threads']} thread(s)" if model else ""
    picture = picture_of(name)
    shown = f"    [![Samples of {name}](../{picture}){{loading=lazy}}]({card})\n\n" if picture else ""
    return f"-   **[{name}]({card})**\n\n{shown}    {describe(name)}\n\n    {figures.removeprefix('; ')}\n"


def picture_of(name: str) -> str | None:
    """Returns the picture that stands for a published model."""
    return next((f"model_cards/{name}/{file}" for file in PICTURES if (CARDS / name / file).is_file()), None)


def pictures() -> set[str]:
    """Returns the pictures of the gallery."""
    return {picture for path in CARDS.iterdir() if (picture := picture_of(path.name))}


def studies() -> str:
    """Returns the page of all studies and reports: question, finding and chart, or that it waits."""
    lines = [
        "# Studies\n",
        "Each is a grid of overrides and seeds in a file of ten lines, run by `scripts/study.py`.\n",
    ]
    waiting = []
    for path in sorted((ROOT / "scripts/studies").glob("*.yaml")):
        study, folder = yaml.safe_load(path.read_text(encoding="utf-8")), f"studies/{path.stem}"
        if not (ROOT / "docs" / folder / "README.md").is_file():
            waiting.append(f"- {study['question']} (`python scripts/study.py scripts/studies/{path.name}`)")
            continue
        lines += [f"## {study['question']}\n", f"{study.get('finding', '').strip()}\n"]
        if (ROOT / "docs" / folder / "chart.png").is_file():
            lines += [f"![{study['question']}]({folder}/chart.png)\n"]
        lines += [f"[All figures]({folder}/README.md)\n"]
    lines += ["## Not measured yet\n", *waiting, ""] if waiting else []
    return "\n".join([*lines, "## Reports\n", *_reports(), ""])


def _reports() -> list[str]:
    """Returns a line for each report of docs/ that is no study."""
    found = []
    docs = ROOT / "docs"
    for path in sorted([*docs.glob("*/**/README.md"), *docs.glob("samplers/*/*.md")]):
        uri = path.relative_to(docs)
        if uri.parts[0] != "studies" or not (ROOT / f"scripts/studies/{uri.parent.name}.yaml").is_file():
            title = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            found.append(f"- [{title[1] if title else uri.parent}]({uri})")
    return found
