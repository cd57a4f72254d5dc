"""Every code block of the README and the site runs, and their tables are those of the stored metrics."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import documents
import numpy as np
import published
import pytest
from PIL import Image

from genhub.cli import main
from genhub.training.run import train

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/**/*.md"))]
RUN = ("README.md", "docs/quickstart.md", "docs/families/", "docs/tutorials/", "docs/concepts/")


@pytest.mark.parametrize(("name", "table"), documents.blocks().items())
def test_a_table_is_that_of_the_stored_metrics(name, table):
    found = {
        page: documents.written(page, text, name, table)
        for page in PAGES
        if f"<!-- {name} -->" in (text := page.read_text(encoding="utf-8"))
    }

    assert [(text == page.read_text(encoding="utf-8"), count) for page, (text, count) in found.items()] == [(True, 1)]


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_what_the_recipes_say_is_stored_with_the_models():
    assert json.loads(published.FILE.read_text(encoding="utf-8")) == published.published()


def test_every_published_model_is_linked_from_a_page():
    folders = sorted(path.name for path in (ROOT / "model_cards").iterdir() if path.is_dir())
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)

    assert [name for name in folders if f"model_cards/{name}/" not in text] == []


@dataclass(frozen=True)
class Block:
    """A block of code: the line of its fence, its language, and if its author says so, why it is not executed, or the
    file that it is."""

    line: int
    language: str
    text: str
    reason: str | None
    file: str | None


def blocks(markdown: str) -> list[Block]:
    """Finds fenced code. Right above a block, `<!-- not executed: REASON -->` keeps it from being executed, and
    `<!-- saved as: FILE -->` makes it a file of the reader's."""
    pattern = r"(?:^<!-- not executed: (.+?) -->\n+|^<!-- saved as: (.+?) -->\n+)?^```(\w*)\n(.*?)^```$"
    return [
        Block(markdown.count("\n", 0, match.start(3)) + 1, match[3], match[4], match[1], match[2])
        for match in re.finditer(pattern, markdown, re.DOTALL | re.MULTILINE)
    ]


def commands(block: Block) -> list[list[str]]:
    """The commands of a block in the shell's words, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


EXECUTED = {
    name: found
    for page in PAGES
    if (name := str(page.relative_to(ROOT))).startswith(RUN) and (found := blocks(page.read_text(encoding="utf-8")))
}
BLOCKS = [block for found in EXECUTED.values() for block in found]
NOT_EXECUTED = {  # how a command begins -> why it is not executed
    r"bash scripts/|source |python -m venv": "makes an environment, as this one",
    r"git clone|pip install|.* zalando-datasets/": "needs a network",
    r"hf |genhub push": "needs an account on the Hub",
}


def reason_against(words: list[str]) -> str | None:
    return next((why for start, why in NOT_EXECUTED.items() if re.match(start, shlex.join(words))), None)


def omitted() -> dict[str, str]:
    """What no test below executes, and why."""
    marked = {block.text.strip(): block.reason for block in BLOCKS if block.reason}
    words = [words for block in BLOCKS if block.language == "bash" and not block.reason for words in commands(block)]
    return marked | {shlex.join(command): why for command in words if (why := reason_against(command))}


@pytest.mark.parametrize(("code", "why"), omitted().items())
def test_this_is_not_executed(code, why):
    pytest.skip(why)


def test_a_block_is_one_that_can_be_executed_or_says_why_it_is_not():
    bad = [
        block.text for block in BLOCKS if block.language not in ("python", "bash") and not (block.reason or block.file)
    ]
    assert bad == []


def test_the_lines_for_a_machine_that_reaches_the_hub_run_up_to_the_download():
    (block,) = [block for block in BLOCKS if "salamander" in block.text]

    with pytest.raises(OSError, match=r"stable-diffusion-v1-5.*(offline|cached|connect)"):
        exec(block.text, {})


def small(recipe: str, tiny: dict) -> dict:
    """Overrides that make a recipe of the README train in a second."""
    network = {
        key: value for key, value in tiny.items() if key.split(".")[0] in ("components", "objective", "pipeline")
    }
    rest = {key: value for key, value in tiny.items() if key.startswith("training.") or key == "data.val_size"}
    for name in ("components.unet.num_class_embeds", "objective.label_dropout"):  # left to the data
        network.pop(name)
    return rest | (network if recipe == "ddpm-quick" else {})


class Reader:
    """Someone who follows a page, line by line, in an empty folder beside the published models.

    Args:
        launches: also run what starts processes of its own.
    """

    def __init__(self, folder: Path, tiny: dict, launches: bool):
        self.names, self.tiny, self.launches = {"__name__": "__main__"}, tiny, launches
        for name in ("model_cards", "scripts"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "my_photos").mkdir()
        dice = np.random.default_rng(0)
        for number in range(80):
            Image.fromarray(dice.integers(0, 255, (40, 32), np.uint8)).save(folder / f"my_photos/{number}.png")

    def python(self, block: Block):
        exec(compile("\n" * block.line + block.text, "page", "exec"), self.names)

    def bash(self, block: Block):
        for words in commands(block):
            if reason_against(words):
                continue
            variables = dict(word.split("=", 1) for word in self._assignments(words))
            program, *arguments = words[len(variables) :]
            if program == "genhub" and not variables:
                assert main(arguments) == 0, shlex.join(words)
            elif self.launches:
                self._launch(program, arguments, variables)

    def _assignments(self, words: list[str]) -> list[str]:
        count = next(number for number, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
        return words[:count]

    def _launch(self, program: str, arguments: list[str], variables: dict[str, str]):
        """Runs a script of ours in processes of its own, made small by words right after its name."""
        script = next(number for number, word in enumerate(arguments) if word.startswith("scripts/"))
        more = ["--count", "500", "--steps", "5"] if "evaluate" in arguments[script] else []
        if "train" in arguments[script]:
            recipe = arguments[script + 1]
            overrides = {"data.source": "sample", "pipeline.num_inference_steps": 2} | small(recipe, self.tiny)
            more = [recipe, *(f"--{key}={json.dumps(value)}" for key, value in overrides.items())]
            del arguments[script + 1]
        start = {"accelerate": ["-m", "accelerate.commands.accelerate_cli"], "python": []}[program]
        command = [sys.executable, *start, *arguments[: script + 1], *more, *arguments[script + 1 :]]
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr


def launches(page: str) -> bool:
    """Returns whether a page starts processes of its own."""
    found = [
        words for block in EXECUTED[page] if block.language == "bash" and not block.reason for words in commands(block)
    ]
    return any(words[0] != "genhub" and not reason_against(words) for words in found)


@pytest.mark.parametrize(
    ("page", "launched"),
    [
        *((page, False) for page in EXECUTED),
        *(pytest.param(page, True, marks=pytest.mark.slow) for page in EXECUTED if launches(page)),
    ],
)
def test_every_block_runs_in_the_order_of_the_page(page, launched, tiny, tmp_path, monkeypatch):
    def train_small(recipe, output_dir=None, resume=False, overrides=None, **options):
        less = small(recipe, tiny)
        if "start_from" in options:  # of a network of its own size
            less = {key: value for key, value in less.items() if key.startswith("training.")}
        overrides = overrides if resume else less | (overrides or {})
        return train(recipe, output_dir, resume, overrides, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("genhub.training.run.train", train_small)
    reader = Reader(tmp_path, tiny, launched)

    for block in EXECUTED[page]:
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        elif not block.reason:
            with contextlib.redirect_stdout(sys.stderr):
                getattr(reader, block.language)(block)
