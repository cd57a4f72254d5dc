"""metrics.json of a stranger: what a card or a figure reads of it is there, or it is refused in one line."""

import json
import shutil
from pathlib import Path

import pytest
from changes import DELETE, changed

import genhub
from genhub.cli import main
from genhub.repository.card_results import with_results
from genhub.repository.format import RepositoryError
from genhub.repository.metrics import read_metrics

CARD = Path(genhub.__path__[0]).parent / "model_cards/ddpm-best"
METRICS = json.loads((CARD / "metrics.json").read_text())
FIGURE, SAMPLES = ("evaluations", -1, "figures", 0), ("evaluations", -1, "samples")
DAMAGED = [  # keys that lead to a value, and what is put there
    *((keys, value) for keys in (("results",), ("evaluations",), ("evaluations", 0)) for value in (None, 1, "a", [1])),
    *((("evaluations", -1, key), DELETE) for key in ("protocol", "complete", "date", "repository", "reference")),
    *((("evaluations", -1, key), DELETE) for key in ("figures", "hardware", "samples", "spaces")),
    *(((*FIGURE, key), value) for key in ("name", "value", "spread", "space") for value in (DELETE, [], {"a": 1})),
    *(((*SAMPLES, key), value) for key in ("images", "steps", "guidance_scale", "sampler") for value in ([], {})),
    (("results", 0, "value"), "1"),
    (("reported",), {"val_loss": None}),
    (("seeds",), [{"seed": 0}]),
]


@pytest.mark.parametrize(("keys", "value"), DAMAGED, ids=range(len(DAMAGED)))
def test_metrics_that_are_not_what_genhub_writes_are_refused_in_one_line(keys, value, tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(changed(METRICS, keys, value)))

    with pytest.raises(RepositoryError, match=f"^{path}: `{keys[0]}[^\n]*$"):
        read_metrics(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b'{"evaluations": ' * 10**5])
def test_a_file_that_holds_no_object_is_refused_by_every_command(content, tiny_repo, tmp_path, capsys):
    repo = shutil.copytree(tiny_repo, tmp_path / "repo")
    (repo / "metrics.json").write_bytes(content)

    codes = [main(["figure", "sampling-time", str(repo)]), main(["evaluate", str(repo), "--count", "200"])]

    assert codes == [1, 1]
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "metrics.json cannot be read: " in line]) == 2


def test_what_is_published_is_read_as_it_is():
    for path in sorted(CARD.parent.glob("*/metrics.json")):
        assert read_metrics(path) == json.loads(path.read_text())


@pytest.mark.parametrize("head", ["---\n{a\n---\n", "---\n\x02\n---\n", "---\n- a\n---\n"])
def test_a_card_whose_metadata_are_none_is_one_line(head):
    text = (CARD / "README.md").read_text().partition("---\n")[2].partition("---\n")[2]

    with pytest.raises(RepositoryError, match="^The metadata of README.md cannot be read: [^\n]*$"):
        with_results(head + text, METRICS)
