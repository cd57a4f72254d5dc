"""The interface between objectives and the loop: what a data set must have, and what a step offers."""

import pytest
import torch
from games import AverageTarget
from tiny import tiny_model
from torch import nn
from torch.testing import assert_close

from genhub.data import Images, Shape
from genhub.objectives import Classification, NoisePrediction, Objective, Step
from genhub.schedulers.scheduling_cosine_ddpm import CosineDDPMScheduler
from genhub.utils.randomness import BatchRandom


def objective_of(module, name="unet"):
    objective = Objective()
    objective.modules = {name: module}
    return objective


def step_of(averages=None):
    return Step(0, 0.0, BatchRandom("test", rows=range(4), total=4), averages=averages or {})


def images_of(labels=None, class_names=None, channels=1):
    labels = None if labels is None else torch.tensor(labels)
    return Images(torch.zeros(4, channels, 8, 8, dtype=torch.uint8), labels, class_names)


class Undecoded:
    """A data set whose labels are not in memory, such as `genhub.data.Lazy`."""

    labels, has_labels = None, True

    def __init__(self, num_classes):
        self.shape = Shape(1, 8, 8, num_classes=num_classes)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(3, 8, 8), "`components.unet.in_channels` is 1, the images have 3 channel"),
        (Shape(1, 8, 16), "`components.unet.sample_size` is 8, the images are 8x16"),
    ],
)
def test_data_of_another_shape_than_the_networks_are_refused(shape, message):
    objective = objective_of(tiny_model("PatchUNet2DModel"))

    objective.check(Shape(1, 8, 8))
    with pytest.raises(ValueError, match=message):
        objective.check(shape)


def test_latents_are_data_as_images_are():
    objective_of(tiny_model("PatchUNet2DModel", in_channels=4, sample_size=[4, 8])).check(Shape(4, 4, 8))


def test_a_module_without_a_config_fits_all_data():
    objective = objective_of(nn.Identity())

    objective.check(Shape(3, 5, 7))
    objective.check_labels(images_of())


@pytest.mark.parametrize(
    ("model", "key"), [("PatchUNet2DModel", "num_class_embeds"), ("ImageClassifier", "num_classes")]
)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (images_of(), "`components.model.{key}` is 3, the data set has no labels"),
        (images_of([0, 1, 2, 3]), "`components.model.{key}` is 3, the data set has 4 classes"),
        (images_of([0, 1, 1, 0], ("a", "b", "c", "d")), "`components.model.{key}` is 3, the data set has 4 classes"),
        (images_of([0, 1, -1, 2]), "`components.model.{key}` is 3, the labels run from -1 to 2"),
        (images_of([0, 1, 3, 0], ("a", "b")), "`components.model.{key}` is 3, the labels run from 0 to 3"),
        (Undecoded(4), "`components.model.{key}` is 3, the data set has 4 classes"),
    ],
)
def test_labels_that_a_module_does_not_know_are_refused(model, key, images, message):
    objective = objective_of(tiny_model(model, **{key: 3}), "model")

    with pytest.raises(ValueError, match=message.format(key=key)):
        objective.check_labels(images)


@pytest.mark.parametrize("images", [images_of([0, 1, 2, 1]), images_of([0, 1, 1, 0], ("a", "b")), Undecoded(None)])
def test_a_module_may_know_more_classes_than_the_data_have(images):
    Classification(tiny_model("ImageClassifier")).check_labels(images)


@pytest.mark.parametrize(("num_class_embeds", "has_null_class"), [(3, False), (4, True), (5, False)])
def test_label_dropout_needs_a_null_class_one_class_more_than_the_data_have(num_class_embeds, has_null_class):
    network = tiny_model("PatchUNet2DModel", num_class_embeds=num_class_embeds)
    objective = NoisePrediction(network, CosineDDPMScheduler(), label_dropout=0.1)
    images = images_of([0, 1, 2, 2])

    NoisePrediction(network, CosineDDPMScheduler()).check_labels(images)  # needed by nothing else
    if has_null_class:
        objective.check_labels(images)
    else:
        with pytest.raises(ValueError, match=f"must be one more .*`label_dropout`.*got {num_class_embeds} and 3 cl"):
            objective.check_labels(images)


def test_label_dropout_needs_a_known_number_of_classes():
    network = tiny_model("PatchUNet2DModel", num_class_embeds=4)

    with pytest.raises(ValueError, match=r"must be one more .*`label_dropout`.*got 4 and None classes"):
        NoisePrediction(network, CosineDDPMScheduler(), label_dropout=0.1).check_labels(Undecoded(None))


@pytest.mark.parametrize("name", ["DCGANGenerator", "ProgressiveDiscriminator"])  # by its layers, and by its word
def test_a_micro_batch_of_one_image_is_refused_where_statistics_of_the_batch_are_taken(name):
    objective = objective_of(tiny_model(name), "model")

    objective.check_batch(4, 2)
    objective_of(tiny_model("DenseGenerator")).check_batch(4, 1)
    with pytest.raises(ValueError, match=r"at least 2 images at a time: the component model .*, got 4, which gives 1"):
        objective.check_batch(4, 1)


def test_an_objective_sees_the_moving_average_of_a_module():
    objective = AverageTarget(tiny_model("UNet2DModel"))
    batch = {"sample": torch.rand(4, 1, 8, 8) * 2 - 1}
    other, same = tiny_model("UNet2DModel", seed=1), tiny_model("UNet2DModel")

    losses = [objective.loss(batch, step_of({"unet": average}))["distance"] for average in (other, same)]

    outputs = [network(batch["sample"], torch.zeros(4)).sample for network in (same, other)]
    assert_close(losses[0], (outputs[0] - outputs[1]).square().mean())
    assert losses[1] == 0
    losses[0].backward()
    assert any(parameter.grad is not None for parameter in objective.modules["unet"].parameters())
    assert all(parameter.grad is None for parameter in other.parameters())


def test_a_step_has_no_average_of_a_module_unless_the_recipe_keeps_one():
    assert step_of().average("unet") is None
    with pytest.raises(ValueError, match="`training.ema` must name unet"):
        AverageTarget(tiny_model("UNet2DModel")).loss({"sample": torch.zeros(4, 1, 8, 8)}, step_of())
