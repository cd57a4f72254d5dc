"""Figures put known faults of real images in the order in which one sees them; all are given, once, and refused where
they would mean nothing."""

import pytest
import torch
from tiny import tiny_model

from genhub.data import DataConfig, load
from genhub.evaluation import generation as yardsticks
from genhub.evaluation.features import ClassifierSpace, PixelSpace
from genhub.evaluation.generation import Evaluator, pixels
from genhub.evaluation.metrics import Gaussian, frechet_distance, kernel_distance, neighbourhoods
from genhub.evaluation.references import rows

COUNT = 2000
FLOOR = "memoriser (real training images)"  # here of images that are not compared with: real ones, without a fault


@pytest.fixture(scope="module")
def sample():
    return load(DataConfig(source="sample", val_size=0), "train")


@pytest.fixture(scope="module")
def judged(sample):
    """Name of each row of 2,000 images -> its figures in `pix` against 7,500 other real images."""
    made, real = rows(sample[:2500], count=COUNT), sample.images[2500:]
    pix = PixelSpace(real)
    features = pix(real)
    moments, figures = Gaussian.fit(features), {}
    for name, images in made:
        fake = pix(images)
        figures[name] = {
            "FD": frechet_distance(moments, Gaussian.fit(fake)),
            "KID": kernel_distance(features, fake, 10, 1000)[0],
            **{figure: value for figure, (value, _) in vars(neighbourhoods(features[:COUNT], fake)).items()},
        }
    return figures


# ---- what figures say of faults that are known (protocol, sections 8.3 and 8.4)


def test_the_frechet_distance_puts_faults_in_order(judged):
    names = [
        FLOOR,
        "with noise, sd 10 / 255",
        "without a class (Bag)",
        "blurred, 3 x 3",
        "mirrored",
        "uniform noise",
        "black",
    ]

    distances = [judged[name]["FD"] for name in names]

    assert distances == sorted(distances)
    assert all(1.05 * nearer < farther for nearer, farther in zip(distances, distances[1:], strict=False))


def test_the_kernel_distance_notices_a_gaussian_of_the_right_moments_more_than_blur(judged):
    gaussian, blur = judged["pixel Gaussian"], judged["blurred, 3 x 3"]

    assert gaussian["KID"] > 4 * blur["KID"] > 4 * abs(judged[FLOOR]["KID"])
    assert gaussian["FD"] < 2 * blur["FD"]  # which the Fréchet distance does not


def test_a_class_that_is_missing_lowers_recall_and_coverage_not_precision(judged):
    missing, floor = judged["without a class (Bag)"], judged[FLOOR]

    assert missing["recall"] < floor["recall"] - 0.005
    assert missing["coverage"] < floor["coverage"] - 0.04
    assert missing["precision"] > floor["precision"] - 0.01


def test_blur_raises_precision_and_density_and_halves_recall(judged):
    blur, floor = judged["blurred, 3 x 3"], judged[FLOOR]

    assert blur["precision"] > floor["precision"] + 0.02
    assert blur["density"] > 1.5
    assert floor["density"] < 1.1
    assert 0.4 < blur["recall"] / floor["recall"] < 0.6


def test_what_is_no_image_covers_nothing_though_it_may_be_precise(judged):
    for name in ("uniform noise", "black"):
        assert judged[name]["recall"] == 0
        assert judged[name]["coverage"] < 0.01


def test_real_images_that_are_not_compared_with_are_alike_to_those_that_are(judged):
    floor = judged[FLOOR]

    assert [floor[name] for name in ("precision", "recall", "density", "coverage")] == pytest.approx([1] * 4, abs=0.1)


# ---- the yardstick, with a classifier that knows nothing


def space(name, seed):
    return ClassifierSpace(name, tiny_model("ImageClassifier", seed=seed, num_classes=10), f"untrained {seed}")


@pytest.fixture(scope="module")
def tiny_yardstick(sample):
    classifiers = [space("clf", 0), space("clf-1", 1)]
    return Evaluator(sample[:600], sample[1000:1300], classifiers, extra=[space("more", 2)])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(yardsticks, "SUBSETS", 5)
    monkeypatch.setattr(yardsticks, "SIZES", (50, 100, 150, 1000))


@pytest.fixture(scope="module")
def fresh(sample):
    """Real images that the yardstick does not have."""
    return sample[5000:5200]


def spaces_of(figures):
    return sorted((figure.name, figure.space) for figure in figures)


EVERYWHERE = ("KID x 1000", "precision", "recall", "density", "coverage")
EXPECTED = sorted(
    [
        *(("FD", name) for name in ("clf", "clf-1", "pix")),
        ("FD at infinite N", "clf"),
        ("FD to training images", "clf"),
        *((figure, name) for figure in EVERYWHERE for name in ("clf", "pix")),
        ("KID x 1000", "more"),
        ("class balance, KL to uniform in nats", "clf"),
        ("confidence", "clf"),
    ]
)


def test_every_figure_is_given_once_and_says_of_how_many_images_it_is(tiny_yardstick, fresh):
    figures = tiny_yardstick.judge(fresh.images)

    assert spaces_of(figures) == EXPECTED
    assert {figure.images for figure in figures} == {200}
    assert [figure.name for figure in figures if figure.spread is None] == []
    assert all((figure.spread is None) == (figure.spread_is == "") for figure in figures)


def test_label_fidelity_is_given_with_labels_only_and_is_the_share_of_those_the_classifier_agrees_with(
    tiny_yardstick, fresh
):
    clf = tiny_yardstick.clf
    predicted = clf.probabilities(clf(fresh.images)).argmax(1)
    asked = torch.where(torch.arange(200) < 150, predicted, (predicted + 1) % 10)

    figures = tiny_yardstick.judge(fresh.images, asked)

    assert spaces_of(figures) == sorted([*EXPECTED, ("label fidelity", "clf")])
    (fidelity,) = (figure for figure in figures if figure.name == "label fidelity")
    assert fidelity.value == 0.75
    assert fidelity.spread == pytest.approx((0.75 * 0.25 / 199) ** 0.5)


def test_figures_are_those_of_the_metrics(tiny_yardstick, fresh, sample):
    found = {(figure.name, figure.space): figure for figure in tiny_yardstick.judge(fresh.images)}

    pix = PixelSpace(sample.images[:600])
    real, fake = pix(sample.images[1000:1300]), pix(fresh.images)
    kid, kid_sd = kernel_distance(real, fake, 5, 1000)
    meeting = neighbourhoods(real, fake, 5)
    assert found["FD", "pix"].value == pytest.approx(frechet_distance(Gaussian.fit(real), Gaussian.fit(fake)))
    assert (found["KID x 1000", "pix"].value, found["KID x 1000", "pix"].spread) == pytest.approx(
        (1000 * kid, 1000 * kid_sd)
    )
    assert found["KID x 1000", "pix"].spread_is == "sd over 5 subsets of 100"
    for name, expected in vars(meeting).items():
        assert (found[name, "pix"].value, found[name, "pix"].spread) == pytest.approx(expected)


def test_figures_are_equal_on_repeated_calls_and_leave_other_randomness_alone(tiny_yardstick, fresh):
    state = torch.get_rng_state()

    first, again = (tiny_yardstick.judge(fresh.images, fresh.labels) for _ in range(2))

    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(first, again, strict=True):
        assert (one.name, one.space) == (other.name, other.space)
        assert other.value == pytest.approx(one.value, rel=1e-6, abs=1e-9)
        assert (other.spread or 0) == pytest.approx(one.spread or 0, rel=1e-6, abs=1e-9)


def test_the_real_images_themselves_are_at_distance_zero(tiny_yardstick, sample):
    found = {(figure.name, figure.space): figure.value for figure in tiny_yardstick.judge(sample.images[1000:1300])}

    for name in ("clf", "clf-1", "pix"):
        assert abs(found["FD", name]) < 1e-3
    for name in ("precision", "recall", "coverage"):
        assert found[name, "pix"] == 1


def test_a_few_images_have_a_distance_but_no_spread_and_no_line_to_infinity(tiny_yardstick, fresh, monkeypatch):
    monkeypatch.setattr(yardsticks, "SIZES", (70, 1000))

    figures = tiny_yardstick.judge(fresh.images[:100])

    distances = {figure.space: figure for figure in figures if figure.name == "FD"}
    assert [figure.name for figure in figures if figure.name.startswith("FD")].count("FD") == len(distances) == 3
    assert "FD at infinite N" not in [figure.name for figure in figures]
    assert distances["pix"].spread is None  # a half has 50 images, and there are 64 components
    assert distances["clf"].spread > 0


@pytest.mark.parametrize("count", [1, 64])
def test_too_few_images_are_refused_and_how_many_it_takes_is_said(count, tiny_yardstick, fresh):
    tiny_yardstick.check(65)

    for refuse in (lambda: tiny_yardstick.check(count), lambda: tiny_yardstick.judge(fresh.images[:count])):
        with pytest.raises(ValueError, match=f"`count` must be at least 65, .* of 64 features, got {count}"):
            refuse()


def test_too_few_test_images_are_refused(sample):
    with pytest.raises(ValueError, match="at least 65 images for the covariance of 64 features, got 64"):
        Evaluator(sample[:600], sample[1000:1064], [space("clf", 0)])


def test_only_pinned_weights_give_the_figure_its_name(sample, fresh):
    pinned = space("clf", 0)
    pinned.is_pinned = True

    figures = Evaluator(sample[:600], sample[1000:1300], [pinned]).judge(fresh.images)

    assert {figure.name for figure in figures if "FD" in figure.name} == {
        "FD-FM",
        "FD-FM to training images",
        "FD-FM at infinite N",
    }


def test_who_copies_is_suspect_in_both_views_and_every_copy_is_counted(tiny_yardstick, sample, fresh):
    copies = torch.cat([fresh.images, sample.images[30:60]])

    found = tiny_yardstick.memorisation(copies)

    assert found.keys() == {"pix", "clf"}
    assert [report.is_suspect for report in found.values()] == [True, True]
    assert found["pix"].duplicates == 30
    assert found["pix"].closest[0].tolist() == list(range(200, 216))
    assert found["pix"].closest[1].tolist() == list(range(30, 46))


def test_new_images_are_not_suspect_in_either_view(tiny_yardstick, sample):
    found = tiny_yardstick.memorisation(sample.images[6000:9000])

    assert [report.is_suspect for report in found.values()] == [False, False]
    assert found["pix"].duplicates == 0


def test_the_memoriser_is_at_the_floor_of_the_distance_yet_suspect(sample):
    """Protocol, section 8.7: what the distance alone cannot see."""
    train, test = sample[:6000], sample[6000:8000]
    yardstick = Evaluator(train, test, [space("clf", 0)])
    memoriser, new = train.images[:2000], sample.images[8000:]

    def distance(images):
        return frechet_distance(yardstick.moments["pix"], Gaussian.fit(yardstick.pix(images)))

    assert distance(memoriser) < 1.1 * distance(new)
    assert yardstick.memorisation(memoriser)["pix"].is_suspect
    assert not yardstick.memorisation(new)["pix"].is_suspect


def test_what_was_measured_of_real_images_is_found_again(sample, fresh):
    first, again = (Evaluator(sample[:600], sample[1000:1300], [space("clf", 0)]) for _ in range(2))

    reports = [yardstick.memorisation(fresh.images)["pix"] for yardstick in (first, again)]

    assert torch.equal(first.real["clf"], again.real["clf"])
    assert torch.equal(reports[0].distance, reports[1].distance)
    assert reports[0].test_copies == reports[1].test_copies


def test_pixels_are_rows_between_zero_and_one():
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).reshape(1, 1, 2, 2)

    assert pixels(images).tolist() == [pytest.approx([0, 0.2, 0.4, 1])]
