"""A quick evaluation, and a repository that had one."""

import shutil
from pathlib import Path

import pytest
from pyarrow import parquet

import genhub

SAMPLE = Path(genhub.__file__).parent / "sample"


@pytest.fixture(scope="session")
def quick(tmp_path_factory) -> dict:
    """Arguments of a quick evaluation: few images, against the first ones of Fashion MNIST, by which it is known."""
    folder = tmp_path_factory.mktemp("reference")
    for split, count in (("train", 600), ("test", 200)):
        (source,) = SAMPLE.glob(f"{split}*.parquet")
        parquet.write_table(parquet.read_table(source).slice(0, count), folder / source.name)
    arguments = {"num_inference_steps": 1}
    return {"data_source": str(folder), "count": 150, "batch_size": 40, "arguments": arguments}


@pytest.fixture(scope="session")
def evaluated_repo(tiny_repo, tmp_path_factory, quick):
    """A repository that was evaluated. Read only."""
    repo = shutil.copytree(tiny_repo, tmp_path_factory.mktemp("evaluated") / "repo")
    assert genhub.evaluate(str(repo), **quick) == repo
    return repo
