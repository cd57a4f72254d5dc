"""The pipeline of generators: images of random latents, of ways between them, of sums, and of mixed styles."""

import pytest
import torch
from PIL import Image
from tiny import tiny_model
from torch.testing import assert_close

from genhub import GANPipeline
from genhub.pipelines.pipeline_gan import slerp

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
DENSE, CONDITIONAL, STYLE = (
    ("DenseGenerator", "plain"),
    ("DCGANGenerator", "conditional"),
    ("StyleGANGenerator", "plain"),
)
PROGRESSIVE = ("ProgressiveGenerator", "margin")
KINDS = [DENSE, ("DCGANGenerator", "colour"), CONDITIONAL, PROGRESSIVE, STYLE, ("StyleGANGenerator", "colour")]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=" ".join)
close = {"rtol": 0, "atol": 1e-5}


def tiny_pipeline(kind=DENSE, has_noise=True):
    """A pipeline whose styles have a mean, and whose noise leaves a trace."""
    model = tiny_model(*kind)
    if kind[0] == "StyleGANGenerator":
        model.mean_style.copy_(latents_of(4, seed=9)[0])
        for name, parameter in model.named_parameters():
            parameter.data.fill_(0.5 * has_noise) if name.endswith("noise_scale") else None
    return GANPipeline(model)


def generators(*seeds):
    made = [torch.Generator().manual_seed(seed) for seed in seeds]
    return made[0] if len(made) == 1 else made


def latents_of(count, seed=0):
    return torch.randn(count, 4, generator=generators(seed))


def label(pipe):
    """A label for all images, where the generator asks for one, as an argument."""
    return {"class_labels": 2} if pipe.generator.config.get("num_class_embeds") else {}


def images_of(pipe, latents, seed=3, **arguments):
    """One image (1, C, H, W) of each of `latents`, all with the same noise, as (N, C, H, W)."""
    arguments = label(pipe) | {"output_type": "pt"} | arguments
    return torch.cat([pipe(latents=one[None], generator=generators(seed), **arguments).images for one in latents])


def calls_of(pipe):
    """What the layers of a dense generator are given from now on."""
    seen = []
    pipe.generator.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    return seen


@every_kind
def test_an_image_is_what_the_generator_says_moved_to_zero_to_one(kind):
    pipe = tiny_pipeline(kind, has_noise=False)
    told = {"class_labels": torch.full((3,), 2)} if label(pipe) else {}

    images = pipe(latents=latents_of(3), output_type="pt", **label(pipe)).images

    sample = pipe.generator(latents_of(3), **told).sample.detach()
    assert_close(images, ((sample + 1) / 2).clamp(0, 1), **close)


def test_labels_say_how_many_images_there_are_and_of_which_class():
    pipe = tiny_pipeline(CONDITIONAL)

    images = pipe(class_labels=[1, 3], generator=generators(0), output_type="pt").images

    each = [pipe(2, generators(0), label, output_type="pt").images for label in (1, 3)]
    assert_close(images, torch.stack([each[0][0], each[1][1]]), **close)


@pytest.mark.parametrize("kind", [DENSE, CONDITIONAL, STYLE], ids=" ".join)
def test_truncation_of_one_leaves_images_alone_and_of_zero_makes_them_the_same(kind):
    pipe = tiny_pipeline(kind, has_noise=False)
    arguments = label(pipe) | {"latents": latents_of(3), "output_type": "pt"}

    whole, none = (pipe(truncation=truncation, **arguments).images for truncation in (1, 0))

    assert torch.equal(whole, pipe(**arguments).images)
    assert_close(none, none[:1].expand_as(none), **close)


def test_truncation_pulls_styles_to_their_mean_and_latents_to_zero():
    dense, style = tiny_pipeline(), tiny_pipeline(STYLE, has_noise=False)
    model = style.generator

    made = [pipe(latents=latents_of(2), truncation=0.25, output_type="pt").images for pipe in (dense, style)]

    assert_close(made[0], images_of(dense, 0.25 * latents_of(2)), **close)
    pulled = 0.75 * model.mean_style + 0.25 * model.map(latents_of(2))
    sample = model.synthesize(pulled[:, None].expand(-1, 4, -1)).detach()
    assert_close(made[1], ((sample + 1) / 2).clamp(0, 1), **close)


@every_kind
@pytest.mark.parametrize("mode", ["linear", "spherical", "style"])
def test_an_interpolation_ends_in_the_images_of_its_ends(kind, mode):
    pipe = tiny_pipeline(kind)
    if mode == "style" and not pipe.has_styles:
        mode = "linear"
    first, second = latents_of(2).split(1)

    made = pipe.interpolate(first, second, 4, mode, generators(3), output_type="pt", **label(pipe)).images

    assert_close(made[[0, -1]], images_of(pipe, latents_of(2)), **close)
    assert len(made) == 4


@pytest.mark.parametrize("kind", [DENSE, STYLE], ids=" ".join)
def test_a_linear_interpolation_has_the_mean_in_its_middle(kind):
    pipe = tiny_pipeline(kind)

    made = pipe.interpolate(*latents_of(2).split(1), 3, "linear", generators(3), output_type="pt").images

    assert_close(made[1:2], images_of(pipe, latents_of(2).mean(0, keepdim=True)), **close)


def test_an_interpolation_of_styles_has_the_image_of_their_mean_in_its_middle():
    pipe = tiny_pipeline(STYLE, has_noise=False)

    made = pipe.interpolate(*latents_of(2).split(1), 3, "style", output_type="pt").images

    style = pipe.generator.map(latents_of(2)).mean(0)
    sample = pipe.generator.synthesize(style.expand(1, 4, -1)).detach()
    assert_close(made[1:2], ((sample + 1) / 2).clamp(0, 1), **close)


def test_an_arc_between_equally_long_latents_keeps_the_length_and_has_equal_steps():
    first, second = torch.nn.functional.normalize(latents_of(2)).mul(3).split(1)

    arc = slerp(first, second, torch.linspace(0, 1, 6)[:, None])

    assert_close(arc.norm(dim=1), torch.full((6,), 3.0))
    assert_close(torch.cosine_similarity(arc[1:], arc[:-1]), torch.cosine_similarity(arc[:1], arc[1:2]).expand(5))


@every_kind
def test_a_sum_that_takes_away_what_it_adds_is_the_mean_of_the_start(kind):
    pipe = tiny_pipeline(kind)
    start, term = latents_of(3), latents_of(2, seed=1)

    made = pipe.arithmetic(start, term, term, 9, generator=generators(3), output_type="pt", **label(pipe)).images

    assert_close(made[4:5], images_of(pipe, start.mean(0, keepdim=True)), **close)
    assert all(not torch.allclose(made[4], made[place], atol=1e-4) for place in range(9) if place != 4)


@every_kind
def test_a_sum_without_reach_has_equal_neighbours(kind):
    pipe = tiny_pipeline(kind)
    terms = [latents_of(2, seed) for seed in range(3)]

    made = pipe.arithmetic(*terms, 9, reach=0, generator=generators(3), output_type="pt", **label(pipe)).images

    assert_close(made, made[4:5].expand_as(made), **close)


def test_neighbours_of_a_sum_differ_by_no_more_than_the_reach():
    pipe = tiny_pipeline()
    seen, terms = calls_of(pipe), [latents_of(2, seed) for seed in range(3)]

    pipe.arithmetic(*terms, num_images=25, reach=0.5, generator=generators(0))

    start, minus, plus = (term.mean(0) for term in terms)
    around = seen[0] - (start - minus + plus)
    assert_close(around[12], torch.zeros(4), rtol=0, atol=1e-6)
    assert 0.45 < around.max() < 0.5 + 1e-6
    assert -0.5 - 1e-6 < around.min() < -0.45


def test_a_mixture_of_all_layers_is_the_image_of_the_column():
    pipe = tiny_pipeline(STYLE)
    rows, columns = latents_of(2), latents_of(3, seed=1)

    made = pipe.mix(rows, columns, (0, 4), generator=generators(3), output_type="pt").images

    assert_close(made, images_of(pipe, columns).repeat(2, 1, 1, 1), **close)


@pytest.mark.parametrize("layers", [(0, 2), (1, 2), (2, 4)])
@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_a_mixture_takes_some_layers_styles_from_the_column(layers, truncation):
    pipe = tiny_pipeline(STYLE, has_noise=False)
    rows, columns = latents_of(2), latents_of(3, seed=1)

    made = pipe.mix(rows, columns, layers, truncation, output_type="pt").images

    own, other = (torch.lerp(pipe.generator.mean_style, pipe.generator.map(z), truncation) for z in (rows, columns))
    taken = range(*layers)
    styles = [torch.stack([two if k in taken else one for k in range(4)]) for one in own for two in other]
    sample = pipe.generator.synthesize(torch.stack(styles)).detach()
    assert_close(made, ((sample + 1) / 2).clamp(0, 1), **close)


def error_of(pipe, latents, images):
    return (images_of(pipe, latents) - images).square().flatten(1).sum(1)


@pytest.mark.parametrize("kind", [DENSE, CONDITIONAL], ids=" ".join)
def test_a_projection_finds_a_generated_image_back(kind):
    pipe = GANPipeline(tiny_model(*kind, **({"hidden_sizes": [64]} if kind == DENSE else {})))  # few dead ends
    images = images_of(pipe, latents_of(2))

    start, found = (pipe.project(images, steps, generator=generators(8), **label(pipe)) for steps in (0, 200))

    assert (error_of(pipe, found, images) < 0.05 * error_of(pipe, start, images)).all()


def test_a_projection_starts_from_the_nearest_of_random_latents():
    pipe = tiny_pipeline()
    images, starts = images_of(pipe, latents_of(2)), latents_of(16, seed=8)

    found = pipe.project(images, num_steps=0, num_starts=16, generator=generators(8))

    samples = images_of(pipe, starts)
    nearest = [(samples - image).square().flatten(1).sum(1).argmin() for image in images]
    assert torch.equal(found, starts[torch.stack(nearest)])


@every_kind
def test_a_projection_brings_images_nearer_and_leaves_the_generator_as_it_was(kind):
    pipe = tiny_pipeline(kind, has_noise=False)
    images, before = images_of(pipe, latents_of(2)), {k: v.clone() for k, v in pipe.generator.state_dict().items()}

    with torch.no_grad():
        start, found = (pipe.project(images, steps, 0.05, 4, generators(8), **label(pipe)) for steps in (0, 30))

    assert (error_of(pipe, found, images) < error_of(pipe, start, images)).all()
    assert (found.shape, found.requires_grad) == ((2, 4), False)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in pipe.generator.parameters())
    assert_close(dict(pipe.generator.state_dict()), before, rtol=0, atol=0)


TWO = {"first": torch.zeros(1, 4), "second": torch.ones(1, 4)}
THREE = dict.fromkeys(("start", "minus", "plus"), torch.zeros(2, 4))
MIX = {"rows": torch.zeros(2, 4), "columns": torch.zeros(1, 4)}
GREY = torch.zeros(2, 1, 8, 8)


@pytest.mark.parametrize(
    ("kind", "method", "arguments", "message"),
    [
        (DENSE, "__call__", {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        (
            DENSE,
            "__call__",
            {"batch_size": 3, "generator": generators(0, 1)},
            "`generator` must be one .* 3 .*, got 2",
        ),
        (DENSE, "__call__", {"latents": torch.zeros(2, 3)}, r"`latents` must have the shape \(N, 4\), got \(2, 3\)"),
        (DENSE, "__call__", {"output_type": "latent"}, "`output_type` must be pil, np or pt, got 'latent'"),
        *(
            (kind, "__call__", {"truncation": truncation}, rf"`truncation` must lie in \[0, 1\], got {truncation}")
            for kind in (DENSE, STYLE)
            for truncation in (-0.1, 1.5, float("nan"))
        ),
        (
            PROGRESSIVE,
            "__call__",
            {"truncation": 0.5},
            "`truncation` must be 1: ProgressiveGenerator normalises .* 0.5",
        ),
        (DENSE, "__call__", {"class_labels": 0}, "`class_labels` must be unset: the network is unconditional"),
        (CONDITIONAL, "__call__", {}, r"`class_labels` must be given, in 0\.\.3: the network is conditional"),
        (
            CONDITIONAL,
            "__call__",
            {"class_labels": [0, 4]},
            r"`class_labels` must be integers in 0\.\.3, got \[0, 4\]",
        ),
        (CONDITIONAL, "__call__", {"class_labels": -1}, r"`class_labels` must be integers in 0\.\.3, got \[-1\]"),
        (CONDITIONAL, "__call__", {"class_labels": [1, 2], "batch_size": 3}, "must hold 1 or 3 entries, got 2"),
        (CONDITIONAL, "interpolate", TWO, "`class_labels` must be given"),
        (CONDITIONAL, "arithmetic", THREE, "`class_labels` must be given"),
        (CONDITIONAL, "project", {"image": GREY}, "`class_labels` must be given"),
        (DENSE, "interpolate", TWO | {"num_images": 1}, "`num_images` must be at least 2, got 1"),
        (DENSE, "interpolate", TWO | {"mode": "style"}, "`mode` must be one of linear, spherical, got 'style'"),
        (STYLE, "interpolate", TWO | {"mode": "cubic"}, "`mode` must be one of linear, spherical, style, got 'cubic'"),
        (DENSE, "interpolate", TWO | {"second": torch.zeros(2, 4)}, r"`second` must .* \(1, 4\), got \(2, 4\)"),
        *(
            (DENSE, "arithmetic", THREE | {"num_images": n}, f"`num_images` must make a square of odd .*, got {n}")
            for n in (-1, 0, 2, 4, 16)
        ),
        (DENSE, "arithmetic", THREE | {"reach": -1.0}, "`reach` must be at least 0 and finite, got -1.0"),
        (DENSE, "arithmetic", THREE | {"plus": torch.zeros(2, 3)}, r"`plus` must .* \(N, 4\), got \(2, 3\)"),
        *(
            (STYLE, "mix", MIX | {"layers": layers}, r"`layers` must be \(a, b\) with 0 <= a < b <= 4, got")
            for layers in ((0, 5), (-1, 2), (2, 2), (3, 1), (0, 1, 2), 2)
        ),
        (
            DENSE,
            "__call__",
            {"latents": torch.full((2, 4), torch.nan)},
            "`latents` must be finite, got NaN or infinity",
        ),
        (DENSE, "arithmetic", THREE | {"generator": generators(1, 2)}, "`generator` must be one generator, .* a list"),
        (STYLE, "mix", MIX | {"rows": torch.zeros(2, 3)}, r"`rows` must have the shape \(N, 4\), got \(2, 3\)"),
        (DENSE, "mix", MIX, "`mix` needs a generator with styles, got DenseGenerator"),
        (
            DENSE,
            "project",
            {"image": torch.zeros(2, 3, 8, 8)},
            r"`image` must be .* \(N, 1, 8, 8\), got \(2, 3, 8, 8\)",
        ),
        (
            DENSE,
            "project",
            {"image": Image.new("L", (9, 8))},
            r"`image` must be .* \(N, 1, 8, 8\), got \(1, 1, 8, 9\)",
        ),
        (DENSE, "project", {"image": GREY + 2}, r"`image` must lie in \[0, 1\], got 2.0 to 2.0"),
        (
            DENSE,
            "project",
            {"image": GREY, "num_steps": -1},
            "`num_steps` must be at least 0, .* got -1, 256 and 0.05",
        ),
    ],
)
def test_a_bad_argument_is_refused_by_name_and_value(kind, method, arguments, message):
    pipe = tiny_pipeline(kind)

    with pytest.raises(ValueError, match=message):
        getattr(pipe, method)(**arguments)


def test_layers_that_have_not_grown_yet_are_refused():
    pipe = tiny_pipeline(STYLE)
    pipe.generator.grow(0)

    with pytest.raises(ValueError, match=r"`layers` must be \(a, b\) with 0 <= a < b <= 2, got \(2, 4\)"):
        pipe.mix(**MIX | {"layers": (2, 4)})
