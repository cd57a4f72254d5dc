"""An autoencoder is judged on every split, and its codes by what can be read from them."""

import math

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from genhub.data import Images
from genhub.evaluation.reconstructions import can_probe, judge_reconstructions


class Darkening(DiffusionPipeline):
    """Gives images back darker, and has a code that is the mean of the upper and the lower half, and a dead one."""

    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def reconstruct(self, image, output_type):
        assert output_type == "pt"
        assert 0 <= image.min() <= image.max() <= 1
        return ImagePipelineOutput(images=image - self.by)

    def encode(self, image):
        halves = image.flatten(1).chunk(2, 1)
        return torch.stack([*(half.mean(1) for half in halves), torch.zeros(len(image))], 1)


class WithoutCodes(Darkening):
    encode = None


@pytest.fixture
def splits() -> dict[str, Images]:
    """Two classes of grey images: bright above, or bright below."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Images:
        labels = torch.arange(count) % 2
        pixels = torch.randint(100, 200, (count, 1, 4, 4), generator=generator)
        pixels[labels == 0, :, :2] += 50
        pixels[labels == 1, :, 2:] += 50
        return Images(pixels.to(torch.uint8), labels)

    return {"train": images(600), "val": images(50), "test": images(80)}


def test_each_split_has_its_error_and_the_codes_are_probed(splits):
    figures = {figure.name: figure for figure in judge_reconstructions(Darkening(0.1), splits)}

    for split, images in splits.items():
        assert figures[f"reconstruction MSE, {split}"].value == pytest.approx(0.01, rel=1e-4)
        assert figures[f"reconstruction PSNR in dB, {split}"].value == pytest.approx(20, abs=1e-3)
        assert figures[f"reconstruction MSE, {split}"].images == len(images)
    assert figures["units that vary"].value == 2
    assert figures["linear probe, all labels"].value == 1
    assert figures["linear probe, 500 labels"].value == pytest.approx(1, abs=0.01)
    assert math.isfinite(figures["linear probe, 500 labels"].spread)


def test_without_codes_or_labels_there_is_less_to_say(splits):
    without_labels = {split: Images(images.images) for split, images in splits.items()}

    names = [figure.name for figure in judge_reconstructions(WithoutCodes(0.1), splits)]
    unlabelled = [figure.name for figure in judge_reconstructions(Darkening(0.1), without_labels)]

    assert len(names) == 6
    pca = [f"MSE of PCA with 3 components, {split}" for split in splits]
    assert unlabelled == [*names, *pca, "units that vary"]


def test_units_vary_whatever_their_scale_and_are_active_beside_a_prior(splits):
    class Faint(Darkening):
        def encode(self, image):
            return 1e-3 * super().encode(image)

    faint = {figure.name: figure.value for figure in judge_reconstructions(Faint(0.1), splits)}
    beside_a_prior = judge_reconstructions(Faint(0.1), splits, has_posterior=True)

    assert faint["units that vary"] == 2
    assert {figure.name: figure.value for figure in beside_a_prior}["active units"] == 0


def test_a_model_of_binary_pixels_is_shown_such_and_the_figure_says_so(splits):
    figures = judge_reconstructions(Darkening(0.1), splits, binarise="threshold")
    found = {figure.name: figure.value for figure in figures}

    assert "reconstruction MSE, pixels above 1/2, test" in found
    assert found["reconstruction MSE, pixels above 1/2, test"] < 0.0101  # black stays black: it is clamped


def test_what_cannot_be_probed_is_left_out_before_any_work(splits):
    one_class = {split: Images(images.images, torch.zeros_like(images.labels)) for split, images in splits.items()}

    assert can_probe(splits["train"], splits["test"])
    assert not can_probe(one_class["train"], one_class["test"])
    assert not any("probe" in figure.name for figure in judge_reconstructions(Darkening(0.1), one_class))
