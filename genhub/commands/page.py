"""`genhub page`: a static page that runs models in the browser, or that asks people which images are real."""

import functools
import http.server
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from genhub.browser.runtime import runtime as fetch_runtime
from genhub.browser.write import copy_static, encode, write_examples, write_models, write_runtime
from genhub.commands.export import PACKAGES
from genhub.data import Images
from genhub.data.config import DataConfig
from genhub.data.load import load
from genhub.evaluation.sampling import sample
from genhub.repository.load import AutoPipeline
from genhub.repository.space import last_name, space_card
from genhub.utils.extras import check_packages, how_to_install
from genhub.utils.files import check_new, new_folder
from genhub.utils.port import check_port

PAIRS = 20  # of a real and a generated image
BLIND_FILES = ("blind.html", "blind.js", "elements.js", "numbers.js", "style.css")


def page(
    repos: Sequence[str],
    output: str | os.PathLike = "page",
    runtime: str | os.PathLike | None = None,
) -> Path:
    """Writes a static page that runs the models of `repos` in the browser, and returns its folder.

    Args:
        output: folder of the page, which must be empty or not exist.
        runtime: folder of an unpacked npm package `onnxruntime-web`; the registry's, or the cache's, if not given.

    Raises:
        ValueError: a repository does not exist or is named twice; the folder holds something; the graphs are too
            large together, or ONNX Runtime Web cannot be had.
        RepositoryError: a model cannot run on a page.
    """
    check_packages("A page", PACKAGES, how_to_install("page"))
    folder, names = check_new(output), [last_name(repo) for repo in repos]
    if not repos or len({*names}) < len(names):
        raise ValueError(f"`repos` must be at least one repository, each with a name of its own, got {list(repos)}.")
    files = fetch_runtime(runtime)
    pipelines = {name: AutoPipeline.from_pretrained(repo) for name, repo in zip(names, repos, strict=True)}
    with new_folder(folder) as part:
        copy_static(part)
        for name in ("blind.html", "blind.js"):
            (part / name).unlink()
        models = write_models(part, pipelines)
        write_examples(part)
        write_runtime(part, files)
        title = names[0] if len(names) == 1 else "Generative models in your browser"
        text = f"Models that run in the browser, made by genhub: {', '.join(model['name'] for model in models)}."
        card = space_card(title, text, emoji="👕", sdk="static", app_file="index.html")
        (part / "README.md").write_text(card, encoding="utf-8")
    return folder


def blind(real: str, generated: str, output: str | os.PathLike = "page", seed: int = 0) -> Path:
    """Writes a static page on which people tell real images from generated ones, and returns its folder.

    Args:
        real: images, as `data.source` of a recipe; of a data set the test images are shown.
        generated: a repository that makes images.
        seed: of the images that are drawn and of the sides on which they are shown.

    Raises:
        ValueError: there are too few images, or those of the two have other sizes.
    """
    folder, data = check_new(output), load(DataConfig(source=real), "test")
    source = torch.Generator().manual_seed(seed)
    if not isinstance(data, Images) or len(data) < PAIRS:
        raise ValueError(f"`real` must have at least {PAIRS} images, and fit in memory, got {len(data)}.")
    shown = torch.randperm(len(data), generator=source)[:PAIRS]
    true = ((data.sample(shown) + 1) * 127.5).round().to(torch.uint8)
    made = (sample(AutoPipeline.from_pretrained(generated), PAIRS, seed) * 255).round().to(torch.uint8)
    if true.shape != made.shape:
        raise ValueError(f"The images must have one size, got {tuple(true.shape[1:])} and {tuple(made.shape[1:])}.")
    sides = torch.randint(2, (PAIRS,), generator=source).tolist()  # of the real one
    pairs = [[encode(image) for image in ((r, m), (m, r))[side]] for r, m, side in zip(true, made, sides, strict=True)]
    with new_folder(folder) as part:
        copy_static(part, BLIND_FILES)
        (part / "blind.html").rename(part / "index.html")
        (part / "pairs.json").write_text(
            json.dumps({"shape": list(true.shape[1:]), "pairs": pairs, "real": sides}), encoding="utf-8"
        )
    return folder


def serve(folder: Path, port: int):
    """Serves a page to this machine until it is interrupted.

    Raises:
        ValueError: the port is in use, or is none.
    """
    check_port(port)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)", flush=True)
        server.serve_forever()
