"""Classes have names wherever they have numbers: in calls, in what is saved, and in what is trained."""

import pytest
import torch
from PIL import Image
from tiny import tiny_model

import genhub
from genhub.pipelines.pipeline_cosine_ddpm import CosineDDPMPipeline
from genhub.pipelines.pipeline_gan import GANPipeline
from genhub.pipelines.pipeline_vae import VAEPipeline

NAMES = {0: "T-shirt/top", 1: "Sandal", 2: "Bag"}


def ddpm(**arguments):
    scheduler = genhub.CosineDDPMScheduler(prediction_type="v_prediction")
    return CosineDDPMPipeline(tiny_model("LeanUNet2DModel", num_class_embeds=3), scheduler, 2, **arguments)


MAKE = {
    "GAN": lambda **given: GANPipeline(tiny_model("DCGANGenerator", num_class_embeds=3), **given),
    "VAE": lambda **given: VAEPipeline(tiny_model("DenseVAE", num_class_embeds=3), **given),
    "DDPM": ddpm,
}
conditional = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def sample(pipe, labels):
    return pipe(class_labels=labels, generator=torch.Generator().manual_seed(0), output_type="pt").images


@conditional
def test_a_name_means_its_number(make):
    pipe = make(id2label=NAMES)
    pipe.set_progress_bar_config(disable=True)

    for names, numbers in (("Bag", 2), (["Sandal", "Bag", "Sandal"], [1, 2, 1])):
        assert torch.equal(sample(pipe, names), sample(pipe, numbers))
    assert pipe.get_label_ids(["Bag", "T-shirt/top"]) == [2, 0]


@conditional
def test_a_misspelt_name_is_answered_with_the_nearest(make):
    with pytest.raises(ValueError, match="names of `id2label`, got 'Sandle'; did you mean Sandal"):
        sample(make(id2label=NAMES), ["Bag", "Sandle"])
    with pytest.raises(ValueError, match="`class_labels` must be numbers.*the classes have no names, got"):
        sample(make(), "Bag")
    with pytest.raises(ValueError, match=r"`id2label` must name the classes 0\.\.2, got"):
        make(id2label={0: "T-shirt/top", 1: "Sandal"})


@conditional
def test_names_are_saved_and_named_in_the_index_as_diffusers_does(make, tmp_path):
    genhub.save_repo(make(id2label=NAMES), tmp_path)

    loaded = genhub.AutoPipeline.from_pretrained(tmp_path)

    assert loaded.config["id2label"] == {str(number): name for number, name in NAMES.items()}
    assert loaded.get_label_ids("Bag") == [2]


def test_a_classifier_tells_the_names_of_its_classes():
    network = tiny_model("ImageClassifier")
    names = {number: f"class {number}" for number in range(network.config["num_classes"])}
    image = Image.new("L", (16, 16), 100)

    found = genhub.ImageClassificationPipeline(network, id2label=names)(image)

    assert found.names == [names[found.labels.item()]]
    assert genhub.ImageClassificationPipeline(network)(image).names is None
    with pytest.raises(ValueError, match="`id2label` must name the classes"):
        genhub.ImageClassificationPipeline(network, id2label={0: "a"})
