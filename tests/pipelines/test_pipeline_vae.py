"""The pipeline of variational autoencoders: images of the prior, of codes of images, and of places between them."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm
from tiny import tiny_model
from torch.testing import assert_close

import genhub
from genhub import VAEPipeline
from genhub.commands.generate import generate
from genhub.data import to_model_range

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
KINDS = [
    (name, variant)
    for name in ("DenseVAE", "ConvVAE")
    for variant in ("plain", "bernoulli", "gaussian", "conditional", "colour", "colour of a class")
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=" ".join)
CONDITIONAL = ("DenseVAE", "conditional")


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def tiny_pipeline(kind=KINDS[0]):
    """A pipeline whose images fill [0, 1] and differ: the last weights of the network are enlarged."""
    model = tiny_model(*kind)
    with torch.no_grad():
        model.to_pixels.weight.mul_(4)
        model.to_pixels.bias.fill_(0.0 if model.config.likelihood == "bernoulli" else 0.5)
    return VAEPipeline(model)


def latents_of(count, seed=0):
    return torch.randn(count, 4, generator=generators(seed)[0])


def labels_of(pipe, count):
    """Labels for `count` images, where the model asks for them, as an argument."""
    return {"class_labels": [place % 4 for place in range(count)]} if pipe.vae.config.num_class_embeds else {}


def one_label(pipe):
    return {"class_labels": 2} if pipe.vae.config.num_class_embeds else {}


def sample(pipe, *seeds, **arguments):
    """Images (B, C, H, W) in [0, 1] of one generator, or of one generator for each image."""
    generator = generators(*seeds)
    generator = generator[0] if len(seeds) == 1 else generator
    return pipe(generator=generator, **{"output_type": "pt"} | arguments).images


def decoded(pipe, latents, **arguments):
    return pipe.decode(latents, **{"output_type": "pt"} | arguments).images


def pixels(pipe, count):
    """Bytes (N, H, W, C) of the size of the model's images, of which the first one has bright pixels only."""
    size = pipe.vae.config.sample_size
    shape = (count, *((size, size) if isinstance(size, int) else size), pipe.vae.config.in_channels)
    made = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    made[0] //= 2
    made[0] += 128
    return made


def pils(images):
    return [Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images]


def tensors(images):
    return torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2)


def calls_of(pipe):
    """The batch size of each call of encoder and decoder from now on."""
    seen = []
    for part in (pipe.vae.to_moments, pipe.vae.to_pixels):
        part.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


@every_kind
def test_an_image_is_the_mean_of_what_its_latents_say(kind):
    pipe = tiny_pipeline(kind)
    latents, labels = latents_of(3), labels_of(pipe, 3)

    images = pipe(latents=latents, output_type="pt", **labels).images

    told = {name: torch.tensor(value) for name, value in labels.items()}
    answer = pipe.vae.decode(latents, **told).detach()
    is_bernoulli = pipe.vae.config.likelihood == "bernoulli"
    assert_close(images, 1 / (1 + (-answer).exp()) if is_bernoulli else ((answer + 1) / 2).clamp(0, 1))
    assert torch.equal(images, decoded(pipe, latents, **labels))


def test_latents_take_the_place_of_the_draw():
    pipe = tiny_pipeline()
    latents = latents_of(3, seed=7)
    before = latents.clone()

    images = pipe(latents=latents, output_type="pt").images

    assert torch.equal(images, sample(pipe, 7, batch_size=3))
    assert torch.equal(latents, before)


def test_latents_are_drawn_from_the_prior():
    pipe, seen = tiny_pipeline(), []
    pipe.vae.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))

    sample(pipe, 0, batch_size=10_000)

    assert_close(seen[0].T.cov(), torch.eye(4), rtol=0, atol=0.05)
    assert seen[0].mean(0).abs().max() < 0.05


def test_there_is_one_image_or_one_for_each_of_what_is_given():
    plain, conditional = tiny_pipeline(), tiny_pipeline(CONDITIONAL)

    counts = {
        1: [sample(plain, 0), sample(conditional, 0, class_labels=3)],
        2: [sample(plain, 0, batch_size=2), sample(conditional, 0, class_labels=torch.tensor([0, 1]))],
        3: [sample(plain, 0, latents=latents_of(3)), sample(conditional, 0, class_labels=[0, 1, 2])],
        4: [sample(conditional, 0, class_labels=1, batch_size=4)],
        5: [sample(conditional, 0, class_labels=1, latents=latents_of(5))],
    }

    for count, made in counts.items():
        assert {len(images) for images in made} == {count}
    assert sample(conditional, 0, class_labels=torch.tensor(3)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("name", ["DenseVAE", "ConvVAE"])
def test_an_image_is_of_its_class(name):
    pipe, latents = tiny_pipeline((name, "conditional")), latents_of(1)

    each = [decoded(pipe, latents, class_labels=label) for label in range(4)]
    together = decoded(pipe, latents.expand(4, -1), class_labels=[3, 1, 0, 2])

    assert_close(together, torch.cat([each[label] for label in (3, 1, 0, 2)]), rtol=0, atol=1e-6)
    assert_close(
        decoded(pipe, latents.expand(3, -1), class_labels=[2]), each[2].expand(3, -1, -1, -1), rtol=0, atol=1e-6
    )
    for label in range(3):
        assert not torch.allclose(each[label], each[label + 1], atol=1e-2)


def methods(pipe):
    """Every method that makes images, with arguments that make two or more."""
    images = tensors(pixels(pipe, 2))
    return [
        (pipe, {"latents": latents_of(2)}),
        (pipe.decode, {"latents": latents_of(2)}),
        (pipe.reconstruct, {"image": images}),
        (pipe.interpolate, {"first": images[:1], "second": images[1:]}),
        (pipe.traverse, {"axis": 0}),
        (pipe.manifold, {"num_images": 4}),
    ]


def test_the_output_is_named_or_a_tuple_of_the_same_and_pictures_unless_told_otherwise():
    for method, arguments in methods(tiny_pipeline()):
        named = method(**arguments, output_type="pt")
        unnamed = method(**arguments, output_type="pt", return_dict=False)

        assert type(unnamed) is tuple
        assert_close(unnamed, (named.images,), rtol=0, atol=0)
        assert {type(image) for image in method(**arguments).images} == {Image.Image}


def test_every_method_refuses_an_unknown_output_type():
    for method, arguments in methods(tiny_pipeline()):
        with pytest.raises(ValueError, match="`output_type` must be pil, np or pt, got 'latent'"):
            method(**arguments, output_type="latent")


@every_kind
def test_a_code_is_the_mean_of_the_posterior_of_what_the_network_was_trained_on(kind):
    pipe = tiny_pipeline(kind)
    images, labels = pixels(pipe, 3), labels_of(pipe, 3)

    code = pipe.encode(pils(images), **labels)

    told = {name: torch.tensor(value) for name, value in labels.items()}
    mean, _ = pipe.vae.encode(to_model_range(torch.from_numpy(images).permute(0, 3, 1, 2)), **told)
    assert_close(code, mean.detach(), rtol=0, atol=1e-6)
    assert (code.shape, code.requires_grad) == ((3, 4), False)


@pytest.mark.parametrize("kind", [KINDS[0], ("ConvVAE", "bernoulli"), ("ConvVAE", "colour")], ids=" ".join)
def test_an_image_has_the_same_code_and_copy_in_every_form(kind):
    pipe = tiny_pipeline(kind)
    images = pixels(pipe, 4)
    array, tensor = images.astype(np.float32) / 255, tensors(images)
    forms = [array, array.astype(np.float64), list(array), tensor, list(tensor)]
    if images.shape[-1] == 1:
        forms += [array[..., 0], list(array[..., 0]), tensor[:, 0], list(tensor[:, 0])]

    code, copy = pipe.encode(pils(images)), pipe.reconstruct(pils(images), output_type="pt").images

    for form in forms:
        assert_close(pipe.encode(form), code, rtol=0, atol=1e-6)
        assert_close(pipe.reconstruct(form, output_type="pt").images, copy, rtol=0, atol=1e-6)


@every_kind
def test_a_copy_is_the_image_of_the_code_and_a_batch_its_images_one_by_one(kind):
    pipe = tiny_pipeline(kind)
    images, label = tensors(pixels(pipe, 3)), one_label(pipe)

    copies = pipe.reconstruct(images, output_type="pt", **label).images

    assert torch.equal(copies, decoded(pipe, pipe.encode(images, **label), **label))
    alone = [pipe.reconstruct(image, output_type="pt", **label).images for image in images]
    assert_close(torch.cat(alone), copies, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [KINDS[0], ("ConvVAE", "conditional")], ids=" ".join)
def test_with_a_generator_a_copy_is_of_one_draw_from_the_posterior(kind):
    pipe = tiny_pipeline(kind)
    images, labels = tensors(pixels(pipe, 3)), labels_of(pipe, 3)
    told = {name: torch.tensor(value) for name, value in labels.items()}
    mean, logvar = pipe.vae.encode(2 * images - 1, **told)

    copies = pipe.reconstruct(images, generator=generators(5)[0], output_type="pt", **labels).images
    each = pipe.reconstruct(images, generator=generators(5, 6, 7), output_type="pt", **labels).images

    noise = latents_of(3, seed=5)
    expected = decoded(pipe, (mean + logvar.exp().sqrt() * noise).detach(), **labels)
    assert_close(copies, expected, rtol=0, atol=1e-6)
    noise = torch.cat([latents_of(1, seed) for seed in (5, 6, 7)])
    expected = decoded(pipe, (mean + logvar.exp().sqrt() * noise).detach(), **labels)
    assert_close(each, expected, rtol=0, atol=1e-6)


@every_kind
@pytest.mark.parametrize("num_images", [2, 5])
def test_an_interpolation_runs_in_equal_steps_from_copy_to_copy(kind, num_images):
    pipe = tiny_pipeline(kind)
    images, label = tensors(pixels(pipe, 2)), one_label(pipe)

    made = pipe.interpolate(images[:1], images[1:], num_images, output_type="pt", **label).images

    ends = pipe.reconstruct(images, output_type="pt", **label).images
    assert_close(made[[0, -1]], ends, rtol=0, atol=1e-6)
    first, second = pipe.encode(images, **label)
    steps = [first + (second - first) * step / (num_images - 1) for step in range(num_images)]
    assert_close(made, decoded(pipe, torch.stack(steps), **label), rtol=0, atol=1e-5)


def test_single_pictures_can_be_interpolated_and_there_are_seven_unless_told_otherwise():
    pipe = tiny_pipeline()
    images = pixels(pipe, 2)

    made = pipe.interpolate(*pils(images), output_type="pt").images

    assert_close(made, pipe.interpolate(*tensors(images), output_type="pt").images, rtol=0, atol=1e-6)
    assert len(made) == 7


@pytest.mark.parametrize("axis", [0, 3])
@pytest.mark.parametrize("base", [None, [0.5, -1.0, 2.0, 0.25]])
def test_a_traverse_changes_one_number_of_one_code_in_equal_steps(axis, base):
    pipe = tiny_pipeline()
    latents = None if base is None else torch.tensor([base])

    made = pipe.traverse(axis, low=-1.5, high=0.5, num_images=5, latents=latents, output_type="pt").images

    codes = []
    for value in (-1.5, -1.0, -0.5, 0.0, 0.5):
        codes.append(list(base or [0.0] * 4))
        codes[-1][axis] = value
    assert_close(made, decoded(pipe, torch.tensor(codes)), rtol=0, atol=1e-6)
    assert latents is None or latents.tolist() == [base]


def test_a_traverse_is_that_of_the_book_unless_told_otherwise():
    pipe = tiny_pipeline()

    made = pipe.traverse(3, output_type="pt").images

    codes = torch.zeros(7, 4)
    codes[:, 3] = torch.from_numpy(np.linspace(-0.8, 0.8, 7))
    assert_close(made, decoded(pipe, codes), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["DenseVAE", "ConvVAE"])
def test_a_traverse_and_a_manifold_are_of_the_class_that_is_asked_for(name):
    pipe = tiny_pipeline((name, "conditional"))
    codes = torch.zeros(4, 4)
    codes[:, 0] = torch.linspace(-0.8, 0.8, 4)

    traversed = pipe.traverse(0, num_images=4, class_labels=2, output_type="pt").images
    grid = pipe.manifold(4, 0.25, 0.75, class_labels=1, output_type="pt").images

    assert_close(traversed, decoded(pipe, codes, class_labels=2), rtol=0, atol=1e-6)
    q = norm.ppf(0.75)
    corners = torch.tensor([[-q, -q, 0, 0], [q, -q, 0, 0], [-q, q, 0, 0], [q, q, 0, 0]], dtype=torch.float32)
    assert_close(grid, decoded(pipe, corners, class_labels=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "side", "quantiles", "axes"),
    [
        ({}, 20, (0.05, 0.95), (0, 1)),
        ({"num_images": 9}, 3, (0.05, 0.95), (0, 1)),
        ({"num_images": 25, "low": 0.01, "high": 0.6, "axes": (3, 1)}, 5, (0.01, 0.6), (3, 1)),
        ({"num_images": 4, "axes": [1, 0]}, 2, (0.05, 0.95), (1, 0)),
    ],
)
def test_a_manifold_has_normal_quantiles_that_grow_to_the_right_and_downwards(arguments, side, quantiles, axes):
    pipe = tiny_pipeline()

    made = pipe.manifold(output_type="pt", **arguments).images

    values = norm.ppf(np.linspace(*quantiles, side))
    codes = torch.zeros(side, side, 4)
    for row in range(side):
        for column in range(side):
            codes[row, column, axes[0]] = values[column]
            codes[row, column, axes[1]] = values[row]
    assert_close(made, decoded(pipe, codes.flatten(0, 1)), rtol=0, atol=1e-5)
    assert (values[1:] > values[:-1]).all()


CALLS = [
    ("plain", {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    ("plain", {"batch_size": -1}, "`batch_size` must be at least 1, got -1"),
    ("plain", {"batch_size": 2, "generator": generators(0)}, "`generator` must be one generator or 2 .*, got 1"),
    ("plain", {"generator": generators(0, 1)}, "`generator` must be one generator or 1 .*, got 2"),
    ("plain", {"latents": torch.zeros(2, 3)}, r"`latents` must have the shape \(2, 4\), got \(2, 3\)"),
    ("plain", {"latents": torch.zeros(2, 4), "batch_size": 3}, r"`latents` .* \(3, 4\), got \(2, 4\)"),
    ("plain", {"latents": torch.zeros(2, 4, 1)}, r"`latents` must have the shape \(2, 4\), got \(2, 4, 1\)"),
    ("plain", {"output_type": "latent"}, "`output_type` must be pil, np or pt, got 'latent'"),
    ("plain", {"class_labels": 0}, "`class_labels` must be unset: the network is unconditional"),
    ("conditional", {}, r"`class_labels` must be given, in 0\.\.3: the network is conditional"),
    ("conditional", {"class_labels": 4}, r"`class_labels` must be integers in 0\.\.3, got \[4\]"),
    ("conditional", {"class_labels": [0, -1]}, r"`class_labels` must be integers in 0\.\.3, got \[0, -1\]"),
    ("conditional", {"class_labels": 1.5}, r"`class_labels` must be integers in 0\.\.3, got \[1.5\]"),
    ("conditional", {"class_labels": []}, "`batch_size` must be at least 1, got 0"),
    ("conditional", {"class_labels": [1, 2], "batch_size": 3}, "`class_labels` must hold 1 or 3 entries, got 2"),
]
MANIFOLDS = [
    *(({"num_images": n}, f"`num_images` must make a square grid, .*, got {n}") for n in (-4, 0, 1, 2, 10)),
    ({"low": 0.0}, "`low` and `high` must be quantiles, .*, got 0.0 and 0.95"),
    ({"high": 1.0}, "`low` and `high` must be quantiles, .*, got 0.05 and 1.0"),
    ({"low": 0.9, "high": 0.1}, "`low` and `high` must be quantiles, .*, got 0.9 and 0.1"),
    ({"axes": (0, 4)}, r"`axes` must be two of 0\.\.3, got \(0, 4\)"),
    ({"axes": (-1, 0)}, r"`axes` must be two of 0\.\.3, got \(-1, 0\)"),
    ({"axes": (1, 1)}, r"`axes` must be two of 0\.\.3, got \(1, 1\)"),
    ({"axes": (0, 1, 2)}, r"`axes` must be two of 0\.\.3, got \(0, 1, 2\)"),
]
TRAVERSES = [
    ({"axis": 4}, r"`axis` must lie in 0\.\.3, got 4"),
    ({"axis": -1}, r"`axis` must lie in 0\.\.3, got -1"),
    ({"axis": 0, "num_images": 1}, "`num_images` must be at least 2, got 1"),
    ({"axis": 0, "num_images": 0}, "`num_images` must be at least 2, got 0"),
    ({"axis": 0, "latents": torch.zeros(2, 4)}, r"`latents` must have the shape \(1, 4\), got \(2, 4\)"),
    ({"axis": 0, "latents": torch.zeros(1, 3)}, r"`latents` must have the shape \(1, 4\), got \(1, 3\)"),
]


@pytest.mark.parametrize(
    ("variant", "method", "arguments", "message"),
    [
        *((variant, "__call__", arguments, message) for variant, arguments, message in CALLS),
        *(("plain", "manifold", *case) for case in MANIFOLDS),
        *(("plain", "traverse", *case) for case in TRAVERSES),
        ("plain", "decode", {"latents": torch.zeros(2, 3)}, r"`latents` must be \(N, 4\), got \(2, 3\)"),
        ("plain", "decode", {"latents": torch.zeros(4)}, r"`latents` must be \(N, 4\), got \(4,\)"),
        ("plain", "decode", {"latents": torch.zeros(2, 4), "class_labels": 1}, "`class_labels` must be unset"),
        ("conditional", "decode", {"latents": torch.zeros(2, 4)}, "`class_labels` must be given"),
        ("conditional", "encode", {"image": torch.zeros(2, 1, 8, 8)}, "`class_labels` must be given"),
        ("conditional", "reconstruct", {"image": torch.zeros(2, 1, 8, 8)}, "`class_labels` must be given"),
        (
            *("conditional", "encode", {"image": torch.zeros(2, 1, 8, 8), "class_labels": [0, 1, 2]}),
            "`class_labels` must hold 1 or 2 entries, got 3",
        ),
        *(
            ("plain", "reconstruct", {"image": torch.zeros(2, 1, 8, 8), "generator": generators(*seeds)}, message)
            for seeds, message in (
                ([0], "`generator` must be one generator or 2 of them, got 1"),
                ([0, 1, 2], "`generator` must be one generator or 2 of them, got 3"),
            )
        ),
    ],
)
def test_a_bad_argument_is_refused_before_the_network_is_called(variant, method, arguments, message):
    pipe = tiny_pipeline(("DenseVAE", variant))
    seen = calls_of(pipe)

    with pytest.raises(ValueError, match=message):
        getattr(pipe, method)(**arguments)

    assert seen == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((2, 1, 8, 8), -0.5), r"`image` must lie in \[0, 1\], got -0.5 to -0.5"),
        (torch.full((2, 1, 8, 8), 1.5), r"`image` must lie in \[0, 1\], got 1.5 to 1.5"),
        (torch.full((2, 1, 8, 8), float("nan")), "`image` must be finite floats, got torch.float32"),
        (np.full((2, 8, 8, 1), 255, np.uint8), "`image` must be finite floats, got torch.uint8"),
        (torch.zeros(2, 3, 8, 8), r"`image` must be .* = \(N, 1, 8, 8\), got \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 8, 9), r"`image` must be .* = \(N, 1, 8, 8\), got \(2, 1, 8, 9\)"),
        (Image.new("L", (9, 8)), r"`image` must be .* = \(N, 1, 8, 8\), got \(1, 1, 8, 9\)"),
        ("image.png", "Input is in incorrect format"),  # diffusers' own words
    ],
)
def test_a_bad_image_is_refused_before_the_network_is_called(image, message):
    pipe = tiny_pipeline()
    seen = calls_of(pipe)

    for method in (pipe.encode, pipe.reconstruct, lambda image: pipe.interpolate(image, image)):
        with pytest.raises(ValueError, match=message):
            method(image)

    assert seen == []


@pytest.mark.parametrize("num_images", [1, 0, -3])
def test_an_interpolation_has_two_ends(num_images):
    pipe = tiny_pipeline()
    images = tensors(pixels(pipe, 2))

    with pytest.raises(ValueError, match=f"`num_images` must be at least 2, got {num_images}"):
        pipe.interpolate(images[:1], images[1:], num_images)


def test_the_ends_of_an_interpolation_are_one_image_each():
    pipe = tiny_pipeline()
    images = tensors(pixels(pipe, 3))

    with pytest.raises(ValueError, match="`first` and `second` must be one image each, got 1 and 2"):
        pipe.interpolate(images[:1], images[1:])


def test_generate_refuses_steps_for_a_pipeline_that_takes_none(tmp_path):
    folder = genhub.save_repo(VAEPipeline(tiny_model("DenseVAE")), tmp_path / "repo")

    with pytest.raises(ValueError, match="`num_inference_steps` must be unset: VAEPipeline does not take it"):
        generate(str(folder), count=2, arguments={"num_inference_steps": 5})
