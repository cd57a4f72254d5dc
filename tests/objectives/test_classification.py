"""The objective of classification: the network's inputs and its targets."""

import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_model
from torch import nn
from torch.testing import assert_close

import genhub
from genhub.models.classifier import ImageClassifierOutput
from genhub.objectives import Classification, Step
from genhub.objectives.classification import erase
from genhub.utils.randomness import BatchRandom

PLAIN = {"label_smoothing": 0.0, "max_shift": 0, "erasing": 0.0}


class Network(nn.Module):
    """Returns `logits`, zero by default, and remembers its input."""

    def __init__(self, logits=None, num_classes=10):
        super().__init__()
        self.logits, self.config = logits, {"num_classes": num_classes}

    def forward(self, sample):
        self.inputs = sample
        zeros = torch.zeros(len(sample), self.config["num_classes"])
        return ImageClassifierOutput(zeros if self.logits is None else self.logits)


def step_of(index, rows, total):
    return Step(index, 0.0, BatchRandom("test", index, rows=rows, total=total))


def loss(network, batch, index=0, rows=None, **arguments):
    """Returns the loss of `rows`, all by default, of a global batch at step `index`."""
    total = len(batch["sample"])
    rows = range(total) if rows is None else rows
    own = {key: value[rows.start : rows.stop] for key, value in batch.items()}
    terms = Classification(network, **arguments).classification_loss(own, step_of(index, rows, total))
    assert terms.keys() == {"loss"}
    return terms["loss"]


def validation(network, batch, index=0):
    total = len(batch["sample"])
    return Classification(network).validate(batch, step_of(index, range(total), total))


def random_batch(count, *shape):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(count, *shape or (1, 8, 8), generator=generator) * 2 - 1
    return {"sample": pixels, "labels": torch.randint(10, (count,), generator=generator)}


def logits_of(count):
    return torch.randn(count, 10, generator=torch.Generator().manual_seed(1)) * 3


def holes(count, size, probability, index=0, channels=1):
    """Where `erase` fills images (B, H, W), and with what: images of a value that noise never has."""
    sample = torch.full((count, channels, *size), 5.0)
    filled = erase(sample, probability, step_of(index, range(count), count))
    changed = filled != sample
    assert (changed == changed[:, :1]).all()  # all channels of a pixel alike
    return changed[:, 0], filled


def test_without_augmentation_the_loss_is_the_cross_entropy_of_the_images_as_they_are():
    batch, network = random_batch(64), Network(logits_of(64))

    lost = loss(network, batch, **PLAIN)

    assert_close(lost, F.cross_entropy(network.logits, batch["labels"]))
    assert torch.equal(network.inputs, batch["sample"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_a_smoothed_label_is_shared_among_all_classes(smoothing):
    batch, network = random_batch(64), Network(logits_of(64))

    lost = loss(network, batch, **PLAIN | {"label_smoothing": smoothing})

    surprise = -network.logits.double().log_softmax(1)
    own = surprise.gather(1, batch["labels"][:, None]).mean()
    assert_close(lost, ((1 - smoothing) * own + smoothing * surprise.mean()).float())


@pytest.mark.parametrize(("max_shift", "shape"), [(1, (1, 4, 6)), (2, (3, 5, 4))])
def test_an_image_is_moved_by_whole_pixels_onto_black_by_every_shift_alike_and_never_mirrored(max_shift, shape):
    count, network, side = 5000, Network(), 2 * max_shift + 1
    image = torch.linspace(-0.9, 0.9, shape[0] * shape[1] * shape[2]).reshape(shape)

    batch = {"sample": image.expand(count, *shape), "labels": torch.zeros(count, dtype=int)}
    loss(network, batch, **PLAIN | {"max_shift": max_shift})

    moved = torch.full((side, side, *shape), -1.0)
    for down in range(-max_shift, max_shift + 1):
        for right in range(-max_shift, max_shift + 1):
            for y in range(shape[1]):
                for x in range(shape[2]):
                    if 0 <= y - down < shape[1] and 0 <= x - right < shape[2]:
                        moved[down + max_shift, right + max_shift, :, y, x] = image[:, y - down, x - right]
    same = (network.inputs[:, None] == moved.flatten(0, 1)).flatten(2).all(2)  # (B, shifts)
    assert (same.sum(1) == 1).all()
    expected = count / side**2
    assert (same.sum(0) - expected).abs().max() < 5 * expected**0.5


def test_a_hole_is_a_rectangle_of_the_promised_areas_and_shapes_filled_with_uniform_noise():
    hole, filled = holes(1000, (96, 128), 1.0, channels=2)

    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):  # without gaps: at most one start
        assert (F.pad(line.int(), (1, 1)).diff() == 1).sum(1).eq(1).all()
    high, wide = rows.sum(1).double(), columns.sum(1).double()
    area, aspect = hole.float().mean((1, 2)), high / wide
    assert 0.02 * 0.85 < area.min() < 0.03  # whole pixels: a side is up to one shorter or longer
    assert 0.35 < area.max() < 0.4 * 1.05
    assert 0.3 * 0.88 < aspect.min() < 0.36
    assert 2.8 < aspect.max() < 1 / 0.3 * 1.12
    noise = filled[hole[:, None].expand_as(filled)]
    assert -1 <= noise.min() < -0.999
    assert 0.999 < noise.max() <= 1
    assert abs(noise.mean()) < 0.01
    assert abs(noise.var() - 1 / 3) < 0.01


def test_a_hole_may_lie_anywhere_and_as_often_above_as_below_and_left_as_right():
    count = 4000
    hole, _ = holes(count, (28, 28), 1.0)

    frequency = hole.float().mean(0)  # (H, W)

    assert frequency.min() > 0
    for flipped in (frequency.flip(0), frequency.flip(1)):
        assert (frequency - flipped).abs().max() < 6 * (0.5 / count) ** 0.5


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_the_promised_share_of_images_has_a_hole(probability):
    count = 4000

    hole, _ = holes(count, (28, 28), probability)

    share = hole.flatten(1).any(1).float().mean()
    assert abs(share - probability) <= 4 * (probability * (1 - probability) / count) ** 0.5


def test_pixels_outside_the_hole_are_left_alone():
    batch, network = random_batch(256, 2, 28, 28), Network()

    loss(network, batch, **PLAIN | {"erasing": 0.5})

    changed = (network.inputs != batch["sample"]).any(1)
    rows, columns = changed.any(2), changed.any(1)
    inside = rows[:, :, None] & columns[:, None, :]
    assert torch.equal(changed, inside)
    assert 0.3 < inside.flatten(1).any(1).float().mean() < 0.7


def test_two_processes_show_the_same_images_as_one():
    batch, network, shown = random_batch(16, 1, 28, 28), Network(), []

    for rows in (range(16), range(8), range(8, 16)):
        loss(network, batch, rows=rows, max_shift=2, erasing=0.5)
        shown.append(network.inputs)

    assert torch.equal(torch.cat(shown[1:]), shown[0])
    assert not torch.equal(shown[0], batch["sample"])


def test_every_step_augments_otherwise_and_leaves_the_batch_alone():
    batch, network, shown = random_batch(16, 1, 28, 28), Network(), []
    before, state = batch["sample"].clone(), torch.get_rng_state()

    for index in (0, 1, 0):
        loss(network, batch, index)
        shown.append(network.inputs)

    assert torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[0], shown[1])
    assert torch.equal(batch["sample"], before)
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_shows_the_images_as_they_are_whatever_the_draws():
    batch, network = random_batch(64), Network(logits_of(64))

    first, second = (validation(network, batch, index) for index in (0, 1))

    assert torch.equal(network.inputs, batch["sample"])
    assert first == second
    assert_close(first["loss"], F.cross_entropy(network.logits, batch["labels"]))


@pytest.mark.parametrize("right", [0, 3, 8])
def test_accuracy_is_the_share_of_images_whose_class_is_the_most_probable(right):
    labels = torch.arange(8) % 4
    answers = torch.where(torch.arange(8) < right, labels, labels + 1)

    terms = validation(Network(F.one_hot(answers, 10).float()), random_batch(8) | {"labels": labels})

    assert terms.keys() == {"loss", "accuracy"}
    assert terms["accuracy"] == right / 8


def test_a_few_steps_on_64_images_lower_the_loss():
    stripes = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
    columns, rows = stripes[0].expand(8, 8), stripes[0].expand(8, 8).T
    batch = random_batch(64)
    batch["labels"] %= 3
    batch["sample"] = 0.7 * torch.stack([stripes, columns, rows])[batch["labels"], None] + (0.3 * batch["sample"])
    network = tiny_model("ImageClassifier").train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-2)

    before = validation(network.eval(), batch)
    losses = []
    for index in range(30):
        losses.append(loss(network.train(), batch, index))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    after = validation(network.eval(), batch)

    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    assert after["loss"] < 0.5 * before["loss"]
    assert after["accuracy"] > 0.9


@pytest.mark.parametrize(("trains_body", "moves"), [(True, "classifier"), (False, "classifier.head")])
def test_a_frozen_body_is_normalised_by_what_it_has_seen_before_and_keeps_it(trains_body, moves):
    batch, network = random_batch(16), tiny_model("ImageClassifier").train()
    batch["labels"] %= 3
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    objective = Classification(network, **PLAIN, trains_body=trains_body)

    lost = objective.classification_loss(batch, step_of(0, range(16), 16))["loss"]

    kept = all(torch.equal(value, statistics[name]) for name, value in network.named_buffers())
    network.train(trains_body).load_state_dict(statistics, strict=False)
    assert [phase.trains for phase in objective.phases] == [moves]
    assert kept is not trains_body
    assert_close(lost, F.cross_entropy(network(batch["sample"]).logits, batch["labels"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_smoothing": -0.1}, r"`label_smoothing` must lie in \[0, 1\], got -0.1"),
        ({"label_smoothing": 1.1}, r"`label_smoothing` must lie in \[0, 1\], got 1.1"),
        ({"erasing": -0.1}, r"`erasing` must lie in \[0, 1\], got -0.1"),
        ({"erasing": 1.5}, r"`erasing` must lie in \[0, 1\], got 1.5"),
        ({"erasing": float("nan")}, r"`erasing` must lie in \[0, 1\], got nan"),
        ({"max_shift": -1}, "`max_shift` must be at least 0, got -1"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        Classification(Network(), **arguments)


def train(folder, tiny, **overrides):
    """Trains a tiny classifier on the data set `folder / "data"`."""
    small = {"components.classifier.block_out_channels": [4, 8], "components.classifier.strides": [1, 2]}
    kept = {key: value for key, value in tiny.items() if key.startswith("training.")}
    data = {"data.source": str(folder / "data"), "data.val_size": 16}
    return genhub.train("feature-classifier", folder / "run", overrides=kept | small | data | overrides)


def test_images_without_labels_are_refused_before_anything_is_written(tmp_path, tiny):
    import datasets

    with_labels = datasets.load_dataset("parquet", data_dir=tiny["data.source"], split="train")
    (tmp_path / "data").mkdir()
    with_labels.remove_columns("label").to_parquet(tmp_path / "data/train-00000-of-00001.parquet")

    with pytest.raises(ValueError, match="`components.classifier.num_classes` is 10, the data set has no labels"):
        train(tmp_path, tiny)

    assert not (tmp_path / "run").exists()


def test_labels_need_no_names_and_may_not_exceed_the_classes_of_the_network(tmp_path, tiny):
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8), np.uint8)
    labels = np.arange(80, dtype=np.uint8) % 4
    (tmp_path / "data").mkdir()
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (tmp_path / f"data/train-{name}-ubyte").write_bytes(header + array.tobytes())

    with pytest.raises(ValueError, match="`components.classifier.num_classes` is 3, the data set has 4 classes"):
        train(tmp_path, tiny, **{"components.classifier.num_classes": 3})

    assert (train(tmp_path, tiny, **{"components.classifier.num_classes": 4}) / "model_index.json").exists()
