"""Pages that MkDocs makes at build time: the API reference of every public name, and the gallery of model_cards/."""

from pathlib import Path

from mkdocs.structure.files import File

import genhub

CARDS = Path(__file__).resolve().parents[2] / "model_cards"


def api() -> str:
    entries = (
        f"::: {module}.{name}" for name, module in sorted(genhub._MODULES.items()) if module.startswith("genhub")
    )
    return "# API reference\n\n" + "\n\n".join(entries) + "\n"


def gallery() -> str:
    entries = (
        f"## {path.parent.name}\n\n![Samples of {path.parent.name}](gallery/{path.parent.name}.png)"
        for path in pictures()
    )
    return "# Gallery\n\n" + "\n\n".join(entries) + "\n"


def pictures() -> list[Path]:
    return sorted(CARDS.glob("*/samples.png"))


def on_files(files, config):
    files.append(File.generated(config, "api.md", content=api()))
    files.append(File.generated(config, "gallery.md", content=gallery()))
    for path in pictures():
        files.append(File.generated(config, f"gallery/{path.parent.name}.png", abs_src_path=str(path)))
    return files
