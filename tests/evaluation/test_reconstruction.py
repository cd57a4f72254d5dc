"""Errors of reconstructions, what can be read from codes, and the evaluation of a pipeline by both."""

import math
import statistics
import sys

import pytest
import sklearn.linear_model
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from sklearn.decomposition import PCA
from torch.testing import assert_close

from genhub.data import Images
from genhub.evaluation import features
from genhub.evaluation.likelihood import binarise_pixels
from genhub.evaluation.reconstruction import (
    active_units,
    can_probe,
    evaluate_reconstructions,
    linear_probe,
    pca_error,
    reconstruction_error,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(*shape, seed=0):
    return torch.randint(256, shape, generator=seeded(seed), dtype=torch.uint8)


IMAGES = random_images(12, 1, 2, 2)


# ---- errors


@pytest.mark.parametrize(("error", "psnr"), [(0.1, 20.0), (-0.01, 40.0)])
def test_a_constant_error_of_a_tenth_is_20_decibels(error, psnr):
    images = random_images(4, 3, 5, 5).clamp(30, 220)

    found = reconstruction_error(lambda sample: sample + 2 * error, images)

    assert_close(found.mse, (error**2, 0.0), rtol=1e-4, atol=1e-7)
    assert_close(found.psnr, psnr, rtol=1e-5, atol=0)


def test_errors_are_averaged_before_they_are_turned_into_decibels():
    images = torch.full((2, 1, 2, 2), 128, dtype=torch.uint8)

    found = reconstruction_error(lambda sample: sample + torch.tensor([0.0, 0.4])[:, None, None, None], images)

    assert_close(found.mse, (0.02, 0.02), rtol=1e-5, atol=0)  # 0 and 0.04: sd 0.04 / sqrt(2), over sqrt(2)
    assert_close(found.psnr, 10 * math.log10(50), rtol=1e-5, atol=0)


def test_what_lies_outside_the_range_is_clamped():
    images = binarise_pixels(random_images(3, 1, 4, 4), "random")

    found = reconstruction_error(lambda sample: 3 * sample, images)

    assert (found.mse, found.psnr) == ((0, 0), math.inf)


def test_black_for_white_is_the_largest_error():
    images = binarise_pixels(random_images(3, 1, 4, 4), "random")

    assert reconstruction_error(lambda sample: -sample, images).mse == (1, 0)


# ---- codes


def test_active_units_are_those_whose_mean_moves_with_the_image():
    scale = torch.tensor([0.0, 0.05, 0.099, 0.101, 1.0, 7.0])
    signs = torch.tensor([1.0, -1.0]).repeat(500)[:, None]  # variance 1000 / 999
    means = (signs * scale + 5).reshape(1000, 2, 1, 3)

    assert active_units(means) == 3
    assert active_units(means, threshold=2) == 1
    assert active_units(torch.ones(10, 4)) == 0


def codes_of(labels, distance, seed=0):
    """(N, 3, 1, 1): the second dimension tells the class as well as `distance` allows, the last one is dead."""
    codes = torch.randn(len(labels), 3, 1, 1, generator=seeded(seed))
    codes[:, 1] += distance * labels[:, None, None]
    codes[:, 2] = 4
    return codes


LABELS = torch.arange(600) % 3


def test_a_probe_names_every_class_of_codes_that_lie_apart():
    train, test = codes_of(LABELS, 50), codes_of(LABELS, 50, seed=1)

    assert linear_probe(train, LABELS, test, LABELS)[0] == 1
    assert linear_probe(train, LABELS, test, LABELS, labelled=30) == (1, 0)


def test_a_probe_of_noise_guesses():
    accuracy, sd = linear_probe(codes_of(LABELS, 0), LABELS, codes_of(LABELS, 0, seed=1), LABELS)

    assert abs(accuracy - 1 / 3) < 4 * (2 / 9 / 600) ** 0.5
    assert math.isnan(sd)


def test_a_probe_does_not_see_the_scale_of_a_dimension():
    scale = torch.tensor([1e-3, 1e4, 7.0])[:, None, None]
    train, test = codes_of(LABELS, 1), codes_of(LABELS, 1, seed=1)

    plain = linear_probe(train, LABELS, test, LABELS)
    scaled = linear_probe(train * scale - 3, LABELS, test * scale - 3, LABELS)

    assert 0.4 < plain[0] < 0.9
    assert_close(scaled[0], plain[0], rtol=0, atol=2 / 600)


def test_few_labels_give_mean_and_sample_sd_over_consecutive_seeds():
    data = codes_of(LABELS, 1), LABELS, codes_of(LABELS, 1, seed=1), LABELS

    mean, sd = linear_probe(*data, labelled=15, draws=4, seed=3)

    pairs = [linear_probe(*data, labelled=15, draws=2, seed=seed) for seed in (3, 5)]
    single = [m + sign * s / 2**0.5 for m, s in pairs for sign in (1, -1)]  # sample sd of two: |a - b| / sqrt(2)
    assert sd > 0
    assert_close(mean, statistics.mean(single))
    assert_close(sd, statistics.stdev(single))


def test_few_labels_are_as_many_of_each_class_and_others_in_each_draw(monkeypatch):
    seen = []

    class Recorder(sklearn.linear_model.LogisticRegression):
        def fit(self, x, y):
            seen.append((x, torch.as_tensor(y)))
            return super().fit(x, y)

    monkeypatch.setattr(sklearn.linear_model, "LogisticRegression", Recorder)
    labels = torch.tensor([7] * 100 + [2] * 20)[torch.randperm(120, generator=seeded())]
    codes = codes_of(labels, 1)

    linear_probe(codes, labels, codes, labels, labelled=20, draws=3)

    assert [(y == 7).sum().item() for _, y in seen] == [10, 10, 10]
    assert [(y == 2).sum().item() for _, y in seen] == [10, 10, 10]
    assert len({x.tobytes() for x, _ in seen}) == 3


def test_drawing_every_label_is_using_all_labels():
    data = codes_of(LABELS, 1), LABELS, codes_of(LABELS, 1, seed=1), LABELS

    mean, sd = linear_probe(*data, labelled=600, draws=2)

    assert_close((mean, sd), (linear_probe(*data)[0], 0.0), rtol=0, atol=2 / 600)


def test_a_probe_without_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)

    with pytest.raises(ImportError, match=r'pip install -e "\.\[eval\]"'):
        linear_probe(codes_of(LABELS, 1), LABELS, codes_of(LABELS, 1), LABELS)


def test_what_is_no_picture_is_not_clamped():
    points = torch.tensor([[-1.0, 2.0], [3.0, 0.5]])[:, None, None]

    assert reconstruction_error(lambda sample: sample, points, is_picture=False).mse[0] == 0


# ---- a pipeline


class Darkening(DiffusionPipeline):
    """Gives images back darker, and has a code that is the mean of the upper and the lower half, and a dead one."""

    tasks = ("reconstruct", "encode")
    inputs = ("image",)

    def __init__(self, by: float = 0.1):
        super().__init__()
        self.register_to_config(by=by)

    def reconstruct(self, image, output_type):
        assert output_type == "pt"
        assert 0 <= image.min() <= image.max() <= 1
        return ImagePipelineOutput(images=image - self.config.by)

    def encode(self, image):
        halves = image.flatten(1).chunk(2, 1)
        return torch.stack([*(half.mean(1) for half in halves), torch.zeros(len(image))], 1)


class WithoutCodes(Darkening):
    tasks = ("reconstruct",)


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
    told = []

    metrics = {metric.name: metric for metric in evaluate_reconstructions(Darkening(0.1), splits, told.append)}

    probes = ["linear probe, all labels", "linear probe, 500 labels"]
    assert told == [*(f"reconstructions, {split}" for split in splits), "codes", *probes]
    for split, images in splits.items():
        assert metrics[f"reconstruction MSE, {split}"].value == pytest.approx(0.01, rel=1e-4)
        assert metrics[f"reconstruction PSNR in dB, {split}"].value == pytest.approx(20, abs=1e-3)
        assert metrics[f"reconstruction MSE, {split}"].images == len(images)
    assert metrics["units that vary"].value == 2
    assert metrics["linear probe, all labels"].value == 1
    assert metrics["linear probe, 500 labels"].value == pytest.approx(1, abs=0.01)
    assert math.isfinite(metrics["linear probe, 500 labels"].spread)


def test_without_codes_or_labels_there_is_less_to_say(splits):
    without_labels = {split: Images(images.images) for split, images in splits.items()}

    names = [metric.name for metric in evaluate_reconstructions(WithoutCodes(0.1), splits)]
    unlabelled = [metric.name for metric in evaluate_reconstructions(Darkening(0.1), without_labels)]

    assert len(names) == 6
    pca = [f"MSE of PCA with 3 components, {split}" for split in splits]
    assert unlabelled == [*names, *pca, "units that vary"]


def test_units_vary_whatever_their_scale_and_are_active_beside_a_prior(splits):
    class Faint(Darkening):
        def encode(self, image):
            return 1e-3 * super().encode(image)

    faint = {metric.name: metric.value for metric in evaluate_reconstructions(Faint(0.1), splits)}
    beside_a_prior = evaluate_reconstructions(Faint(0.1), splits, has_posterior=True)

    assert faint["units that vary"] == 2
    assert {metric.name: metric.value for metric in beside_a_prior}["active units"] == 0


def test_a_model_of_binary_pixels_is_shown_such_and_the_metric_says_so(splits):
    metrics = evaluate_reconstructions(Darkening(0.1), splits, binarise="threshold")
    found = {metric.name: metric.value for metric in metrics}

    assert "reconstruction MSE, pixels above 1/2, test" in found
    assert found["reconstruction MSE, pixels above 1/2, test"] < 0.0101  # black stays black: it is clamped


def test_what_cannot_be_probed_is_left_out_before_any_work(splits):
    one_class = {split: Images(images.images, torch.zeros_like(images.labels)) for split, images in splits.items()}

    assert can_probe(splits["train"], splits["test"])
    assert not can_probe(one_class["train"], one_class["test"])
    assert not any("probe" in metric.name for metric in evaluate_reconstructions(Darkening(0.1), one_class))


@pytest.mark.parametrize(("components", "exact"), [(1, 16), (5, 16), (1, 0)])
def test_the_error_of_pca_is_that_of_scikit_learn(components, exact, splits, monkeypatch):
    monkeypatch.setattr(features, "EXACT", exact)  # dimensions: of 16, or else by random projections
    train, test = (splits[split].images.flatten(1).double().numpy() / 255 for split in ("train", "test"))
    pca = PCA(components).fit(train)

    found = pca_error(splits["train"].images, splits["test"].images, components)

    expected = ((pca.inverse_transform(pca.transform(test)) - test) ** 2).mean()
    assert found == pytest.approx(expected, rel=1e-5)


# ---- mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reconstruction_error(lambda s: s, IMAGES / 255), "`images` must be uint8"),
        (lambda: reconstruction_error(lambda s: s, IMAGES, batch_size=0), "`batch_size` must be at least 1"),
        (
            lambda: reconstruction_error(lambda s: s[:, :, :1], IMAGES),
            "`reconstruct` must give \\(12, 1, 2, 2\\), got",
        ),
        (
            lambda: reconstruction_error(lambda s: s * math.inf, IMAGES),
            "`reconstruct` must be finite, got nan or inf in 48",
        ),
        (lambda: active_units(torch.zeros(5)), "`means` must be \\(N, ...\\)"),
        (lambda: active_units(torch.zeros(1, 5)), "`means` must .* at least 2, got \\(1, 5\\)"),
        (lambda: active_units(torch.tensor([[0.0], [math.nan]])), "`means` must be finite"),
        (lambda: active_units(torch.zeros(2, 5), -1), "`threshold` must be at least 0, got -1"),
    ],
)
def test_a_reconstruction_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": torch.zeros(600)}, "`codes` must be \\(N, ...\\)"),
        ({"codes": torch.full((600, 3, 1, 1), math.nan)}, "`codes` must be finite"),
        ({"test_codes": torch.zeros(600, 2)}, "`test_codes` must be .* the same in train and test, got \\(600, 2\\)"),
        ({"labels": LABELS[:5]}, "`labels` must be integers \\(600,\\), got torch.int64 \\(5,\\)"),
        ({"test_labels": LABELS.float()}, "`test_labels` must be integers"),
        ({"labels": LABELS * 0, "test_labels": LABELS * 0}, "`labels` must be of 2 classes or more"),
        ({"test_labels": LABELS + 1}, "`labels` must be .* those of `test_labels` too, got \\[0, 1, 2\\]"),
        ({"labelled": 31}, "`labelled` must be a multiple of 3 in 1..600, got 31"),
        ({"labelled": 0}, "`labelled` must be a multiple of 3 in 1..600, got 0"),
        ({"labelled": 603}, "`labelled` must be a multiple of 3 in 1..600, got 603"),
        ({"labelled": 30, "draws": 1}, "`draws` must be at least 2, got 1"),
    ],
)
def test_a_probe_refuses(change, message):
    codes = codes_of(LABELS, 1)
    arguments = {"codes": codes, "labels": LABELS, "test_codes": codes, "test_labels": LABELS} | change

    with pytest.raises(ValueError, match=message):
        linear_probe(**arguments)
