"""Quality is watched while training, and watching changes nothing but the log."""

import json

import pytest
import torch
from worlds import run, same_bits

from genhub import AutoPipeline, train
from genhub.data import DataConfig, load
from genhub.evaluation.generation import pixels
from genhub.evaluation.memorisation import memorisation
from genhub.evaluation.monitor import QualityMonitor

WATCHED = {"evaluation.every": 1, "evaluation.count": 8, "evaluation.arguments": {"num_inference_steps": 1}}


def figures(folder) -> list[float]:
    records = [json.loads(line) for line in (folder / "training/metrics.jsonl").read_text().splitlines()]
    return [record["val_kid_pix"] for record in records if "val_kid_pix" in record]  # too few to tell what they are


def test_watching_moves_no_running_statistics(tiny, tmp_path):
    overrides = {key: value for key, value in tiny.items() if key.startswith("data.")}
    overrides |= {"training.max_steps": 2, "training.batch_size": 8, "training.ema": {"generator": 0.5}}
    folders = [
        train("dcgan", tmp_path / str(every), overrides=overrides | {"evaluation.every": every, "evaluation.count": 8})
        for every in (0, 1)
    ]

    assert same_bits(*folders)


def test_a_watched_run_ends_in_the_same_bits_and_logs_a_figure_at_each_turn(tiny, tmp_path):
    watched = train("ddpm-quick", tmp_path / "watched", overrides=tiny | WATCHED)
    alone = train("ddpm-quick", tmp_path / "alone", overrides=tiny | {"evaluation.every": 0})

    assert len(figures(watched)) == 4
    assert figures(alone) == []
    assert same_bits(watched, alone)


def test_the_best_weights_so_far_are_a_repository_of_their_own(tiny, tmp_path):
    overrides = tiny | WATCHED | {"evaluation.keep_best": True, "optimizers.unet.adamw_lr": 0.05}

    folder = train("ddpm-quick", tmp_path / "run", overrides=overrides)

    best = folder / "training" / "best"
    (row,) = json.loads((best / "metrics.json").read_text())["results"]
    assert row["value"] == min(figures(folder))
    assert AutoPipeline.from_pretrained(best)(batch_size=1, num_inference_steps=1).images[0].size == (28, 28)


def test_a_resumed_run_keeps_the_best_of_before(tiny, tmp_path):
    overrides = tiny | WATCHED | {"evaluation.keep_best": True}
    folder = train("ddpm-quick", tmp_path / "run", overrides=overrides | {"training.max_steps": 2})

    train("ddpm-quick", folder, resume=True, overrides=overrides)

    (row,) = json.loads((folder / "training/best/metrics.json").read_text())["results"]
    assert len(figures(folder)) == 4
    assert row["value"] == min(figures(folder))


@pytest.mark.slow
def test_two_processes_log_what_one_logs(tiny, tmp_path):
    overrides = tiny | WATCHED | {"evaluation.every": 2, "evaluation.count": 70, "training.max_steps": 2}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        codes = run(
            lambda folder=folder: train("ddpm-quick", folder, overrides=overrides), processes, tmp_path / "log"
        )
        assert codes == [0] * processes, (tmp_path / "log").read_text()

    assert figures(tmp_path / "2") == pytest.approx(figures(tmp_path / "1"), rel=0.05)


def test_real_images_are_near_and_noise_is_far():
    config = DataConfig(source="sample", val_size=500)
    real, held_out, test = load(config, "train"), load(config, "val"), load(config, "test")
    watch = QualityMonitor(real, held_out)

    assert watch.name == "val_kid_clf"
    assert abs(watch(test.images)) < 10
    assert watch(test.images.flip(0)) == pytest.approx(watch(test.images), abs=1e-6)
    assert watch(255 - test.images[:256]) > 100


def test_the_share_near_to_training_images_is_that_of_the_memorisation_report_and_finds_copies():
    config = DataConfig(source="sample", val_size=500)
    real, held_out, test = load(config, "train")[:3000], load(config, "val"), load(config, "test")
    monitor = QualityMonitor(real, held_out)
    copies = torch.cat([test.images[:300], real.images[:100]])

    near = monitor.near(copies)["val_near_pix"]

    assert near == memorisation(*map(pixels, (copies, real.images, held_out.images))).near
    assert 0.25 <= near < 0.3
    assert monitor.near(held_out.images) == {"val_near_pix": 0.01}  # by definition


def test_near_copies_are_logged_while_training(tiny, tmp_path):
    folder = train("ddpm-quick", tmp_path / "run", overrides=tiny | WATCHED | {"training.max_steps": 2})

    records = [json.loads(line) for line in (folder / "training/metrics.jsonl").read_text().splitlines()]
    assert [record["val_near_pix"] for record in records if "val_near_pix" in record] == [0, 0]  # still noise


def test_other_data_is_watched_in_pixels(tmp_path):
    config = DataConfig(source="sample", val_size=500)
    real, held_out = load(config, "train"), load(config, "val")
    real.images = real.images.flip(3)  # no longer Fashion MNIST

    assert QualityMonitor(real, held_out).name == "val_kid_pix"


def test_what_the_pipeline_does_not_take_is_refused_before_any_work(tiny, tmp_path):
    with pytest.raises(ValueError, match="There is no `evaluation.arguments.step`"):
        train("ddpm-quick", tmp_path / "run", overrides=tiny | {"evaluation.arguments": {"step": 1}})

    assert not (tmp_path / "run").exists()
