"""What the chapter says of trained models, measured on the published ones."""

import json
from pathlib import Path

import claim_codes
import published_claims
import pytest
from claim_bench import Bench

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/studies/published-models"


@pytest.fixture(scope="module")
def bench():
    return Bench("sample", ROOT / "model_cards", 300)


def test_the_published_report_is_that_of_its_stored_numbers():
    report = json.loads((FOLDER / "report.json").read_text())

    assert [*report["rows"]] == [*published_claims.CLAIMS]
    assert (FOLDER / "README.md").read_text() == published_claims.markdown(report)


def test_a_mean_activation_of_a_tenth_is_not_a_tenth_of_active_units(bench):
    found = {what: value for what, value, _ in claim_codes.sparsity(bench)}

    assert found["mean activation, sparse-kl-ae"] == pytest.approx(0.1, abs=0.01)
    assert found["share of activations above 0.1, sparse-kl-ae"] > 0.35
    assert found["share of activations above 0.5, sparse-kl-ae"] < 0.01


def test_what_is_measured_is_not_measured_again(tmp_path, monkeypatch):
    rows = {claim: [["nothing", 0.0, None]] for claim in published_claims.CLAIMS if claim != "C43"}
    settings = {"images": 300, "rows": rows}
    (tmp_path / "report.json").write_text(json.dumps(settings))
    monkeypatch.setattr(published_claims, "CLAIMS", dict.fromkeys(rows, pytest.fail) | {"C43": one_row})

    report = published_claims.study("sample", tmp_path, ROOT / "model_cards", 300)

    assert report.content["rows"] == rows | {"C43": [("of 300", 0.5, 0.1)]}
    assert "| C43 | of 300 | 0.5 | 0.1 |" in (tmp_path / "README.md").read_text()


def one_row(bench):
    yield f"of {bench.count}", 0.5, 0.1
