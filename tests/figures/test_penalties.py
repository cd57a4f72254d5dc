"""The penalties on the mean activation of a unit."""

import pytest
import torch

from genhub import figure
from genhub.figures.penalties import SLOPES, penalty_panels


@pytest.mark.parametrize("target", [0.1, 0.5])
def test_penalties_vanish_at_the_target_and_their_slopes_are_those_drawn(target):
    costs, slopes = penalty_panels(target)

    for cost, slope in zip(costs.lines, slopes.lines, strict=True):
        q, height = torch.tensor(cost.x), torch.tensor(cost.y)
        place = (q - target).abs().argmin()
        assert height[place] == pytest.approx(0, abs=1e-9)
        assert height.argmin() == place
        kept = {round(x, 4): y for x, y in zip(slope.x, slope.y, strict=True)}
        middles = (height[2:] - height[:-2]).abs() / (q[2:] - q[:-2])
        for x, steep in list(zip(q[1:-1].tolist(), middles.tolist(), strict=True))[20:160]:
            if round(x, 4) in kept and abs(x - target) > 0.006:
                assert kept[round(x, 4)] == pytest.approx(steep, rel=0.03)
        assert max(slope.y) <= SLOPES


def test_the_divergence_pulls_harder_than_the_squared_error_by_one_over_twice_the_variance():
    divergence, absolute, squared = (dict(zip(line.x, line.y, strict=True)) for line in penalty_panels(0.1)[1].lines)

    for q in squared.keys() & divergence.keys():
        assert divergence[q] == pytest.approx(squared[q] / (2 * q * (1 - q)))
    weaker = [q for q in absolute if q in divergence and divergence[q] < absolute[q]]
    assert (min(weaker), max(weaker)) == (pytest.approx(0.055), pytest.approx(0.315))


def test_the_target_is_that_of_the_recipe_and_no_data_are_needed(repos, tmp_path, drawing):
    (tmp_path / "repo").mkdir()
    text = (repos("sparse-kl-ae") / "recipe.yaml").read_text().replace("kl_weight", "target: 0.25, kl_weight")
    (tmp_path / "repo/recipe.yaml").write_text(text)

    figure("penalties", str(tmp_path / "repo"), str(tmp_path / "x.png"))

    assert drawing["chart"]["marks"] == {"target 0.25": [0.25]}
