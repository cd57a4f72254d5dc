"""`genhub evaluate`: metrics of generated images by protocol fmnist-eval-1, into `metrics.json` and onto the card."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from genhub.commands.arguments import check_arguments
from genhub.commands.evaluation import MIN_IMAGES, Evaluation
from genhub.commands.subject import Subject, load_subject
from genhub.evaluation import protocol
from genhub.evaluation.denoiser import check_likelihood
from genhub.evaluation.diffusion_likelihood import evaluate_diffusion_likelihood
from genhub.evaluation.reconstruction import can_probe
from genhub.evaluation.sampling import check_sampling_arguments, set_scheduler
from genhub.evaluation.sampling_record import sampling_record
from genhub.recipes.configs import TrainingConfig
from genhub.repository.shown_path import ShownPath
from genhub.training.distributed import accelerator_aside, make_accelerator


@accelerator_aside()
def evaluate(
    repo: str,
    data_source: str | None = None,
    count: int | None = None,
    seed: int | None = None,
    batch_size: int = protocol.BATCH_SIZE,
    scheduler: str | None = None,
    scheduler_arguments: dict[str, Any] | None = None,
    arguments: dict[str, Any] | None = None,
    feature_net: str | None = None,
    cas: int = 0,
    likelihood: int = 0,
    output: str | None = None,
) -> Path:
    """Evaluates a pipeline, or images that are already there; returns the folder with `metrics.json`, the card and the
    closest pairs.

    Under `accelerate launch` all processes generate; the images do not depend on their number.

    Args:
        repo: folder or repository of any pipeline that generates or reconstructs; or a folder of images (subfolders
            are classes), or an `.npz` archive of them.
        data_source: data to compare with, as `data.source` of a recipe; by default the recipe's.
        count: images to generate, by default the protocol's 10,000; of images that are already there, all.
        seed: of sampling; by default 10,000 plus the seed of training.
        scheduler: class of another scheduler, with the config of the pipeline's own.
        scheduler_arguments: values of the scheduler's config to change.
        arguments: further arguments of the pipeline's call, such as `num_inference_steps`.
        feature_net: folder or repository of a `feature-classifier`, for data other than Fashion MNIST; by default one
            is trained, once.
        cas: number of images to train classifiers on, for the classification accuracy score of images of given
            classes; 0 for none.
        likelihood: number of test images to measure the likelihood of, in bits a dimension, under a diffusion model; 0
            for none.
        output: folder of the results; by default the repository if it is a folder with a recipe, else
            `evaluation-<name>`.

    Raises:
        ValueError: the repository, the images, the data or an argument does not fit, before any work; or a generated
            image is not finite.
    """
    check_arguments(count=count, batch_size=batch_size, seed=seed, likelihood=likelihood)
    accelerator = make_accelerator(TrainingConfig(), logs=Path())
    subject = load_subject(repo, accelerator.device)
    _check(subject, data_source, batch_size, seed, cas, accelerator)
    arguments, scheduler_arguments = arguments or {}, scheduler_arguments or {}
    if subject.pipeline is None:
        _check_unset(repo, seed, batch_size, scheduler, likelihood, scheduler_arguments | arguments)
    else:
        set_scheduler(subject.pipeline, scheduler, scheduler_arguments)
        check_sampling_arguments(subject.pipeline, arguments)
    evaluation = Evaluation(subject, subject.target(output), data_source, accelerator)
    _check_data(evaluation, likelihood, cas)
    if subject.images is not None:
        stored = {"images": len(subject.images) if count is None else count}
        evaluation.evaluate_samples(evaluation.stored_images(count), stored, feature_net)
    if subject.capabilities.can("generate"):
        sampler = evaluation.sampler(_sampling_seed(subject, seed), batch_size, arguments)
        count = protocol.COUNT if count is None else count
        evaluation.evaluate_samples(sampler, sampling_record(sampler, count, scheduler_arguments), feature_net)
    if _reconstructs(subject):
        evaluation.evaluate_reconstructions()
    _measure_likelihood(evaluation, likelihood)  # then results are safe before the hours of CAS
    evaluation.write()
    if cas:
        evaluation.evaluate_cas(cas)
    return ShownPath(evaluation.target)


def _sampling_seed(subject: Subject, seed: int | None) -> int:
    """Returns `seed`, or the protocol's for the seed of training."""
    training_seed = 0 if subject.recipe is None else subject.recipe.training.seed
    return protocol.SEED + training_seed if seed is None else seed


def _check_unset(
    repo: str, seed: int | None, batch_size: int, scheduler: str | None, likelihood: int, arguments: dict[str, Any]
) -> None:
    """Raises ValueError if an option is about a pipeline, and the images are already there."""
    is_set = {
        "seed": seed is not None,
        "batch_size": batch_size != protocol.BATCH_SIZE,
        "scheduler": scheduler is not None,
        "likelihood": likelihood != 0,
    }
    given = [*(name for name, value in is_set.items() if value), *arguments]
    if given:
        raise ValueError(f"`{given[0]}` must be unset: the images of {repo} are already there.")


def _check(
    subject: Subject,
    data_source: str | None,
    batch_size: int,
    seed: int | None,
    cas: int,
    accelerator: Accelerator,
) -> None:
    """Raises ValueError if the subject cannot be evaluated, or an argument does not fit."""
    capabilities, repo = subject.capabilities, subject.source
    if subject.pipeline is not None and not (capabilities.can("generate") or capabilities.can("reconstruct")):
        name = type(subject.pipeline).__name__
        raise ValueError(f"{repo} must hold a pipeline that generates or reconstructs images, got {name}.")
    if subject.recipe is None and data_source is None:
        raise ValueError(f"`data` must name the images to compare with: no recipe.yaml of {repo} does.")
    check_arguments(cas=max(cas, 0))
    if cas and cas < MIN_IMAGES:
        raise ValueError(f"`cas` must be 0, or at least {MIN_IMAGES} images, got {cas}.")
    if cas and subject.images is not None and (subject.images.labels is None or cas > len(subject.images)):
        raise ValueError(f"`cas` must be off: {repo} does not hold {cas:,} images with their classes.")
    has_classes = capabilities.num_classes is not None or "prompt" in capabilities.inputs
    if cas and subject.images is None and not has_classes:
        raise ValueError("`cas` must be off: the model is not conditional, so its images have no labels.")
    if cas and accelerator.num_processes > 1:
        raise ValueError("`cas` must be off under several processes: it trains classifiers on one.")


def _reconstructs(subject: Subject) -> bool:
    """Returns whether reconstructions are measured in full, not their distance alone as of diffusion in latents."""
    is_diffusion = subject.pipeline is not None and "scheduler" in subject.pipeline.components
    return subject.capabilities.can("reconstruct") and not is_diffusion


def _check_data(evaluation: Evaluation, likelihood: int, cas: int) -> None:
    """Raises ValueError if the data are not such that reconstructions, likelihood or CAS can be measured."""
    subject, test = evaluation.subject, evaluation.test
    if _reconstructs(subject):
        can_probe(evaluation.train, test)
    if likelihood and subject.pipeline is not None:
        check_likelihood(subject.pipeline, test, likelihood)
    if cas and test.class_names is None and "prompt" in subject.capabilities.inputs:
        raise ValueError("`cas` must be off: the data have no classes with names, to ask for.")


def _measure_likelihood(evaluation: Evaluation, count: int) -> None:
    """Adds the likelihood of `count` test images under a diffusion model, if any."""
    pipeline = evaluation.subject.pipeline
    if count and pipeline is not None and evaluation.accelerator.is_main_process:
        metrics = evaluate_diffusion_likelihood(pipeline, evaluation.test, count, evaluation.tell)
        evaluation.result["figures"] += [metric.to_dict() for metric in metrics]
