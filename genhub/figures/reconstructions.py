"""What an autoencoder makes of images: `reconstructions`, `denoising` and `neighbours`."""

import torch

from genhub import plotting
from genhub.data import Images, to_model_range
from genhub.figures.subject import SPLITS, Subject, class_names, load_subject, scale_for
from genhub.objectives.objective import Step
from genhub.utils.randomness import BatchRandom

COLUMNS, NEAREST = 10, 8  # images beside one another; neighbours of each
UNITS = "mean squared error {:.4f} (pixels in [0, 1])"


def reconstructions(repo: str, count: int = COLUMNS) -> bytes:
    """Draws the first held-out images above what the pipeline makes of them."""
    subject = load_subject(repo, "reconstruct")
    images = subject.images(subject.held_out, count)
    originals, copies = images.images / 255, subject.copies(images)
    error = UNITS.format(squared_error(copies, originals))
    title = f"{subject.name}: {_first(subject, images)} and their reconstructions; {error}"
    return _in_rows({"original": originals, "reconstruction": copies}, title)


def denoising(repo: str, count: int = COLUMNS, seed: int = 0) -> bytes:
    """Draws the first held-out images clean, corrupted as they were for training, and denoised."""
    subject = load_subject(repo, "denoise", "AutoencoderPipeline")
    found = [stage.objective.build(**subject.pipeline.components) for stage in subject.recipe.stages]
    found = [one for one in found if getattr(one, "corruption", "")]
    if not found:
        raise ValueError(
            "`repo` must be trained on corrupted images, with `objective.mask` or `objective.noise` above 0, got "
            f"{subject.name}, whose objective corrupts nothing."
        )
    objective = found[-1]
    images = subject.images(subject.held_out, count)
    draws = BatchRandom("denoising", seed, rows=range(len(images)), total=len(images))
    corrupted = objective.corrupted(to_model_range(images.images), Step(0, 0.0, draws))  # may exceed [-1, 1]
    corrupted = (corrupted + 1) / 2
    clean, denoised = images.images / 255, subject.pipeline.denoise(corrupted, output_type="pt").images.float().cpu()
    error = UNITS.format(squared_error(denoised, clean))
    how = f"({objective.corruption}; seed {seed})"
    title = f"{subject.name}: {_first(subject, images)}, corrupted and denoised {how}; {error}"
    return _in_rows({"clean": clean, "corrupted": corrupted, "denoised": denoised}, title)


def neighbours(repo: str, count: int = 8) -> bytes:
    """Draws the first test images, each with the training images whose hashes differ from its own in the fewest
    bits."""
    subject = load_subject(repo, "search", "AutoencoderPipeline")
    config = subject.model.config
    activation, length = config.get("latent_activation"), config["latent_channels"]
    if activation != "sigmoid" or length > 62:
        raise ValueError(
            f"`repo` must hold a model whose code is made of at most 62 sigmoids, got {length} units with "
            f"`latent_activation` {activation}."
        )
    asked, known = subject.images("test", count), subject.images("train")
    subject.pipeline.index(known.images / 255)
    found = subject.pipeline.search(asked.images / 255, min(NEAREST, len(known)))
    places, distances = found.indices.cpu(), found.distances.cpu().tolist()
    rows = [torch.cat([asked.images[i : i + 1], known.images[places[i]]]) / 255 for i in range(len(asked))]
    named = asked.labels is not None
    names = (
        [class_names(asked)[label] for label in asked.labels] if named else [f"image {i}" for i in range(len(rows))]
    )
    captions = [["asked", *(f"{bits} bit{'s' * (bits != 1)}" for bits in row)] for row in distances]
    title = (
        f"{subject.name}: the first {len(asked)} test images, and beside each the {len(captions[0]) - 1} nearest of "
        f"{len(known):,} training images by hashes of {length} bits; beneath, the bits that differ "
        "(of equally near ones the first)"
    )
    if named and known.labels is not None:
        same = (known.labels[places] == asked.labels[:, None]).double().mean().item()
        title += f"; {same:.0%} are of the class of the image asked for"
    return plotting.png(plotting.named_rows(rows, names, 1 + NEAREST, title, scale_for(rows[0]), captions))


def squared_error(images: torch.Tensor, others: torch.Tensor) -> float:
    """Returns the mean squared error of images, as they are shown."""
    return (images.clamp(0, 1) - others.clamp(0, 1)).square().mean().item()


def _first(subject: Subject, images: Images) -> str:
    return f"the first {len(images)} {SPLITS[subject.held_out]} images"


def _in_rows(sets: dict[str, torch.Tensor], title: str) -> bytes:
    """Draws sets of images beneath one another, by their names, a block of rows for every ten columns."""
    parts = {name: images.split(COLUMNS) for name, images in sets.items()}
    blocks = range(len(next(iter(parts.values()))))
    rows = [parts[name][block] for block in blocks for name in sets]
    columns = max(map(len, rows))
    return plotting.png(plotting.named_rows(rows, [*sets] * len(blocks), columns, title, scale_for(rows[0])))
