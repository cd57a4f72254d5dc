"""A repository is found here or on the Hub, whatever the network does."""

import shutil

import pytest

import genhub
from genhub.repository.download import download
from genhub.repository.format import RepositoryError


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "one-word", "a/b/c"])
def test_a_name_that_is_no_repository_is_refused(name):
    with pytest.raises(RepositoryError, match="neither an existing folder nor a repository"):
        genhub.AutoPipeline.from_pretrained(name)


def test_a_complete_new_version_whose_files_are_not_in_place_yet_is_the_repository(tiny_repo, tmp_path):
    folder = shutil.copytree(tiny_repo, tmp_path / "repo", ignore=shutil.ignore_patterns("training"))
    shutil.copytree(folder, folder / ".saved")
    (folder / ".saved/metrics.json").unlink()

    assert download(folder) == folder / ".saved"
    assert download(folder, required="metrics.json") == folder
