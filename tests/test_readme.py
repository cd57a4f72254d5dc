"""Every figure of the README comes from a stored file."""

import json
import re
from pathlib import Path

import pytest

from genhub.card import to_show
from genhub.evaluation.references import markdown, stored, table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    (found,) = re.findall(rf"<!-- {name} -->\n(.*)\n<!-- /{name} -->", README, re.DOTALL)
    return found


@pytest.mark.parametrize("space", ["clf", "pix"])
def test_the_reference_rows_are_those_that_were_computed(space):
    assert block(space) == table(stored(), space)


def test_the_rows_of_models_are_those_of_their_evaluations():
    metrics = json.loads((ROOT / "docs/ddpm-quick/metrics.json").read_text())

    assert to_show(metrics)["complete"]
    assert block("models") == markdown({"`ddpm-quick`, 20 steps of DPM-Solver++": to_show(metrics)}, "clf")
