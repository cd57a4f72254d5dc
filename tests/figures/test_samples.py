"""Samples by class and from the prior."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import tiny_model

from genhub import AutoPipeline, CosineDDPMPipeline, CosineDDPMScheduler, data, figure, recipes
from genhub.commands.generate import generate
from genhub.evaluation.features import pinned_spaces
from genhub.figures.samples import first_of_each
from genhub.figures.subject import Subject
from genhub.repository.capabilities import capabilities_of
from genhub.utils.randomness import keyed_generator


def move_data(repo, folder, source):
    """Copies a repository to `folder`, and names another data set in its recipe."""
    repo = shutil.copytree(repo, folder)
    recipe = yaml.safe_load((repo / "recipe.yaml").read_text())
    recipe["data"]["source"] = source
    (repo / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return repo


def pictures(folder):
    return [np.asarray(Image.open(file)) for file in sorted(folder.iterdir())]


def test_rows_are_filled_in_order_and_no_more_is_sampled_than_needed():
    labels = [[0, 0, 1], [0, 2, 1], [1, 2, 2], [0, 0, 0]]
    taken = []

    def batches():
        for batch, classes in enumerate(labels):
            taken.append(batch)
            yield torch.arange(3).add(10 * batch).view(3, 1, 1, 1), torch.tensor(classes)

    rows, seen = first_of_each(batches(), 3, count=2)

    assert [row.flatten().tolist() for row in rows] == [[0, 1], [2, 12], [11, 21]]
    assert (seen, taken) == (9, [0, 1, 2])


def test_a_class_that_never_comes_stays_empty():
    batches = [(torch.ones(3, 1, 2, 2), torch.tensor([0, 2, 0]))] * 2

    rows, seen = first_of_each(batches, 3, count=5)

    assert [len(row) for row in rows] == [4, 0, 2]
    assert seen == 6


def test_ten_images_of_each_class_are_those_that_generate_makes(repos, tmp_path, drawing):
    repo = str(repos("conditional-vae"))
    generate(repo, count=100, seed=3, output=str(tmp_path / "g.png"), folder=str(tmp_path / "g"))

    figure("classes", repo, str(tmp_path / "x.png"), seed=3)

    drawn = drawing["image_rows"]
    assert drawn["names"][1:3] == ("Trouser", "Pullover")
    rows = [[(image[0] * 255).round().numpy() for image in row] for row in drawn["rows"]]
    for index, image in enumerate(pictures(tmp_path / "g")):  # generate asks for all classes in turn
        np.testing.assert_array_equal(rows[index % 10][index // 10], image)
    assert "10 samples of each class; seed 3, uncurated" in drawn["title"]


def test_classes_of_a_data_set_that_is_elsewhere_have_the_names_that_the_pipeline_knows(repos, tmp_path, drawing):
    repo = move_data(repos("conditional-vae"), tmp_path / "repo", "/somewhere/else")

    first = figure("classes", str(repo)).read_bytes()

    assert drawing["image_rows"]["names"][:2] == ("T - shirt / top", "Trouser")
    assert figure("classes", str(repo)).read_bytes() == first
    assert figure("classes", str(repo), seed=1).read_bytes() != first


def test_the_null_class_is_not_one_of_the_classes(tiny):
    network = tiny_model("UNet2DModel", num_class_embeds=11)
    pipeline = CosineDDPMPipeline(network, CosineDDPMScheduler(), num_classes=10)
    capabilities = capabilities_of(pipeline)
    here, elsewhere = (recipes.load("ddpm-quick", tiny | data) for data in ({}, {"data.source": "/somewhere/else"}))

    assert Subject(pipeline, capabilities, here).class_names[::9] == ("T - shirt / top", "Ankle boot")
    assert Subject(pipeline, capabilities, elsewhere).class_names == tuple("0123456789")
    pipeline.register_to_config(id2label={str(number): f"class {number}" for number in range(10)})
    assert Subject(pipeline, capabilities, elsewhere).class_names[::9] == ("class 0", "class 9")


def test_images_of_an_unconditional_model_are_sorted_by_the_classifier(tiny_repo, tmp_path, monkeypatch, drawing):
    repo = move_data(tiny_repo, tmp_path / "repo", "sample")
    real = data.load(data.DataConfig(source="sample"), "test")
    bags = real.images[real.labels == 8][:60]
    asked = []

    def sample(pipeline, count, seed, arguments, indices):
        asked.append((count, seed, arguments, list(indices)))
        return bags[:count] / 255

    monkeypatch.setattr("genhub.figures.samples.sample", sample)
    monkeypatch.setattr("genhub.figures.samples.MAX_SAMPLES", 100)

    picture = Image.open(figure("classes", str(repo), steps=2, seed=1))

    drawn = drawing["image_rows"]
    assert asked == [(50, 1, {"num_inference_steps": 2}, list(range(start, start + 50))) for start in (0, 50)]
    assert max(range(10), key=lambda label: len(drawn["rows"][label])) == 8
    assert drawn["names"][8] == "Bag"
    assert "out of 100 samples" in drawn["title"]
    space = next(pinned_spaces())
    classes = space.probabilities(space(bags[:50])).argmax(1)
    for label, row in enumerate(drawn["rows"]):  # the first ten, in the order of sampling
        assert torch.equal(row * 255, bags[:50][classes == label].repeat(2, 1, 1, 1)[:10].float())
    empty = next(label for label, row in enumerate(drawn["rows"]) if not len(row))
    height = 3 * 28 + 2
    top = picture.height - 12 - (10 - empty) * height + height // 2
    assert np.unique(np.asarray(picture)[top, -500:-12]).tolist() == [128]


def test_an_unconditional_model_of_other_images_has_no_classes(tiny_repo, tmp_path):
    with pytest.raises(
        ValueError, match="must be conditional or trained on Fashion MNIST, got an unconditional model"
    ):
        figure("classes", str(tiny_repo), str(tmp_path / "classes.png"))

    assert not list(tmp_path.iterdir())


def test_steps_of_a_model_without_steps_are_refused(repos, tmp_path):
    with pytest.raises(ValueError, match="`steps` must be unset: GANPipeline does not take it"):
        figure("classes", str(repos("gan")), str(tmp_path / "x.png"), steps=3)


@pytest.mark.parametrize("recipe", ["vae", "gan"])
def test_a_sample_is_the_image_that_generate_makes_of_the_seed(recipe, repos, tmp_path, drawing):
    repo = str(repos(recipe))
    generate(repo, count=9, seed=5, output=str(tmp_path / "g.png"), folder=str(tmp_path / "g"))

    figure("prior-samples", repo, str(tmp_path / "x.png"), seed=5, count=9)

    drawn = drawing["image_rows"]
    assert [len(row) for row in drawn["rows"]] == [7, 2]
    assert drawn["names"] == ["0 to 6", "7 to 8"]
    assert "seed 5" in drawn["title"]
    for image, expected in zip(torch.cat(list(drawn["rows"])), pictures(tmp_path / "g"), strict=True):
        np.testing.assert_array_equal((image[0] * 255).round(), expected)


def test_21_samples_stand_in_three_rows(repos, tmp_path, drawing):
    figure("prior-samples", str(repos("vae")), str(tmp_path / "x.png"))

    assert [len(row) for row in drawing["image_rows"]["rows"]] == [7, 7, 7]


def test_samples_of_classes_share_their_latents(repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos("conditional-vae"))

    figure("prior-samples", str(repos("conditional-vae")), str(tmp_path / "x.png"), count=2)

    drawn = drawing["image_rows"]
    assert (len(drawn["rows"]), drawn["names"][8]) == (10, "Bag")
    latents = torch.cat([torch.randn(1, 10, generator=keyed_generator("image", 0, index)) for index in (0, 1)])
    for label, row in enumerate(drawn["rows"]):
        torch.testing.assert_close(row, pipeline.decode(latents, label, output_type="pt").images)


def test_without_labels_all_classes_are_made_in_turn_and_without_a_count_one_image_of_each_label(repos, tmp_path):
    repo, labels = str(repos("conditional-dcgan")), [index % 10 for index in range(12)]

    in_turn = generate(repo, count=12, output=str(tmp_path / "in_turn.png"))
    labelled = generate(repo, class_labels=labels, output=str(tmp_path / "labelled.png"))

    assert labelled.read_bytes() == in_turn.read_bytes()
