"""The yardstick for everyone: images that are already there, and pipelines that genhub did not train."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    UNet2DModel,
)
from PIL import Image

from genhub import AutoPipeline, evaluate
from genhub.cli import main
from genhub.data.image_files import load_image_files, with_classes_of
from genhub.evaluation.sampling import Sampler
from genhub.repository.capabilities import capabilities_of


def unet(channels=1):
    return UNet2DModel(
        sample_size=28,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
    )


def dit():
    """Returns a diffusion transformer of ten classes, whose call takes no number of images."""
    network = DiTTransformer2DModel(2, 4, 4, 4, 1, norm_num_groups=4, sample_size=14, num_embeds_ada_norm=10)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(1, 1, **blocks, block_out_channels=(8, 8), norm_num_groups=4)
    return DiTPipeline(network, vae, DDIMScheduler())


def sampler(folder, **options):
    return Sampler(AutoPipeline.from_pretrained(folder), (1, 28, 28), 10_000, 40, is_quiet=True, **options)


@pytest.fixture(scope="module")
def data(quick) -> dict:
    """What images are compared with."""
    return {"data_source": quick["data_source"]}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A repository of diffusers alone."""
    folder = tmp_path_factory.mktemp("plain") / "theirs"
    DDPMPipeline(unet(), DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def evaluated_theirs(theirs, quick, tmp_path_factory):
    """The results of that repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        return evaluate(str(theirs), **quick).resolve()


@pytest.fixture(scope="module")
def generated(theirs, quick, evaluated_theirs) -> torch.Tensor:
    """The images of that evaluation, uint8 (150, 1, 28, 28)."""
    return sampler(theirs, arguments=quick["arguments"]).draw(quick["count"])[0]


def write(images, folder, classes=None):
    for index, image in enumerate(images[:, 0].numpy()):
        path = folder / (classes[index] if classes else "") / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def newest(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text())["evaluations"][-1]


def test_a_pipeline_of_diffusers_needs_no_recipe_and_is_left_as_it_is(theirs, evaluated_theirs):
    found = newest(evaluated_theirs)

    assert evaluated_theirs.name == "evaluation-theirs"
    assert (found["training_seed"], found["samples"]["seed"], found["samples"]["steps"]) == (None, 10_000, 1)
    assert found["speed"]["passes_per_image"] == 1
    assert {"FD-FM", "MIND", "KID x 1000"} <= {metric["name"] for metric in found["figures"]}
    assert found["memorisation"].keys() == {"pix", "clf"}
    assert "| FD-FM (clf) |" in (evaluated_theirs / "README.md").read_text()
    assert not any((theirs / file).exists() for file in ("metrics.json", "README.md", "closest.png"))


@pytest.mark.parametrize("form", ["PNG files", "archive"])
def test_the_images_of_a_pipeline_are_evaluated_as_the_pipeline_is(
    form, generated, evaluated_theirs, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if form == "PNG files":
        source = write(generated, tmp_path / "mine")
    else:
        source = tmp_path / "mine.npz"
        np.savez(source, torch.nn.functional.pad(generated, (2, 2, 2, 2)).numpy())  # as some models pad

    assert main(["evaluate", str(source), "--data", data["data_source"]]) == 0

    folder, parts = tmp_path / "evaluation-mine", ["figures", "memorisation", "effective_rank", "feature_net_accuracy"]
    found, expected = newest(folder), newest(evaluated_theirs)
    for part in [*parts, "reference", "spaces", "complete"]:
        assert found[part] == expected[part], part
    assert found["samples"] == {"images": 150}
    assert "speed" not in found
    assert (folder / "closest.png").read_bytes() == (evaluated_theirs / "closest.png").read_bytes()
    ours, other = ((path / "README.md").read_text().splitlines() for path in (folder, evaluated_theirs))
    assert {line for line in other if re.match(r"\| .+ \((clf|pix)\) \|", line)} <= {*ours}
    assert "150 images that were already there, against the 200 images of test" in "\n".join(ours)
    assert "MIND (clf)" in capsys.readouterr().out


def test_classes_are_those_of_folders_by_name_or_number_or_of_labels(tmp_path):
    images, numbers = torch.arange(12, dtype=torch.uint8).reshape(12, 1, 1, 1).repeat(1, 1, 4, 4), torch.arange(12) % 3
    names = ("Coat", "Bag", "Ankle boot")  # not in the order of the alphabet
    np.savez(tmp_path / "images.npz", images=images.numpy(), labels=numbers.numpy())
    sources = [
        write(images, tmp_path / "names", [names[number] for number in numbers]),
        write(images, tmp_path / "numbers", [str(number) for number in numbers.tolist()]),
        tmp_path / "images.npz",
    ]

    for source in sources:
        loaded = with_classes_of(load_image_files(source), names, 3)
        assert torch.equal(loaded.images, images)
        assert torch.equal(loaded.labels, numbers)


@pytest.mark.parametrize("axes", [(0, 2, 3), (0, 2, 3, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_archive_may_have_its_axes_in_any_usual_order(axes, channels, tmp_path):
    images = torch.randint(256, (5, channels, 6, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    if len(axes) == 3:
        images = images[:, :1]
    array = images.numpy()[:, 0] if len(axes) == 3 else images.numpy().transpose(axes)
    np.savez(tmp_path / "images.npz", array)

    assert torch.equal(load_image_files(tmp_path / "images.npz").images, images)


def test_labels_of_images_are_the_classes_that_were_asked_for(generated, data, tmp_path):
    np.savez(tmp_path / "images.npz", generated.numpy(), labels=torch.arange(150).numpy() % 10)

    found = newest(evaluate(str(tmp_path / "images.npz"), **data, output=str(tmp_path / "results")))

    assert "label fidelity" in [metric["name"] for metric in found["figures"]]


@pytest.mark.parametrize("make", [lambda: DDIMPipeline(unet(), DDIMScheduler()), dit], ids=["DDIM", "DiT"])
def test_other_pipelines_of_diffusers_are_sampled_too(make, tmp_path):
    pipeline = make()
    pipeline.save_pretrained(tmp_path / "theirs")
    classes = capabilities_of(pipeline).num_classes
    options = {"guidance_scale": 1.0} if classes else {"eta": 0.5}

    images, _ = sampler(tmp_path / "theirs", classes=classes, arguments={"num_inference_steps": 2, **options}).draw(3)

    assert classes == (10 if isinstance(pipeline, DiTPipeline) else None)
    assert (images.shape, images.dtype) == ((3, 1, 28, 28), torch.uint8)
    assert images.float().std() > 1


def test_a_colour_pipeline_is_refused_before_its_images_are_made(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(Sampler, "draw", None)
    DDPMPipeline(unet(channels=3), DDPMScheduler()).save_pretrained(tmp_path / "colour")

    with pytest.raises(ValueError, match=r"must be like the real ones, .* = \(1, 28, 28\), got \(3, 28, 28\)"):
        evaluate(str(tmp_path / "colour"), **quick)


@pytest.fixture
def pngs(generated, tmp_path):
    return write(generated, tmp_path / "pngs")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_source": None}, "`data` must name the images to compare with"),
        ({"seed": 3}, "`seed` must be unset: the images of .*pngs are already there"),
        ({"arguments": {"num_inference_steps": 3}}, "`num_inference_steps` must be unset"),
        ({"scheduler": "DDIMScheduler"}, "`scheduler` must be unset"),
        ({"scheduler_arguments": {"clip_sample": True}}, "`clip_sample` must be unset"),
        ({"batch_size": 10}, "`batch_size` must be unset"),
        ({"count": 151}, "must hold at least 151 images, got 150"),
        ({"count": 100}, "`count` must be at least 129, got 100"),
        ({"cas": 150}, "`cas` must be off: .* does not hold 150 images with their classes"),
    ],
)
def test_what_does_not_fit_images_is_refused(options, message, pngs, data):
    with pytest.raises(ValueError, match=message):
        evaluate(str(pngs), **data | options)


def test_results_are_not_written_among_the_images(pngs, data):
    with pytest.raises(ValueError, match="`output` must lie outside the folder of the images"):
        evaluate(str(pngs), **data, output=str(pngs / "results"))


def test_bad_folders_of_images_are_refused(pngs, data, tmp_path):
    def refuses(message):
        with pytest.raises(ValueError, match=message):
            evaluate(str(pngs), **data)

    Image.new("L", (20, 28)).save(pngs / "01000.png")
    refuses(r"01000.png is 20x28 with 1 channel\(s\), the first one 28x28 with 1\.$")
    (pngs / "01000.png").write_bytes(b"")
    refuses("01000.png is empty")
    (pngs / "01000.png").unlink()
    write(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), pngs / "0")
    refuses("must lie all in folders, a class each, or all in none: .* beside 0")
    shutil.rmtree(pngs / "0")
    for path in sorted(pngs.iterdir())[128:]:
        path.unlink()
    refuses("must hold at least 129 images, got 128")
    write(torch.zeros(150, 1, 30, 30, dtype=torch.uint8), pngs)
    refuses(r"must be like the real ones, \(C, H, W\) = \(1, 28, 28\), got \(1, 30, 30\)")
    shutil.rmtree(pngs)
    write(torch.zeros(150, 1, 28, 28, dtype=torch.uint8), pngs, ["cats", "dogs"] * 75)
    refuses("classes of the images must be .* or 0 to 9, got 'cats'")
    shutil.rmtree(pngs)
    pngs.mkdir()
    refuses("must hold images or a saved pipeline with its model_index.json")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((150, 28, 28))}, r"must be uint8 \(N, H, W\), .* got float64 \(150, 1, 28, 28\)"),
        ({"x": np.zeros((150, 28), np.uint8)}, r"got uint8 \(150, 28\)"),
        ({"x": np.zeros((150, 28, 28, 2), np.uint8)}, r"got uint8 \(150, 28, 28, 2\)"),
        ({"labels": np.zeros(150, int)}, "must hold an array of images"),
        ({"x": np.zeros((150, 28, 28), np.uint8), "labels": np.zeros(149, int)}, "`labels` of .* 150 whole numbers"),
        ({"x": np.zeros((150, 28, 28), np.uint8), "labels": np.full(150, 10)}, "0 to 9, got '10'"),
        ({"x": np.array([None] * 150)}, "is not a readable archive of arrays"),
    ],
)
def test_bad_archives_are_refused(arrays, message, data, tmp_path):
    np.savez(tmp_path / "images.npz", **arrays)

    with pytest.raises(ValueError, match=message):
        evaluate(str(tmp_path / "images.npz"), **data)


def test_a_file_that_is_no_archive_is_refused(data, tmp_path):
    for name, message in (("x.npy", "must be an .npz archive"), ("x.npz", "is not a readable archive")):
        (tmp_path / name).write_bytes(b"text")
        with pytest.raises(ValueError, match=message):
            evaluate(str(tmp_path / name), **data)
