"""Networks as they are traced."""

import pytest
import torch

from genhub import AutoPipeline, figure
from genhub.figures.network import MAX_BLOCKS, Recorder, blocks_of


def parameters(blocks) -> int:
    """The parameters that the notes of blocks tell."""
    total = 0
    for block in blocks:
        count, _, each = block.note.partition(" parameters")
        times = int(block.label.split(" x ")[0]) if each else 1
        total += times * int(count.replace(",", "")) if count[:1].isdigit() else 0
    return total


@pytest.mark.parametrize(
    "recipe", ["stacked-ae", "tied-ae", "conv-ae", "recurrent-ae", "vae", "conditional-vae", "dcgan", "ddpm-quick"]
)
def test_the_blocks_have_all_parameters_once_and_are_few(recipe, repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos(recipe))
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}

    figure("network", str(repos(recipe)), str(tmp_path / "x.png"))

    columns = {name.partition(":")[0]: blocks for name, blocks in drawing["diagram"]["columns"].items()}
    assert columns.keys() == networks.keys() | ({"discriminator"} if recipe == "dcgan" else set())
    for name, part in networks.items():
        assert parameters(columns[name]) == sum(parameter.numel() for parameter in part.parameters())
    assert max(map(len, columns.values())) <= MAX_BLOCKS + 1


def test_a_stacked_autoencoder_is_the_sandwich_of_the_book(repos, tmp_path, drawing):
    figure("network", str(repos("stacked-ae")), str(tmp_path / "x.png"))

    (blocks,) = drawing["diagram"]["columns"].values()
    assert [block.shape for block in blocks] == [(784,), (100,), (30,), (100,), (784,)]
    assert [block.label for block in blocks] == ["input", "Linear, ReLU", "Linear, ReLU", "Linear, ReLU", "Linear"]
    assert [block.note.split()[0] for block in blocks[1:]] == ["78,500", "3,030", "3,100", "79,184"]


def test_a_tied_matrix_is_counted_once(repos, tmp_path, drawing):
    figure("network", str(repos("tied-ae")), str(tmp_path / "x.png"))

    (blocks,) = drawing["diagram"]["columns"].values()
    assert [block.shape for block in blocks] == [(784,), (100,), (30,), (100,), (784,)]
    notes = ["", "78,500 parameters", "3,030 parameters", "100 parameters", "784 parameters"]
    assert [block.note for block in blocks] == notes  # of the decoder, biases alone


def test_the_discriminator_of_the_recipe_judges_what_the_generator_makes(repos, tmp_path, drawing):
    figure("network", str(repos("dcgan")), str(tmp_path / "x.png"))

    generator, discriminator = drawing["diagram"]["columns"].values()
    assert discriminator[0].shape == generator[-1].shape
    assert discriminator[-1].shape in ((), (1,))


def test_blocks_that_are_alike_are_drawn_once_and_a_large_network_in_whole_parts():
    part = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2), torch.nn.Linear(2, 4))
    alike = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)), torch.nn.LayerNorm(4))
    large = torch.nn.Sequential(*(part for _ in range(9)))

    drawn = []
    for network in (alike, large):
        with Recorder({"net": network}) as recorder:
            network(torch.zeros(1, 4))
        drawn.append([(block.label, block.shape, block.note) for block in blocks_of(recorder.calls["net"])])

    assert drawn[0] == [
        ("input", (4,), ""),
        ("2 x Linear", (4,), "20 parameters each"),
        ("Linear, LayerNorm", (4,), "28 parameters"),
    ]
    assert drawn[1] == [
        ("input", (4,), ""),
        ("Sequential", (4,), "42 parameters"),
        ("8 x Sequential", (4,), "shared parameters"),
    ]
