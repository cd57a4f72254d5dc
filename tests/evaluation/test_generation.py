"""Metrics put known faults of real images in the order in which one sees them; each is reported once, and refused if
it would mean nothing."""

import functools
import json
from pathlib import Path

import pytest
import torch
from quick import quick_metrics
from tiny import tiny_model

from genhub.data import DataConfig, load
from genhub.evaluation.features import ClassifierSpace, PixelSpace, pinned_spaces
from genhub.evaluation.generation import Evaluator, pixels
from genhub.evaluation.generation_metrics import METRICS, GenerationMetric
from genhub.evaluation.metrics import Gaussian, frechet_distance, kernel_distance, neighbourhoods
from genhub.evaluation.references import rows

COUNT = 1500
FLOOR = "memoriser (real training images)"  # here of images that are not compared with: real ones, without a fault


@pytest.fixture(scope="module")
def sample():
    return load(DataConfig(source="sample", val_size=0), "train")


class Faults:
    """The reference rows of 1,500 images, compared in `pix` with 5,000 other real images."""

    def __init__(self, sample):
        self.rows, real = dict(rows(sample[:2500], count=COUNT)), sample.images[2500:7500]
        self.pix = PixelSpace(real)
        self.features = self.pix(real)
        self.moments = Gaussian.fit(self.features)

    @functools.cache  # noqa: B019
    def shares(self, name):
        found = neighbourhoods(self.features[:COUNT], self.pix(self.rows[name]))
        return {key: value for key, (value, _) in vars(found).items()}

    def fd(self, name):
        return frechet_distance(self.moments, Gaussian.fit(self.pix(self.rows[name])))

    def kid(self, name):
        return kernel_distance(self.features, self.pix(self.rows[name]), 10, 1000)[0]


@pytest.fixture(scope="module")
def faults(sample):
    return Faults(sample)


# ---- metrics of known faults (protocol, sections 8.3 and 8.4)


def test_the_frechet_distance_puts_faults_in_order(faults):
    names = [
        FLOOR,
        "with noise, sd 10 / 255",
        "without a class (Bag)",
        "blurred, 3 x 3",
        "mirrored",
        "uniform noise",
        "black",
    ]

    distances = [faults.fd(name) for name in names]

    assert distances == sorted(distances)
    assert all(1.05 * nearer < farther for nearer, farther in zip(distances, distances[1:], strict=False))


def test_the_kernel_distance_notices_a_gaussian_of_the_right_moments_more_than_blur(faults):
    gaussian, blur = "pixel Gaussian", "blurred, 3 x 3"

    assert faults.kid(gaussian) > 4 * faults.kid(blur) > 4 * abs(faults.kid(FLOOR))
    assert faults.fd(gaussian) < 2 * faults.fd(blur)  # which the Fréchet distance does not


def test_a_class_that_is_missing_lowers_recall_and_coverage_not_precision(faults):
    missing, floor = faults.shares("without a class (Bag)"), faults.shares(FLOOR)

    assert missing["recall"] < floor["recall"] - 0.005
    assert missing["coverage"] < floor["coverage"] - 0.04
    assert missing["precision"] > floor["precision"] - 0.01


def test_blur_raises_precision_and_density_and_halves_recall(faults):
    blur, floor = faults.shares("blurred, 3 x 3"), faults.shares(FLOOR)

    assert blur["precision"] > floor["precision"] + 0.02
    assert blur["density"] > 1.5
    assert floor["density"] < 1.1
    assert 0.4 < blur["recall"] / floor["recall"] < 0.6


def test_what_is_no_image_covers_nothing_though_it_may_be_precise(faults):
    for name in ("uniform noise", "black"):
        assert faults.shares(name)["recall"] == 0
        assert faults.shares(name)["coverage"] < 0.01


def test_real_images_that_are_not_compared_with_are_alike_to_those_that_are(faults):
    assert list(faults.shares(FLOOR).values()) == pytest.approx([1] * 4, abs=0.1)


# ---- the evaluator, with classifiers that know nothing


def names(*spaces: str, has_labels: bool = False) -> list[tuple[str, str]]:
    """Name and space of each number, in order, if there are enough images."""
    return [
        (name, space)
        for metric in METRICS
        if has_labels or not metric.needs_labels
        for space in metric.spaces
        if space in spaces
        for name in metric.names
    ]


def space(name, seed):
    return ClassifierSpace(name, tiny_model("ImageClassifier", seed=seed, num_classes=10), f"untrained {seed}")


def make_evaluator(sample, *spaces, sizes=(50, 100, 150, 1000)):
    return Evaluator(sample[:600], sample[1000:1300], spaces or [space("clf", 0)], metrics=quick_metrics(*sizes))


@pytest.fixture(scope="module")
def evaluator(sample):
    return make_evaluator(sample, space("clf", 0), space("clf-1", 1))


@pytest.fixture(scope="module")
def fresh(sample):
    """Real images that the evaluator does not have."""
    return sample[5000:5200]


@pytest.fixture(scope="module")
def results(evaluator, fresh):
    return evaluator.evaluate(fresh.images)


def test_every_metric_is_reported_once_and_in_order_and_says_of_how_many_images_it_is(results):
    assert [(metric.name, metric.space) for metric in results] == names("clf", "clf-1", "pix")
    assert {metric.images for metric in results} == {200}
    assert [metric.name for metric in results if metric.spread is None] == []
    assert all((metric.spread is None) == (metric.spread_is == "") for metric in results)


@pytest.mark.parametrize("repo", ["dcgan", "conditional-dcgan"])
def test_names_and_order_are_those_of_published_evaluations(repo):
    folder = Path(__file__).parents[2] / "model_cards" / repo
    evaluation = json.loads((folder / "metrics.json").read_text())["evaluations"][-1]
    published = [(metric["name"], metric["space"]) for metric in evaluation["figures"] if metric["space"]]

    newer = {"MIND"} - {name for name, _ in published}  # than these evaluations
    found = names(*(space.name for space in pinned_spaces()), "pix", has_labels=repo.startswith("conditional"))

    assert [(name.replace("FD", "FD-FM"), space) for name, space in found if name not in newer] == published


def test_label_fidelity_is_reported_with_labels_only_and_is_the_share_that_the_classifier_agrees_with(
    evaluator, fresh
):
    clf = evaluator.clf
    predicted = clf.probabilities(clf(fresh.images)).argmax(1)
    wanted = torch.where(torch.arange(200) < 150, predicted, (predicted + 1) % 10)

    results = evaluator.evaluate(fresh.images, wanted)

    assert [(m.name, m.space) for m in results] == names("clf", "clf-1", "pix", has_labels=True)
    (fidelity,) = (metric for metric in results if metric.name == "label fidelity")
    assert fidelity.value == 0.75
    assert fidelity.spread == pytest.approx((0.75 * 0.25 / 199) ** 0.5)


def test_results_are_those_of_the_functions(results, fresh, sample):
    found = {(metric.name, metric.space): metric for metric in results}

    pix = PixelSpace(sample.images[:600])
    real, fake = pix(sample.images[1000:1300]), pix(fresh.images)
    kid, kid_sd = kernel_distance(real, fake, 5, 1000)
    shares = neighbourhoods(real, fake, 5)
    assert found["FD", "pix"].value == pytest.approx(frechet_distance(Gaussian.fit(real), Gaussian.fit(fake)))
    assert (found["KID x 1000", "pix"].value, found["KID x 1000", "pix"].spread) == pytest.approx(
        (1000 * kid, 1000 * kid_sd)
    )
    assert found["KID x 1000", "pix"].spread_is == "sd over 5 subsets of 100"
    for name, expected in vars(shares).items():
        assert (found[name, "pix"].value, found[name, "pix"].spread) == pytest.approx(expected)


def test_results_are_equal_on_repeated_calls_and_leave_other_randomness_alone(evaluator, results, fresh):
    state = torch.get_rng_state()

    again = evaluator.evaluate(fresh.images)

    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(results, again, strict=True):
        assert (one.name, one.space) == (other.name, other.space)
        assert other.value == pytest.approx(one.value, rel=1e-6, abs=1e-9)
        assert (other.spread or 0) == pytest.approx(one.spread or 0, rel=1e-6, abs=1e-9)


class MeanComponent(GenerationMetric):
    """A metric of one's own."""

    names, spaces = ("mean component",), ("pix",)

    def __call__(self, comparison):
        yield comparison.metric("mean component", comparison.fake.mean().item())


def test_a_metric_is_one_class_and_one_entry(sample, fresh):
    evaluator = Evaluator(sample[:600], sample[1000:1300], [space("clf", 0)], metrics=(MeanComponent(),))

    (metric,) = evaluator.evaluate(fresh.images)

    assert (metric.name, metric.space, metric.spread, metric.spread_is, metric.images) == (
        "mean component",
        "pix",
        None,
        "",
        200,
    )
    assert metric.value == PixelSpace(sample.images[:600])(fresh.images).mean().item()


def test_each_step_of_an_evaluation_is_told_before_it_is_measured(sample, fresh):
    told = []
    evaluator = Evaluator(sample[:600], sample[1000:1300], [space("clf", 0)], told.append, metrics=(MeanComponent(),))

    evaluator.evaluate(fresh.images)
    evaluator.memorisation(fresh.images)
    evaluator.reconstruction_distance(fresh.images)

    generated = ["features of the generated images", "mean component (pix)"]
    assert told == [
        "features of the real images",
        *generated,
        "nearest training images",
        "distance of reconstructions",
    ]


def test_the_real_images_themselves_are_at_distance_zero(evaluator, sample):
    found = {(metric.name, metric.space): metric.value for metric in evaluator.evaluate(sample.images[1000:1300])}

    for name in ("clf", "clf-1", "pix"):
        assert abs(found["FD", name]) < 1e-3
    for name in ("precision", "recall", "coverage"):
        assert found[name, "pix"] == 1


def test_a_few_images_have_a_distance_but_no_spread_and_no_line_to_infinity(sample, fresh):
    evaluator = make_evaluator(sample, space("clf", 0), space("clf-1", 1), sizes=(70, 1000))

    results = evaluator.evaluate(fresh.images[:100])

    distances = {metric.space: metric for metric in results if metric.name == "FD"}
    assert [metric.name for metric in results].count("FD") == len(distances) == 3
    assert "FD at infinite N" not in [metric.name for metric in results]
    assert distances["pix"].spread is None  # a half has 50 images, and there are 64 components
    assert distances["clf"].spread > 0


@pytest.mark.parametrize("count", [1, 64])
def test_too_few_images_are_refused_and_how_many_it_takes_is_said(count, evaluator, fresh):
    evaluator.check(65)

    for refuse in (lambda: evaluator.check(count), lambda: evaluator.evaluate(fresh.images[:count])):
        with pytest.raises(ValueError, match=f"`count` must be at least 65, .* of 64 features, got {count}"):
            refuse()


def test_too_few_test_images_are_refused(sample):
    with pytest.raises(ValueError, match="at least 65 images for the covariance of 64 features, got 64"):
        Evaluator(sample[:600], sample[1000:1064], [space("clf", 0)])


def test_only_pinned_weights_give_the_distance_its_name(sample, fresh):
    pinned = space("clf", 0)
    pinned.is_pinned = True

    results = make_evaluator(sample, pinned).evaluate(fresh.images)

    assert {metric.name for metric in results if "FD" in metric.name} == {
        "FD-FM",
        "FD-FM to training images",
        "FD-FM at infinite N",
    }


def test_who_copies_is_suspect_in_both_views_and_every_copy_is_counted(evaluator, sample, fresh):
    copies = torch.cat([fresh.images, sample.images[30:60]])

    found = evaluator.memorisation(copies)

    assert found.keys() == {"pix", "clf"}
    assert [report.is_suspect for report in found.values()] == [True, True]
    assert found["pix"].duplicates == 30
    assert found["pix"].closest[0].tolist() == list(range(200, 216))
    assert found["pix"].closest[1].tolist() == list(range(30, 46))


def test_new_images_are_not_suspect_in_either_view(evaluator, sample):
    found = evaluator.memorisation(sample.images[6000:8000])

    assert [report.is_suspect for report in found.values()] == [False, False]
    assert found["pix"].duplicates == 0


def test_the_memoriser_is_at_the_floor_of_the_distance_yet_suspect(sample):
    """Protocol, section 8.7: what the distance alone cannot see."""
    train, test = sample[:4000], sample[4000:5000]
    evaluator = Evaluator(train, test, [space("clf", 0)])
    memoriser, new = train.images[:1000], sample.images[6000:7000]

    def distance(images):
        return frechet_distance(evaluator.moments["pix"], Gaussian.fit(evaluator.pix(images)))

    assert distance(memoriser) < 1.1 * distance(new)
    assert evaluator.memorisation(memoriser)["pix"].is_suspect
    assert not evaluator.memorisation(new)["pix"].is_suspect


def test_what_was_measured_of_real_images_is_found_again(sample, fresh):
    first, again = make_evaluator(sample), make_evaluator(sample)

    reports = [evaluator.memorisation(fresh.images)["pix"] for evaluator in (first, again)]

    assert torch.equal(first.real["clf"], again.real["clf"])
    assert torch.equal(reports[0].distance, reports[1].distance)
    assert reports[0].test_copies == reports[1].test_copies


def test_pixels_are_rows_between_zero_and_one():
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).reshape(1, 1, 2, 2)

    assert pixels(images).tolist() == [pytest.approx([0, 0.2, 0.4, 1])]
