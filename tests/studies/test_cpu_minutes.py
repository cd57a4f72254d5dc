"""Studies train a repository once, and take none that was trained otherwise for it."""

import pytest
from cpu_minutes import Judge


def test_a_folder_is_trained_once_and_not_taken_for_another_recipe(tmp_path, tiny):
    judge, folder = object.__new__(Judge), tmp_path / "run"  # which nothing is measured by
    tiny = {key: value for key, value in tiny.items() if key != "training.max_minutes"}
    judge.train_recipe("ddpm-quick", folder, 0.01, tiny)
    written = (folder / "metrics.json").stat().st_mtime_ns

    judge.train_recipe("ddpm-quick", folder, 0.01, tiny)
    for minutes, changes, key in (
        (0.02, {}, "training.max_minutes"),
        (0.01, {"optimizers.unet.lr": 0.5}, "optimizers.unet.lr"),
    ):
        with pytest.raises(ValueError, match=f"was trained with another {key}"):
            judge.train_recipe("ddpm-quick", folder, minutes, tiny | changes)

    assert (folder / "metrics.json").stat().st_mtime_ns == written
