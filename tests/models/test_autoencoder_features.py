"""The autoencoder for pretraining: it holds a classifier's body, and its decoder sees what lies around a place."""

import pytest
import torch
from accelerate.utils.operations import convert_to_fp32
from tiny import tiny_model
from torch.testing import assert_close

from genhub import FeatureAutoencoder, ImageClassifier


def test_by_default_it_holds_the_body_of_the_default_classifier_and_eight_numbers_a_place():
    autoencoder, whole = FeatureAutoencoder(), ImageClassifier()

    shapes = [
        {name: value.shape for name, value in model.state_dict().items() if name.startswith("body.")}
        for model in (autoencoder, whole)
    ]

    assert shapes[0] == shapes[1]
    assert autoencoder.encode(torch.zeros(1, 1, 28, 28)).shape == (1, 8 * 7 * 7)


@pytest.mark.parametrize("variant", ["plain", "wide", "three convolutions"])
def test_the_code_of_a_place_makes_the_pixels_of_its_square_and_of_those_around_it(variant):
    model = tiny_model("FeatureAutoencoder", variant)
    height, width = model.map_size
    square = model.config["sample_size"] if isinstance(model.config["sample_size"], int) else 8
    square //= height

    codes = torch.zeros(2, model.config["latent_channels"])
    codes.unflatten(1, (-1, height, width))[1, :, 0, 0] = 1.0
    empty, touched = model.decode(codes)

    changed = (empty != touched).any(0)
    assert changed[:square, :square].any()
    assert not changed[2 * square :].any()
    assert not changed[:, 2 * square :].any()


@pytest.mark.parametrize("name", ["FeatureAutoencoder", "ImageClassifier", "DenseClassifier"])
def test_mixed_precision_gives_back_the_same_fields_in_float32(name):
    model = tiny_model(name).to(torch.bfloat16)
    output = model(torch.zeros(2, 1, 8, 8, dtype=torch.bfloat16))

    converted = convert_to_fp32(output)

    assert type(converted) is type(output)
    assert_close(converted.to_tuple(), tuple(field.float() for field in output.to_tuple()))
