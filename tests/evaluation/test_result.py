"""An evaluation replaces an earlier one of the same settings, and stands beside one of others."""

import pytest

from genhub.evaluation.result import Metric, merge_evaluation

CAS = {"name": "CAS", "space": "", "value": 0.8}
LIKELIHOOD = {"name": "bits/dim (ODE)", "space": "", "value": 3.0}


def evaluation(value=5.0, **changes) -> dict:
    figures = [{"name": "FD-FM", "space": "clf", "value": value}]
    samples = {"images": 10, "seed": 0, "sampler": "DDIMScheduler", "steps": 2}
    settings = {"protocol": "p", "samples": samples, "reference": {"data": "d"}, "spaces": {"clf": "c"}}
    return settings | {"repository": "r", "figures": figures, "date": "today"} | changes


def test_a_metric_is_json_under_the_names_of_its_fields():
    assert Metric("FD", "clf", 1.0, None, "", 10).to_dict() == {
        "name": "FD",
        "space": "clf",
        "value": 1.0,
        "spread": None,
        "spread_is": "",
        "images": 10,
    }


def test_a_repeated_evaluation_takes_the_place_of_the_first_and_is_the_newest():
    other = evaluation(9.0, samples={"images": 20})

    assert merge_evaluation([evaluation(1.0), other], evaluation(2.0, date="later")) == [
        other,
        evaluation(2.0, date="later"),
    ]


@pytest.mark.parametrize("part", ["protocol", "samples", "reference", "spaces", "repository"])
def test_other_settings_stand_beside_one_another(part):
    old, new = evaluation(), evaluation(**{part: "another"})

    assert merge_evaluation([old], new) == [old, new]


@pytest.mark.parametrize("given", [{"arguments": {"truncation": 0.7}}, {"scheduler_arguments": {"solver_order": 3}}])
def test_sampling_arguments_are_settings(given):
    old = evaluation()
    new = evaluation(samples=old["samples"] | given)

    assert merge_evaluation([old], new) == [old, new]
    assert merge_evaluation([old, new], new) == [old, new]


@pytest.mark.parametrize("metric", [CAS, LIKELIHOOD], ids=["CAS", "likelihood"])
def test_a_metric_on_demand_is_kept_until_it_is_measured_again(metric):
    old, new = evaluation(), evaluation()
    old["figures"] = [*old["figures"], metric]

    (kept,) = merge_evaluation([old], new)
    (measured,) = merge_evaluation([old], new | {"figures": [*new["figures"], metric | {"value": 0.9}]})

    assert kept["figures"][-1] == metric
    assert metric not in new["figures"]  # which is not changed
    assert [figure["value"] for figure in measured["figures"] if figure["name"] == metric["name"]] == [0.9]


def test_one_metric_on_demand_does_not_take_the_place_of_another():
    old, new = evaluation(), evaluation()
    old["figures"], new["figures"] = [*old["figures"], CAS], [*new["figures"], LIKELIHOOD]

    (merged,) = merge_evaluation([old], new)

    assert merged["figures"] == [*evaluation()["figures"], LIKELIHOOD, CAS]
