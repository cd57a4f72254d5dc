"""Training on a few labels: as many of each class, drawn by a seed from the images that are for training."""

from functools import partial

import pytest
import torch
from tiny import PATCH_UNET
from worlds import run, same_bits, weights

import genhub
from genhub import recipes
from genhub.data import DataConfig, Images, Shape, load

trusted_train = partial(genhub.train, trust_code=True)  # objectives of tests/games.py


def images(counts=(5, 9, 7)) -> Images:
    """Images that tell their place, with so many of each class."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    return Images(torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None], labels)


@pytest.mark.parametrize("count", [3, 9, 15])
def test_a_draw_has_as_many_images_of_each_class_each_once_and_with_its_label(count):
    everything = images()

    drawn = everything.draw_labelled(count, seed=0)

    places = drawn.images.flatten().long()
    assert drawn.labels.bincount().tolist() == [count // 3] * 3
    assert len(set(places.tolist())) == count
    assert torch.equal(everything.labels[places], drawn.labels)


def test_a_draw_is_a_function_of_its_seed():
    first, again, other = (images().draw_labelled(9, seed).images for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_smaller_draw_is_part_of_a_larger_one():
    few, many = (set(images().draw_labelled(count, 3).images.flatten().tolist()) for count in (6, 12))

    assert few < many


@pytest.mark.parametrize(
    ("given", "count", "message"),
    [
        (images(), 18, "must be at most 15: 3 classes, the smallest of which has 5 images to draw from, got 18"),
        (images(), 10, "must be a multiple of the 3 classes, got 10"),
        (images((5, 0, 7)), 3, "must be at most 0"),
        (Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8)), 2, "must be left out: the data set has no labels"),
    ],
)
def test_more_labels_than_there_are_and_unequal_shares_are_refused(given, count, message):
    with pytest.raises(ValueError, match=f"`data.labelled` {message}"):
        given.draw_labelled(count, seed=0)


@pytest.mark.parametrize(("key", "value"), [("labelled", 0), ("labelled", -10), ("label_draw", -1)])
def test_a_count_or_seed_out_of_range_is_refused(key, value):
    with pytest.raises(ValueError, match=f"`data.{key}` must be at least ., got {value}"):
        DataConfig(**{key: value})


def test_only_the_training_split_is_drawn_from_and_the_others_stay_whole(tiny):
    config = {"source": tiny["data.source"], "val_size": 16}
    whole = {split: load(DataConfig(**config), split) for split in ("train", "val", "test")}

    few = {split: load(DataConfig(**config, labelled=20), split) for split in whole}

    assert (len(few["train"]), few["train"].shape) == (20, whole["train"].shape)
    pixels = {tuple(image.flatten().tolist()) for image in whole["train"].images}
    assert all(tuple(image.flatten().tolist()) in pixels for image in few["train"].images)
    for split in ("val", "test"):
        assert torch.equal(few[split].images, whole[split].images)


def test_data_that_are_decoded_while_training_have_no_labels_to_draw(tiny):
    with pytest.raises(ValueError, match="`data.labelled` must be left out of data that are decoded while training"):
        load(DataConfig(tiny["data.source"], val_size=16, labelled=20, streaming=True))


def test_a_run_refuses_more_labels_than_there_are_before_any_work_and_counts_epochs_in_those_it_has(tiny, tmp_path):
    few = {"data.labelled": 20, "training.batch_size": 10, "training.epochs": 2, "training.max_steps": None}

    with pytest.raises(ValueError, match="`data.labelled` must be at most .*, got 640"):
        trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny | few | {"data.labelled": 640})
    assert not (tmp_path / "run").exists()
    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny | few)

    log = (folder / "training/metrics.jsonl").read_text()
    assert '"step": 4, "stage": 0, "images": 40' in log
    assert '"step": 5' not in log


def test_neither_a_resume_nor_a_second_process_changes_which_labels_are_seen(tiny, tmp_path):
    few = tiny | {"data.labelled": 20, "data.label_draw": 3, "training.batch_size": 10, "training.ema": {}}
    few |= {"components.unet": PATCH_UNET, "objective": {"class": "games.PartOnly"}}
    few |= {"optimizers": {"unet.unet.conv_in": {"class": "torch.optim.SGD", "lr": 0.1}}}

    for processes in (1, 2):
        train = partial(trusted_train, "ddpm-quick", tmp_path / str(processes), overrides=few)
        assert run(train, processes, tmp_path / "log") == [0] * processes, (tmp_path / "log").read_text()
    trusted_train("ddpm-quick", tmp_path / "resumed", overrides=few | {"training.max_steps": 2})
    trusted_train("ddpm-quick", tmp_path / "resumed", resume=True, overrides=few)

    assert same_bits(tmp_path / "1", tmp_path / "resumed")
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


@pytest.mark.parametrize(("recipe", "extra"), [("conditional-dcgan", 0), ("conditional-vae", 0), ("ddpm-quick", 1)])
def test_a_conditional_network_has_the_classes_of_the_data_and_a_null_class_if_labels_are_dropped(recipe, extra):
    shape = Shape(1, 28, 28, ("cats", "dogs", "birds"), 3)
    loaded = recipes.load(recipe)

    with torch.device("meta"):
        networks = {name: loaded.build_component(name, shape) for name in loaded.names if name != "scheduler"}

    assert {network.config["num_class_embeds"] for network in networks.values()} == {3 + extra}
