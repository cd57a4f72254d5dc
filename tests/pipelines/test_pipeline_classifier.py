"""The pipeline of classification: one answer for an image, however it is handed in, and wherever it is loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from tiny import tiny_model
from torch.testing import assert_close

import genhub
from genhub import ImageClassificationPipeline
from genhub.data import to_model_range
from genhub.repository.format import repo_files

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
every_variant = pytest.mark.parametrize("variant", ["plain", "colour"])


def pixels(count, channels=1):
    """Bytes (N, H, W, C), of which the first image has bright pixels only."""
    made = np.random.default_rng(0).integers(0, 256, (count, 8, 8, channels), np.uint8)
    made[0] //= 2
    made[0] += 128
    return made


def pils(images):
    return [Image.fromarray(image.squeeze()) for image in images]


def tiny_pipeline(variant="plain"):
    return ImageClassificationPipeline(tiny_model("ImageClassifier", variant))


def channels_of(pipe):
    return pipe.classifier.config.in_channels


@pytest.fixture(scope="module")
def repo(tmp_path_factory, tiny_always) -> Path:
    """A saved repository of a tiny trained classifier. Read only."""
    kept = {key: value for key, value in tiny_always.items() if key.startswith(("data.", "training."))}
    overrides = kept | {
        "components.classifier.block_out_channels": [4, 8],
        "components.classifier.strides": [1, 2],
        "training.sample_every": 2,
    }
    return genhub.train("feature-classifier", tmp_path_factory.mktemp("repo") / "clf", overrides=overrides)


@every_variant
def test_the_network_sees_what_it_was_trained_on(variant):
    pipe = tiny_pipeline(variant)
    images = pixels(5, channels_of(pipe))

    probabilities = pipe(pils(images)).probabilities

    trained_on = to_model_range(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert_close(probabilities, pipe.classifier(trained_on).logits.softmax(1).detach(), rtol=0, atol=1e-6)


@every_variant
def test_an_image_has_the_same_probabilities_in_every_form(variant):
    pipe = tiny_pipeline(variant)
    images = pixels(5, channels_of(pipe))
    array = images.astype(np.float32) / 255
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    forms = [array, array.astype(np.float64), list(array), tensor, list(tensor)]
    if variant == "plain":
        forms += [array[..., 0], list(array[..., 0]), tensor[:, 0], list(tensor[:, 0])]

    expected = pipe(pils(images)).probabilities

    for form in forms:
        assert_close(pipe(form).probabilities, expected, rtol=0, atol=1e-6)


@every_variant
def test_a_batch_is_its_images_one_by_one_in_every_form(variant):
    pipe = tiny_pipeline(variant)
    images = pixels(5, channels_of(pipe))
    array = images.astype(np.float32) / 255

    for form in (pils(images), array, torch.from_numpy(array).permute(0, 3, 1, 2)):
        together = pipe(form).probabilities
        alone = [pipe(image).probabilities for image in form]
        assert {tuple(one.shape) for one in alone} == {(1, 3)}
        assert_close(torch.cat(alone), together, rtol=0, atol=1e-6)


@every_variant
def test_a_picture_of_another_mode_is_converted(variant):
    pipe = tiny_pipeline(variant)
    grey = pils(pixels(1))[0]

    expected = pipe(grey).probabilities

    for mode in ("RGB", "RGBA", "L"):
        assert_close(pipe(grey.convert(mode)).probabilities, expected, rtol=0, atol=1e-6)


def test_what_a_pipeline_generates_can_be_classified_as_it_is():
    generator = genhub.CosineDDPMPipeline(tiny_model("PatchUNet2DModel"), genhub.CosineDDPMScheduler(), 2)
    generator.set_progress_bar_config(disable=True)

    pt, np_, pil = (
        generator(batch_size=3, generator=torch.Generator().manual_seed(0), output_type=kind).images
        for kind in ("pt", "np", "pil")
    )

    pipe = tiny_pipeline()
    assert_close(pipe(np_).probabilities, pipe(pt).probabilities, rtol=0, atol=1e-6)
    assert_close(pipe(pil).probabilities, pipe(pt).probabilities, rtol=0, atol=1e-2)  # bytes


def test_the_output_is_named_or_a_tuple_and_a_label_is_the_most_probable_class():
    pipe = tiny_pipeline()
    images = pils(pixels(4))

    named, unnamed = pipe(images), pipe(images, return_dict=False)

    assert type(unnamed) is tuple
    assert_close(unnamed, named.to_tuple(), rtol=0, atol=0)
    assert (named.labels.shape, named.probabilities.shape) == ((4,), (4, 3))
    assert torch.equal(named.labels, named.probabilities.argmax(1))
    assert_close(named.probabilities.sum(1), torch.ones(4))
    assert not named.probabilities.requires_grad


def test_training_ends_in_a_repository_without_samples(repo):
    assert repo_files(repo) == [
        *("README.md", "classifier/classifier.py", "classifier/config.json"),
        "classifier/diffusion_pytorch_model.safetensors",
        *("metrics.json", "model_index.json", "pipeline_classifier.py", "recipe.yaml"),
    ]
    assert list(repo.rglob("*.png")) == []
    metrics = json.loads((repo / "metrics.json").read_text())
    assert "sampling" not in metrics
    assert {row["name"] for row in metrics["results"]} == {"val_loss", "val_accuracy"}


def test_the_card_parses_and_its_python_runs(repo):
    card = ModelCard.load(repo / "README.md")

    data, image = card.data.to_dict(), pils(pixels(1))[0]
    assert data["pipeline_tag"] == "image-classification"
    assert {"genhub", "feature-classifier", "image-classification"} == set(data["tags"])
    assert {result.task_type for result in card.data.eval_results} == {"image-classification"}
    assert [words for words in ("samples.png", " samples", "diffusion") if words in card.text] == []
    assert "\nImages like those of the training set, and nothing else." in card.text
    blocks = [block.split("```")[0] for block in card.text.split("```python\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        names: dict = {"image": image}
        exec(block.replace("path/or/user/name", str(repo)), names)
        assert names["labels"].shape == (1,)
