"""`genhub demo`: a pipeline in the browser by Gradio, here or as a Space."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PIL import Image

from genhub.browser import app
from genhub.browser.write import examples, write_examples
from genhub.repository.download import download
from genhub.repository.format import RepositoryError
from genhub.repository.load import AutoPipeline
from genhub.repository.push import check_texts, files_to_push
from genhub.repository.space import last_name, space_card
from genhub.utils.extras import how_to_install
from genhub.utils.files import check_new, new_folder
from genhub.utils.port import check_port

PACKAGES = ("diffusers", "transformers", "accelerate", "safetensors", "torch")  # gradio has bounds for the others


def demo(repo: str, port: int | None = None) -> None:
    """Runs a demo of a repository on this machine until it is interrupted, with a tab for each task of its pipeline.

    Raises:
        ValueError: there is no such repository, the port is in use, or Gradio is not installed.
        RepositoryError: the pipeline declares no task.
    """
    if port is not None:
        check_port(port)
    pipeline = AutoPipeline.from_pretrained(repo)
    if not getattr(pipeline, "tasks", ()):
        raise RepositoryError(f"{repo} has no demo: {type(pipeline).__name__} declares no task.")
    try:
        built = app.build(pipeline, last_name(repo), [Image.fromarray(i.numpy()) for i in examples()])
    except ImportError as error:
        raise ValueError(f"A demo needs gradio: {how_to_install('demo')}.") from error
    built.launch(server_name="127.0.0.1", server_port=port, share=False)


def write_demo(repo: str, output: str | os.PathLike) -> Path:
    """Writes a Gradio Space of a repository into a new folder: `app.py`, `requirements.txt`, and `model/`, which is
    the repository itself without what was exported, and the images that its search finds; returns the folder.

    Raises:
        RepositoryError: the pipeline declares no task, or a file is not to be shared, as for `push`.
    """
    source, folder = download(repo), check_new(output)
    names = files_to_push(source)
    check_texts(source, names)
    if not getattr(AutoPipeline.from_pretrained(repo), "tasks", ()):
        raise RepositoryError(f"{repo} has no demo: its pipeline declares no task.")
    with new_folder(folder) as part:
        shutil.copyfile(app.__file__, part / "app.py")
        write_examples(part)
        (part / "requirements.txt").write_text("".join(_pinned()), encoding="utf-8")
        text = "A demo of the pipeline in `model/`, made by genhub."
        card = space_card(last_name(repo), text, sdk="gradio", app_file="app.py")
        (part / "README.md").write_text(card, encoding="utf-8")
        for name in names:
            target = part / "model" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
    return folder


def _pinned() -> Iterator[str]:
    """Yields a line for each package that is installed: without transformers, no pipeline that needs it was loaded."""
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            yield f"{name}=={version(name).partition('+')[0]}\n"
