"""The latents and styles of a GAN's generator: `latent-interpolation`, `arithmetic`, `style-mixing` and `growth`.

Latent i of a seed is that of image i of `genhub generate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from genhub import plotting
from genhub.data import Images
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.protocol import PROTOCOL, is_fashion_mnist, to_bytes
from genhub.evaluation.sampling import sample
from genhub.figures.subject import Subject, blend, label_names, load_subject, pixels, scale_for, shape_of
from genhub.utils.randomness import keyed_generator

STRIP, PAIRS = 9, 4  # images of an interpolation; interpolations, if the generator is unconditional
OPERANDS = (3, 0, 2)  # classes of Fashion MNIST: dress - T-shirt + pullover, a dress with long sleeves
PER_OPERAND, EXAMINED = 3, 500  # latents of each operand; samples searched for each class
REACH = 0.25  # of the result's neighbours
ROWS, COLUMNS = 3, 6  # of `style-mixing`


def latent_interpolation(repo: str, count: int | None = None, seed: int = 0) -> bytes:
    """Draws interpolations between random latents: spherical, linear, and by style.

    Below them stands the interpolation of the pixels of both images, which only lays one over the other.

    Args:
        count: pairs, 4; one for each class, and within it, if the generator is conditional.
    """
    subject = load_subject(repo, "arithmetic", "GANPipeline")
    classes, pipeline = subject.class_names, subject.pipeline
    count = count or len(classes) or PAIRS
    modes = ["spherical", "linear", "style"] if pipeline.has_styles else ["spherical", "linear"]
    latents = draw_latents(subject, seed, range(2 * count))
    rows, names = [], []
    for pair in range(count):
        label, name = None, f"{2 * pair} to {2 * pair + 1}"
        if classes:
            label = pair % len(classes)
            name = classes[label]
        ends = latents[2 * pair : 2 * pair + 2].split(1)
        for mode in modes:
            noise = shared_noise(seed)
            rows.append(pixels(pipeline.interpolate(*ends, STRIP, mode, noise, label, output_type="pt")))
            names.append(f"{name}, {mode}")
        rows.append(blend(rows[-1][[0, -1]], STRIP))
        names.append(f"{name}, pixels")
    captions = [[]] * (len(rows) - 1) + [[f"{step / (STRIP - 1):g}" for step in range(STRIP)]]
    title = f"{subject.name}: interpolation between random latents at equal steps"
    if classes:
        title += ", within a class"
    title += ", along the arc between them (spherical), the line (linear)"
    if pipeline.has_styles:
        title += ", along the line between their styles (style)"
    title += ", and between the pixels of both images (pixels)"
    if pipeline.generator.has_normalized_latents:
        title += "; the network normalises latents, so arc and line pass through the same images at different speeds"
    title += f"; seed {seed}, uncurated"
    return plotting.png(plotting.image_rows(rows, names, STRIP, title, scale_for(rows[0], 56), captions))


def draw_latents(subject: Subject, seed: int, indices: Sequence[int]) -> torch.Tensor:
    """Returns the latents (N, L) of the images that a seed gives at `indices`."""
    length = subject.pipeline.generator.config["latent_channels"]
    return torch.cat([torch.randn(1, length, generator=keyed_generator("image", seed, index)) for index in indices])


def shared_noise(seed: int) -> torch.Generator:
    """Returns the source of the noise that all images of a row, or of a figure, have in common."""
    return keyed_generator("figure", seed)


@dataclass(frozen=True)
class Operand:
    """The mean of some latents.

    Args:
        indices: of the latents.
        images: of the latents, (N, C, H, W).
        captions: of the images.
    """

    name: str
    indices: list[int]
    images: torch.Tensor
    captions: list[str]


def arithmetic(repo: str, seed: int = 0) -> bytes:
    """Draws the sum of latents start - minus + plus, with its operands and its neighbours.

    Each operand is the mean of three latents (Radford et al. 2015, arXiv 1511.06434, Fig. 7). If the generator is
    unconditional and was trained on Fashion MNIST, their images are the surest ones of a class according to the
    classifier of the protocol; otherwise they are the first latents of the seed.
    """
    subject = load_subject(repo, "arithmetic", "GANPipeline")
    operands, source = choose_operands(subject, seed)
    means = [draw_latents(subject, seed, operand.indices).mean(0, keepdim=True) for operand in operands]
    label = {"class_labels": 0} if subject.is_conditional else {}

    def compute(start: torch.Tensor, minus: torch.Tensor, plus: torch.Tensor, **options) -> torch.Tensor:
        options |= {"generator": shared_noise(seed), "output_type": "pt", **label}
        return pixels(subject.pipeline.arithmetic(start, minus, plus, **options))

    zero = torch.zeros_like(means[0])
    results = compute(*means, reach=REACH).split(3)
    rows, captions = [], []
    for operand, mean, result in zip(operands, means, results, strict=True):
        gap = plotting.blank(operand.images)
        rows.append(torch.cat([operand.images, compute(mean, zero, zero, num_images=1), gap, result]))
        captions.append([*operand.captions, "mean"])
    captions[1] += ["", "", "result", ""]
    first, second, third = (operand.name for operand in operands)
    title = (
        f"{subject.name}: ({first}) - ({second}) + ({third}), each the mean of {PER_OPERAND} latents; on the right "
        f"the result, amid neighbours that differ from it by up to {REACH} in each number; {source}"
    )
    names = [first, f"- {second}", f"+ {third}"]
    return plotting.png(plotting.image_rows(rows, names, PER_OPERAND + 5, title, scale_for(rows[0]), captions))


def choose_operands(subject: Subject, seed: int) -> tuple[list[Operand], str]:
    """Returns the operands of `arithmetic`, and in words where their latents come from."""
    train = None if subject.is_conditional else subject.images("train", 500)
    if train is not None and is_fashion_mnist(train.images):
        source = (
            f"latents are the {PER_OPERAND} of {EXAMINED} that the classifier of {PROTOCOL} is surest of (captions: "
            f"its probability); seed {seed}, otherwise uncurated"
        )
        return classified_operands(subject, train, seed), source
    source = f"latents are the first ones of seed {seed}, uncurated"
    if subject.is_conditional:
        source += f"; all are of class {subject.class_names[0]}"
    return first_operands(subject, seed), source


def classified_operands(subject: Subject, train: Images, seed: int) -> list[Operand]:
    """Returns the operands `OPERANDS`, of the images that the classifier of the protocol is surest of."""
    images = sample(subject.pipeline, EXAMINED, seed)
    space = next(pinned_spaces(subject.pipeline.device))
    probabilities = space.probabilities(space(to_bytes(images, shape_of(train))))  # (N, classes)
    operands = []
    for label in OPERANDS:
        indices = probabilities[:, label].argsort(descending=True, stable=True)[:PER_OPERAND].tolist()
        captions = [f"{probability:.2f}" for probability in probabilities[indices, label].tolist()]
        operands.append(Operand(label_names(train)[label], indices, images[indices], captions))
    return operands


def first_operands(subject: Subject, seed: int) -> list[Operand]:
    """Returns operands of the first latents of the seed, of the first class if the generator is conditional."""
    total = len(OPERANDS) * PER_OPERAND
    images = sample(subject.pipeline, total, seed, labels=[0] * total if subject.is_conditional else None)
    operands = []
    for start in range(0, total, PER_OPERAND):
        indices = list(range(start, start + PER_OPERAND))
        captions = [f"latent {index}" for index in indices]
        operands.append(Operand(f"{indices[0]} to {indices[-1]}", indices, images[indices], captions))
    return operands


def style_mixing(repo: str, count: int = COLUMNS, seed: int = 0) -> bytes:
    """Draws images that take their coarse, middle or fine styles from others.

    After Karras et al. 2018, arXiv 1812.04948, Fig. 3.

    Args:
        count: columns.
    """
    subject = load_subject(repo, "mix", "GANPipeline with StyleGANGenerator")
    generator = subject.pipeline.generator
    own, other = draw_latents(subject, seed, range(ROWS + count)).split([ROWS, count])

    def mix(rows: torch.Tensor, columns: torch.Tensor, layers: tuple[int, int]) -> torch.Tensor:
        noise = shared_noise(seed)
        return pixels(subject.pipeline.mix(rows, columns, layers, generator=noise, output_type="pt"))

    sources, heads = (mix(own[:1], latents, (0, generator.layers_in_use)) for latents in (own, other))
    rows, names = [], []
    for name, (start, stop) in split_layers(generator.layers_in_use).items():
        low, high = (generator.config["base_size"] * 2 ** (layer // 2) for layer in (start, stop - 1))
        rows.append(torch.cat([plotting.blank(heads), heads]))
        names.append(f"{name}, {low} x {low}" if low == high else f"{name}, {low} x {low} to {high} x {high}")
        for source, row in zip(sources.split(1), mix(own, other, (start, stop)).split(count), strict=True):
            rows.append(torch.cat([source, row]))
            names.append("")
    title = (
        f"{subject.name}: images of the left column, with the styles of the images at the top of each block in the "
        f"layers named; noise is the same in all; seed {seed}, uncurated"
    )
    return plotting.png(plotting.image_rows(rows, names, count + 1, title, scale_for(heads, 56)))


def split_layers(layers: int) -> dict[str, tuple[int, int]]:
    """Splits layers into coarse, middle and fine, (start, stop): a quarter, a quarter and the rest, as the paper's 4,
    4 and 10 of 18; two layers have no fine ones."""
    quarter = max(1, layers // 4)
    ranges = {"coarse": (0, quarter), "middle": (quarter, 2 * quarter), "fine": (2 * quarter, layers)}
    return {name: (start, stop) for name, (start, stop) in ranges.items() if start < stop}


def growth(repo: str, count: int = 8, seed: int = 0) -> bytes:
    """Draws the same latents at each level of a generator that grows.

    Between two levels, the newer one is half faded in.

    Args:
        count: latents.
    """
    subject = load_subject(repo, "arithmetic", "GANPipeline")
    generator = subject.pipeline.generator
    if "level" not in generator.config:
        raise ValueError(
            f"`repo` must hold a generator that grows, such as ProgressiveGenerator, got {type(generator).__name__}."
        )
    rows, names = [], []
    for level in range(generator.level + 1):
        size = generator.config["base_size"] * 2**level
        generator.grow(level)
        if level:
            generator.alpha.fill_(0.5)
            rows.append(sample(subject.pipeline, count, seed))
            names.append(f"{size} x {size}, half faded in")
        generator.alpha.fill_(1.0)
        rows.append(sample(subject.pipeline, count, seed))
        names.append(f"{size} x {size}")
    height, width = rows[0].shape[2:]
    title = (
        f"{subject.name}: the same latents at each level of the finished network; lower levels are as later training "
        "left them, not as they were when they were the newest"
    )
    if (height, width) != (size, size) and level == len(generator.blocks) - 1:
        title += f"; of {size} x {size} pixels the middle {height} x {width} are shown"
    title += f"; seed {seed}, uncurated"
    return plotting.png(plotting.image_rows(rows, names, count, title, scale_for(rows[0], 56)))
