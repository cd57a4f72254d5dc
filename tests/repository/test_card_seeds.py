"""What a card says of several training runs."""

import pytest

from genhub.repository.card_seeds import seeds_table


def test_mean_spread_and_worst_of_each_figure():
    distances, recalls = [0.2, 0.3, 0.25], [0.8, 0.7, 0.75]
    runs = [
        {"seed": seed, "figures": {"FD-FM (clf)": distance, "recall (clf)": recall}}
        for seed, distance, recall in zip((0, 1, 2), distances, recalls, strict=True)
    ]

    text = "\n".join(seeds_table({"seeds": runs}))

    assert "trained 3 times (seeds 0, 1, 2)" in text
    assert "| FD-FM (clf) | 0.25 ± 0.05 | 0.3 |" in text  # the largest distance is the worst
    assert "| recall (clf) | 0.75 ± 0.05 | 0.7 |" in text  # the smallest share is


@pytest.mark.parametrize("metrics", [{}, {"seeds": []}, {"seeds": [{"seed": 0, "figures": {"FD-FM (clf)": 0.2}}]}])
def test_a_single_run_gets_no_table(metrics):
    assert seeds_table(metrics) == []
