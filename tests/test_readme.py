"""Every figure of the README comes from a stored file."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

spec = importlib.util.spec_from_file_location("readme", ROOT / "scripts/studies/readme.py")
readme = importlib.util.module_from_spec(spec)
spec.loader.exec_module(readme)


@pytest.mark.parametrize(("name", "table"), readme.blocks().items())
def test_a_table_is_that_of_the_stored_figures(name, table):
    (found,) = re.findall(rf"<!-- {name} -->\n(.*)\n<!-- /{name} -->", README, re.DOTALL)

    assert found == table


def test_every_published_model_is_linked_from_the_readme():
    folders = sorted(path.name for path in (ROOT / "model_cards").iterdir() if path.is_dir())

    assert [name for name in folders if f"model_cards/{name}/" not in README] == []
