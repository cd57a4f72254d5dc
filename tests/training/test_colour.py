"""The recipes for CIFAR-10, on images of its size, colours and columns."""

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image

import genhub


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """A folder in the layout of uoft-cs/cifar10."""
    folder = tmp_path_factory.mktemp("cifar") / "plain_text"
    folder.mkdir()
    random = torch.Generator().manual_seed(0)
    for split, count in (("train", 60), ("test", 20)):
        pixels = torch.randint(256, (count, 32, 32, 3), generator=random, dtype=torch.uint8).numpy()
        columns = {"img": [*pixels], "label": [number % 10 for number in range(count)]}
        features = Features({"img": Image(), "label": ClassLabel(num_classes=10)})
        Dataset.from_dict(columns, features).to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    return folder.parent


@pytest.mark.parametrize("recipe", ["conv-ae-cifar10", "conv-vae-cifar10"])
def test_a_recipe_for_cifar_10_makes_colour_images(cifar, tmp_path, recipe):
    few = {"data.source": str(cifar), "data.val_size": 10, "training.max_steps": 2, "training.batch_size": 8}

    folder = genhub.train(recipe, tmp_path / "run", overrides=few | {"training.sample_every": 0})

    pipe = genhub.AutoPipeline.from_pretrained(folder)
    copies = pipe.reconstruct(torch.rand(2, 3, 32, 32), output_type="pt").images
    assert copies.shape == (2, 3, 32, 32)
    assert copies.std() > 0
