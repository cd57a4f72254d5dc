"""Images of a saved pipeline, whatever it is asked by: counts, classes, prompts, schedulers, further arguments."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from PIL import Image
from tiny import tiny_model
from tiny_pipelines import tiny_stable_diffusion

from genhub import (
    AutoencoderPipeline,
    CosineDDPMPipeline,
    CosineDDPMScheduler,
    VAEPipeline,
    evaluate,
    generate,
    save_repo,
)
from genhub.commands.generate import _label_ids, making_images
from genhub.repository.format import RepositoryError


def images(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)).astype(int) for path in sorted(folder.iterdir())])


def generated(repo, tmp_path, **arguments) -> np.ndarray:
    """The images that `generate` writes one by one."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    generate(str(repo), output=str(tmp_path / "grid.png"), folder=str(folder), **arguments)
    return images(folder)


def test_another_scheduler_and_its_config_make_other_images(tiny_repo, tmp_path):
    solver = {"scheduler": "EulerDiscreteScheduler", "arguments": {"num_inference_steps": 4}}
    own, other, karras, again = (
        generated(tiny_repo, tmp_path, count=2, **changes)
        for changes in (
            {"arguments": {"num_inference_steps": 4}},
            solver,
            solver | {"scheduler_arguments": {"use_karras_sigmas": True}},
            solver,
        )
    )

    assert np.array_equal(other, again)
    for one, two in ((own, other), (other, karras)):
        assert abs(one - two).max() > 2


def test_any_declared_argument_of_the_call_can_be_given(tiny_repo, tmp_path):
    steps = generated(tiny_repo, tmp_path, count=2, arguments={"num_inference_steps": 2})
    timesteps = generated(tiny_repo, tmp_path, count=2, arguments={"timesteps": [19, 3]})

    assert abs(steps - timesteps).max() > 2
    with pytest.raises(ValueError, match=r"`latents` must be unset: CosineDDPMPipeline does not take it"):
        generate(str(tiny_repo), arguments={"latents": None}, output=str(tmp_path / "grid.png"))


def test_classes_are_asked_for_in_turn_or_as_given(tmp_path):
    repo = save_repo(VAEPipeline(tiny_model("DenseVAE", num_class_embeds=3)), tmp_path / "repo")

    in_turn = generated(repo, tmp_path, count=5)
    given = generated(repo, tmp_path, class_labels=[0, 1, 2, 0, 1])  # says how many, too
    alike = generated(repo, tmp_path, count=5, class_labels=[1])

    assert np.array_equal(in_turn, given)
    assert np.array_equal(in_turn[[1, 4]], alike[[1, 4]])
    assert not np.array_equal(in_turn[0], alike[0])
    with pytest.raises(ValueError, match="`class_labels` must hold 1 or 3 entries, got 2"):
        generate(str(repo), count=3, class_labels=[0, 1])


def test_the_null_class_is_not_among_the_classes_in_turn(tmp_path):
    unet, scheduler = tiny_model("PatchUNet2DModel", num_class_embeds=4), CosineDDPMScheduler(num_train_timesteps=20)
    repo = save_repo(CosineDDPMPipeline(unet, scheduler, num_inference_steps=2, num_classes=3), tmp_path / "repo")

    in_turn = generated(repo, tmp_path, count=8)

    assert np.array_equal(in_turn, generated(repo, tmp_path, class_labels=[0, 1, 2, 0, 1, 2, 0, 1]))
    with pytest.raises(ValueError, match=r"`class_labels` must be integers in 0\.\.2, got \[3"):
        generate(str(repo), count=2, class_labels=[3])


@pytest.mark.parametrize(
    ("pipeline", "arguments", "message"),
    [
        (lambda: VAEPipeline(tiny_model("DenseVAE")), {"prompts": ["a"]}, "`prompt` must be unset: VAEPipeline"),
        (lambda: VAEPipeline(tiny_model("DenseVAE")), {"class_labels": [1]}, "must be unset: the network is uncond"),
        (
            lambda: AutoencoderPipeline(tiny_model("DenseAutoencoder")),
            {},
            "must hold a pipeline that generates images",
        ),
    ],
)
def test_what_a_pipeline_cannot_do_is_refused(pipeline, arguments, message, tmp_path):
    repo = save_repo(pipeline(), tmp_path / "repo")

    with pytest.raises(ValueError, match=message):
        generate(str(repo), count=2, **arguments)


def test_a_pipeline_that_takes_prompts_is_given_them(tmp_path):
    save_repo(tiny_stable_diffusion(), tmp_path / "repo")
    arguments = {"num_inference_steps": 2, "guidance_scale": 5.0}

    two = generated(tmp_path / "repo", tmp_path, prompts=["a shoe", "a bag"], arguments=arguments)
    alike = generated(tmp_path / "repo", tmp_path, count=2, prompts=["a bag"], batch_size=1, arguments=arguments)

    assert len(two) == 2
    assert abs(two[1] - alike[1]).max() <= 1  # of 255: sums in another order
    assert abs(two[0] - alike[0]).max() > 1
    with pytest.raises(ValueError, match="`prompts` must hold 1 or 3 entries, got 2"):
        generate(str(tmp_path / "repo"), count=3, prompts=["a", "b"])
    with pytest.raises(ValueError, match="`class_labels` must be unset: the model takes prompts"):
        generate(str(tmp_path / "repo"), class_labels=[1])


def test_another_dtype_makes_nearly_the_same_images(tiny_repo, tmp_path):
    steps = {"arguments": {"num_inference_steps": 4}}

    precise, rounded = (generated(tiny_repo, tmp_path, count=2, dtype=dtype, **steps) for dtype in ("fp32", "bf16"))

    assert 0 < abs(rounded - precise).max() < 32  # of 255
    for dtype in ("fp16", "float32"):
        with pytest.raises(ValueError, match=f"`dtype` must be one of fp32, bf16 on cpu, got '{dtype}'"):
            generate(str(tiny_repo), device="cpu", dtype=dtype, output=str(tmp_path / "grid.png"))


def lean_repo(tmp_path, **arguments):
    """A saved diffusion model of three classes and a null class."""
    unet = tiny_model("LeanUNet2DModel", "conditional")
    scheduler = CosineDDPMScheduler(prediction_type="v_prediction")
    return save_repo(CosineDDPMPipeline(unet, scheduler, 4, 3, **arguments), tmp_path / "repo")


def test_classes_are_asked_for_by_name_too(tmp_path):
    repo = lean_repo(tmp_path, id2label={0: "T-shirt/top", 1: "Sandal", 2: "Bag"})

    named = generated(repo, tmp_path, class_labels=["Bag", "Sandal"])

    assert np.array_equal(named, generated(repo, tmp_path, class_labels=[2, 1]))
    with pytest.raises(ValueError, match="`class_labels` must be names of `id2label`, got 'Sandle'; did you mean San"):
        generate(str(repo), class_labels=["Sandle"], output=str(tmp_path / "grid.png"))


def test_a_model_without_names_of_its_classes_wants_numbers(tmp_path):
    repo = save_repo(VAEPipeline(tiny_model("DenseVAE", num_class_embeds=3)), tmp_path / "repo")

    with pytest.raises(ValueError, match="`class_labels` must be numbers: the classes have no names, got"):
        generate(str(repo), class_labels=["Bag"], output=str(tmp_path / "grid.png"))


def test_a_name_that_is_a_number_is_a_name(tmp_path):
    pipeline = VAEPipeline(tiny_model("DenseVAE", num_class_embeds=3), id2label={0: "2", 1: "10", 2: "cats"})

    for words, numbers in ((["10", "2", "cats"], [1, 0, 2]), (["1", "0"], [1, 0]), ([2, "2"], [2, 0])):
        assert _label_ids(pipeline, words) == numbers


def test_an_image_file_is_edited_where_its_mask_is_white(tmp_path):
    repo = lean_repo(tmp_path)
    size = tiny_model("LeanUNet2DModel", "conditional").config["sample_size"]
    pixels = np.random.default_rng(0).integers(0, 256, (size, size), np.uint8)
    mask = np.zeros_like(pixels)
    mask[: size // 2] = 255
    for name, array in (("image.png", pixels), ("mask.png", mask)):
        Image.fromarray(array).save(tmp_path / name)

    files = {"image": str(tmp_path / "image.png"), "mask_image": str(tmp_path / "mask.png")}
    made = generated(repo, tmp_path, count=3, **files)

    assert np.array_equal(made[:, size // 2 :], np.broadcast_to(pixels[size // 2 :], (3, size - size // 2, size)))
    assert abs(made[0, : size // 2] - made[1, : size // 2]).max() > 2
    edited = generated(repo, tmp_path, count=1, image=files["image"], arguments={"strength": 0.25})
    assert 0 < abs(edited[0] - pixels).mean() < abs(made[0] - pixels).mean()


def test_a_pipeline_that_edits_nothing_takes_no_image(tmp_path):
    repo = save_repo(VAEPipeline(tiny_model("DenseVAE")), tmp_path / "repo")
    Image.new("L", (8, 8)).save(tmp_path / "image.png")

    with pytest.raises(ValueError, match="`image` must be unset: VAEPipeline does not take it"):
        generate(str(repo), image=str(tmp_path / "image.png"), output=str(tmp_path / "grid.png"))


def test_images_that_are_not_finite_are_refused(tmp_path):
    vae = tiny_model("DenseVAE")
    for parameter in vae.parameters():  # finite, but their sums are not
        signs = torch.arange(parameter.numel()).reshape(parameter.shape) % 2
        parameter.data = 3e38 * (2 * signs - 1).float()
    repo = save_repo(VAEPipeline(vae), tmp_path / "repo")

    with pytest.raises(ValueError, match="The images must be finite, got 1 of 3 with NaN or infinity"):
        generate(str(repo), count=3, output=str(tmp_path / "grid.png"), folder=str(tmp_path / "images"))

    assert not (tmp_path / "grid.png").exists()
    assert not (tmp_path / "images").exists()


NINES = int("9" * 30)


@pytest.mark.parametrize("name", ["count", "batch_size", "seed"])
def test_a_number_that_no_machine_could_hold_is_refused_before_any_work(name, tmp_path):
    with pytest.raises(ValueError, match=f"`{name}` must be at most .*, got {NINES}"):
        generate(str(tmp_path), **{name: NINES})
    if name != "count":
        with pytest.raises(ValueError, match=f"`{name}` must be at most .*, got {NINES}"):
            evaluate(str(tmp_path), **{name: NINES})


def test_a_config_that_fits_its_weights_and_makes_no_images_is_one_line(tmp_path):
    unet = UNet2DModel(8, 1, 1, block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",),
                       up_block_types=("UpBlock2D",), layers_per_block=1)  # fmt: skip
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(tmp_path)
    path = tmp_path / "unet/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"norm_eps": "x"}))

    with pytest.raises(RepositoryError, match=f"^{tmp_path} cannot make images: [^\n]*$"):
        generate(str(tmp_path), count=1, output=str(tmp_path / "grid.png"))


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError, AttributeError, NameError, OSError])
def test_too_little_memory_and_mistakes_of_ours_are_not_the_fault_of_a_repository(error):
    with pytest.raises(error, match="^why$"), making_images("user/name"):
        raise error("why")
