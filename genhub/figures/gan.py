"""What the generator of an adversarial game makes of ways, sums and mixtures of latents, how it grew, and how the game
went: `latent-interpolation`, `arithmetic`, `style-mixing`, `growth` and `game`.

Latents i of a seed are those of image i of `genhub generate` with that seed.
"""

import json
import math
from collections.abc import Sequence

import numpy as np
import torch

from genhub import plotting
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.protocol import PROTOCOL, is_fashion_mnist, to_bytes
from genhub.figures.curves import read
from genhub.figures.samples import asked_for
from genhub.figures.subject import Subject, load_subject, scale_for
from genhub.figures.vae import drawn
from genhub.plotting.style import styled
from genhub.utils.randomness import keyed_generator

STRIP, PAIRS = 9, 4  # images of a way; ways, of an unconditional generator
TERMS, EACH, LOOKED_AT = (3, 0, 2), 3, 500  # dress - T-shirt + pullover: a dress gets long sleeves
REACH = 0.25  # of the sum's neighbours
ROWS, COLUMNS = 3, 6  # of `style-mixing`
POINTS = 60  # of a line of `game`, at most
PANELS = {  # of `game`: what the y axis is -> lines -> keys of records
    "D(x), batch mean": {"real images": "discriminator/D(real)", "fakes": "discriminator/D(fake)"},
    "pixels' sd over a batch": {"real images": "discriminator/real_spread", "fakes": "discriminator/spread"},
    "gradient norm": {"discriminator": "discriminator/grad_norm", "generator": "generator/grad_norm"},
}


def latent_interpolation(repo: str, count: int | None = None, seed: int = 0) -> bytes:
    """Draws the ways between pairs of random latents, each by all modes of `GANPipeline.interpolate`.

    Args:
        count: pairs, 4; of a conditional generator one for each class, and pairs of one class.
    """
    subject = load_subject(repo, "arithmetic", "GANPipeline")
    classes = class_names(subject)
    count = count or len(classes) or PAIRS
    modes = ("spherical", "linear", *(["style"] if subject.pipeline.has_styles else []))
    latents = latents_of(subject, seed, range(2 * count))
    rows, names = [], []
    for pair in range(count):
        label = pair % len(classes) if classes else None
        for mode in modes:
            noise = keyed_generator("figure", seed)
            ends = latents[2 * pair : 2 * pair + 2].split(1)
            way = subject.pipeline.interpolate(*ends, STRIP, mode, noise, label, output_type="pt")
            rows.append(way.images.float().cpu())
            names.append(f"{classes[label] if classes else f'{2 * pair} to {2 * pair + 1}'}, {mode}")
    captions = [[]] * (len(rows) - 1) + [[f"{place / (STRIP - 1):g}" for place in range(STRIP)]]
    title = (
        f"{subject.name}: from one random latent to another at equal steps, {'of one class, ' * bool(classes)}along "
        "the arc between them (spherical) and the line (linear)"
        + ", and on the line between their styles (style)" * subject.pipeline.has_styles
        + "; the network normalises latents, so arc and line pass the same images at another pace"
        * subject.model.has_normalized_latents
        + f"; seed {seed}, not selected"
    )
    return plotting.png(plotting.named_rows(rows, names, STRIP, title, scale_for(rows[0], 56), captions))


def latents_of(subject: Subject, seed: int, places: Sequence[int]) -> torch.Tensor:
    """Returns the latents of a seed at `places`, (N, L)."""
    length = subject.model.config["latent_channels"]
    return torch.cat([torch.randn(1, length, generator=keyed_generator("image", seed, place)) for place in places])


def class_names(subject: Subject) -> Sequence[str]:
    """Returns the names of the classes that the generator is asked for, none of an unconditional one."""
    known = subject.model.config.get("num_class_embeds")
    return asked_for(subject.recipe, subject.pipeline, known)[1] if known else ()


def arithmetic(repo: str, seed: int = 0) -> bytes:
    """Draws a sum of latents, each term the mean of three, and the sum's neighbours (Radford et al. 2015, arXiv
    1511.06434, Fig. 7).

    Of an unconditional generator of Fashion MNIST, the terms are the images that the classifier of the protocol is
    surest of for three classes; of any other, the first ones of the seed.
    """
    subject = load_subject(repo, "arithmetic", "GANPipeline")
    classes = class_names(subject)
    train = None if classes else subject.images("train", 500)
    if train is not None and is_fashion_mnist(train.images):
        images = drawn(subject, LOOKED_AT, seed)
        space = next(pinned_spaces(subject.pipeline.device))
        chances = space.probabilities(space(to_bytes(images, tuple(train.images.shape[1:]))))  # (N, classes)
        chances = chances[:, TERMS]
        places = chances.argsort(dim=0, descending=True, stable=True)[:EACH].T.tolist()
        texts = [[f"{chance:.2f}" for chance in chances[of, term].tolist()] for term, of in enumerate(places)]
        names = [train.class_names[label] for label in TERMS]
        how = (
            f"latents are the {EACH} of {LOOKED_AT} that the classifier of {PROTOCOL} is surest of, beneath them its "
            f"probability; seed {seed}, not selected otherwise"
        )
    else:
        images = drawn(subject, 3 * EACH, seed, 0 if classes else None)
        places = torch.arange(3 * EACH).view(3, EACH).tolist()
        texts = [[f"latent {place}" for place in of] for of in places]
        names = [f"{of[0]} to {of[-1]}" for of in places]
        which = f", all of class {classes[0]}" if classes else ""
        how = f"latents are the first ones, whatever they show{which}; seed {seed}, not selected"
    terms, asked = [latents_of(subject, seed, of) for of in places], {"class_labels": 0} if classes else {}

    def shown(*terms, **options):
        noise = keyed_generator("figure", seed)
        return subject.pipeline.arithmetic(*terms, generator=noise, output_type="pt", **asked, **options).images.cpu()

    around = shown(*terms, reach=REACH).split(3)
    nothing, ground = torch.zeros_like(terms[0]), torch.full_like(images[:1], plotting.GREY / 255)
    means = [shown(term, nothing, nothing, num_images=1) for term in terms]
    rows = [torch.cat([images[of], *end]) for of, *end in zip(places, means, [ground] * 3, around, strict=True)]
    captions = [[*text, "mean", "", "", "the sum" * (term == 1), ""] for term, text in enumerate(texts)]
    title = (
        f"{subject.name}: ({names[0]}) - ({names[1]}) + ({names[2]}), each the mean of {EACH} latents; at the right "
        f"the sum, amid neighbours that differ from it by up to {REACH} in each number; {how}"
    )
    signed = [f"{sign}{name}" for sign, name in zip(("", "- ", "+ "), names, strict=True)]
    return plotting.png(plotting.named_rows(rows, signed, EACH + 5, title, scale_for(images), captions))


def style_mixing(repo: str, count: int = COLUMNS, seed: int = 0) -> bytes:
    """Draws images that take some of their styles from others: the coarse ones, the middle ones and the fine ones
    (Karras et al. 2018, arXiv 1812.04948, Fig. 3).

    Args:
        count: columns.
    """
    subject = load_subject(repo, "mix", "GANPipeline")
    if not subject.pipeline.has_styles:
        raise ValueError(
            f"`repo` must hold a generator with styles, such as StyleGANGenerator, got {type(subject.model).__name__}."
        )
    layers = subject.model.layers_in_use
    own, other = latents_of(subject, seed, range(ROWS + count)).split([ROWS, count])

    def mixed(rows, columns, between):
        noise = keyed_generator("figure", seed)  # the same in all images
        return subject.pipeline.mix(rows, columns, between, generator=noise, output_type="pt").images.float().cpu()

    sources, heads = (mixed(own[:1], latents, (0, layers)) for latents in (own, other))
    corner = torch.full_like(heads[:1], plotting.GREY / 255)
    rows, names = [], []
    for name, between in blocks_of(layers).items():
        low, high = (subject.model.config["base_size"] * 2 ** (layer // 2) for layer in (between[0], between[1] - 1))
        rows.append(torch.cat([corner, heads]))
        names.append(f"{name}, {low} x {low}" + f" to {high} x {high}" * (low < high))
        for source, row in zip(sources.split(1), mixed(own, other, between).split(count), strict=True):
            rows.append(torch.cat([source, row]))
            names.append("")
    title = (
        f"{subject.name}: images of the left column, with the styles of those above them in the layers "
        f"named; noise is the same in all; seed {seed}, not selected"
    )
    return plotting.png(plotting.named_rows(rows, names, count + 1, title, scale_for(heads, 56)))


def blocks_of(layers: int) -> dict[str, tuple[int, int]]:
    """Returns which layers are coarse, middle and fine: a quarter, a quarter and the rest, as the paper's 4, 4 and 10
    of 18; a network of two layers has no fine ones."""
    quarter = max(1, layers // 4)
    ends = {"coarse": (0, quarter), "middle": (quarter, 2 * quarter), "fine": (2 * quarter, layers)}
    return {name: (start, stop) for name, (start, stop) in ends.items() if start < stop}


def growth(repo: str, count: int = 8, seed: int = 0) -> bytes:
    """Draws the images of the same latents at each level of a generator that grows, and half-way between levels.

    Args:
        count: latents.
    """
    subject = load_subject(repo, "mix", "GANPipeline")
    generator = subject.model
    if not callable(getattr(type(generator), "grow", None)):
        raise ValueError(
            f"`repo` must hold a generator that grows, such as ProgressiveGenerator, got {type(generator).__name__}."
        )
    rows, names = [], []
    for level in range(generator.level + 1):
        size = generator.config["base_size"] * 2**level
        generator.grow(level)
        for alpha in (0.5, 1.0) if level else (1.0,):
            generator.alpha.fill_(alpha)
            rows.append(drawn(subject, count, seed))
            names.append(f"{size} x {size}" + ", half faded in" * (alpha < 1))
    height, width = rows[0].shape[2:]
    is_cut = (height, width) != (size, size) and level == len(generator.blocks) - 1
    title = (
        f"{subject.name}: the same latents at each level, all of the finished network: lower levels are as later "
        "training left them, not as they were when they were the newest"
        + f"; of {size} x {size} pixels the middle {height} x {width} are shown" * is_cut
        + f"; seed {seed}, not selected"
    )
    return plotting.png(plotting.named_rows(rows, names, count, title, scale_for(rows[0], 56)))


def game(repo: str) -> bytes:
    """Draws what the two players of a run took images for, how far these spread and how steep their losses were, and
    marks the warnings of the run."""
    panels, title, warnings = game_curves(repo, read(repo, "training/metrics.jsonl"))
    chart = plotting.chart(panels, title)
    for axes in chart.axes:
        for number, (name, places) in enumerate(warnings.items()):
            dashes = (3 * number, (3, 6))  # of three warnings at one place, all are seen
            for place in places:
                axes.axvline(place, color=plotting.COLOURS[2 + number], linestyle=dashes, linewidth=1.6, label=name)
    handles, names = chart.axes[0].get_legend_handles_labels()
    shown = dict(sorted(zip(names, handles, strict=True), key=lambda pair: pair[0] in warnings))
    with styled():  # on white, as the search for the best place knows no lines across the panel
        ground = {"frameon": True, "framealpha": 1, "edgecolor": "white"}
        chart.axes[0].legend(shown.values(), shown.keys(), loc="best", handlelength=3, **ground)
    return plotting.chart_png(chart)


def game_curves(repo: str, text: str | None) -> tuple[list[plotting.Panel], str, dict[str, list[float]]]:
    """Returns the panels, the title and the warnings of `game`, name -> places on the x axis, from the `text` of
    training/metrics.jsonl.

    Raises:
        ValueError: there is no such file, or no record of a game in it.
    """
    if text is None:
        raise ValueError(f"{repo} has no training/metrics.jsonl: it stays where the model was trained.")
    everything = [json.loads(line) for line in text.splitlines()]
    records = [record for record in everything if "discriminator/D(real)" in record]
    if not records:
        raise ValueError(
            f"{repo} has no record of discriminator/D(real) in training/metrics.jsonl: only adversarial games have."
        )
    each = math.ceil(len(records) / POINTS)
    panels = []
    for y_label, lines in PANELS.items():
        curves = [means(name, key, records, each) for name, key in lines.items()]
        is_log = y_label == "gradient norm" and all(y > 0 for line in curves for y in line.y)
        panels.append(plotting.Panel(curves, "thousands of real images seen", y_label, log_y=is_log, x_start=0))
    steps, images = ([0, *(record[key] for record in records)] for key in ("step", "images"))
    warnings: dict[str, list[float]] = {}
    for record in everything:
        if "warning" in record:
            place = float(np.interp(record["step"], steps, images)) / 1000
            warnings.setdefault(record["warning"], []).append(place)
    title = "The game while training" + f"; each point is the mean of {each} records" * (each > 1)
    return panels, title + "; dashed: warnings" * bool(warnings), warnings


def means(name: str, key: str, records: list[dict], each: int) -> plotting.Line:
    """Returns the line of `key` against thousands of images: a point for `each` of the records that have it."""
    found = [(record["images"] / 1000, record[key]) for record in records if key in record]
    parts = [found[start : start + each] for start in range(0, len(found), each)]
    points = [[sum(numbers) / len(part) for numbers in zip(*part, strict=True)] for part in parts]
    return plotting.Line(name, x=[x for x, _ in points], y=[y for _, y in points])
