"""`genhub evaluate`: metrics of a saved pipeline by protocol fmnist-eval-1, into `metrics.json` and onto the card."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from diffusers import DiffusionPipeline

from genhub import recipes
from genhub.commands.evaluation import MIN_IMAGES, Evaluation
from genhub.evaluation import protocol
from genhub.evaluation.denoiser import check_likelihood
from genhub.evaluation.diffusion_likelihood import evaluate_diffusion_likelihood
from genhub.evaluation.sampling import check_sampling_arguments, set_scheduler
from genhub.recipes.configs import TrainingConfig
from genhub.recipes.recipe import Recipe
from genhub.repository.capabilities import capabilities_of
from genhub.repository.load import AutoPipeline, download
from genhub.repository.save import finish_save
from genhub.training.distributed import make_accelerator


def evaluate(
    repo: str,
    data_source: str | None = None,
    count: int = protocol.COUNT,
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
    """Evaluates the pipeline of `repo`; returns the folder with `metrics.json`, the card and the closest pairs.

    Under `accelerate launch` all processes generate; the images do not depend on their number.

    Args:
        data_source: data to compare with, as `data.source` of a recipe; by default the recipe's.
        count: images to generate; the protocol demands 10,000.
        seed: of sampling; by default 10,000 plus the seed of training.
        scheduler: class of another scheduler, with the config of the pipeline's own.
        scheduler_arguments: values of the scheduler's config to change.
        arguments: further arguments of the pipeline's call, such as `num_inference_steps`.
        feature_net: folder or repository of a `feature-classifier`, for data other than Fashion MNIST; by default one
            is trained, once.
        cas: number of images to train classifiers on, for the classification accuracy score of a conditional model; 0
            for none.
        likelihood: number of test images to measure the likelihood of, in bits a dimension, under a diffusion model; 0
            for none.
        output: folder of the results; by default the repository if it is a folder, else `evaluation-<name>`.

    Raises:
        ValueError: the repository, the data or an argument does not fit, before any work; or a generated image is not
            finite.
    """
    accelerator = make_accelerator(TrainingConfig(), logs=Path())
    finish_save(Path(repo).expanduser())
    folder = download(repo)
    if not (folder / "recipe.yaml").is_file():
        raise ValueError(f"The repository {repo} has no recipe.yaml, which names its training data.")
    recipe: Recipe = recipes.load(folder)
    pipeline = AutoPipeline.from_pretrained(folder).to(accelerator.device)
    pipeline.set_progress_bar_config(disable=True)
    arguments, scheduler_arguments = arguments or {}, scheduler_arguments or {}
    set_scheduler(pipeline, scheduler, scheduler_arguments)
    _check(repo, pipeline, arguments, cas, accelerator)
    evaluation = Evaluation(pipeline, folder, recipe, _output_folder(repo, folder, output), data_source, accelerator)
    if likelihood:
        check_likelihood(pipeline, evaluation.test, likelihood)
    capabilities = capabilities_of(pipeline)
    if capabilities.can("generate"):
        seed = protocol.SEED + recipe.training.seed if seed is None else seed
        evaluation.evaluate_samples(count, seed, batch_size, arguments, scheduler_arguments, feature_net)
    if capabilities.can("reconstruct"):
        evaluation.evaluate_reconstructions()
    _measure_likelihood(evaluation, likelihood)
    evaluation.write()
    if cas:
        evaluation.evaluate_cas(cas)
        evaluation.write()
    return evaluation.target


def _check(repo: str, pipeline: DiffusionPipeline, arguments: dict[str, Any], cas: int, accelerator: Accelerator):
    """Raises ValueError if the pipeline cannot be evaluated, or does not take the arguments."""
    capabilities, name = capabilities_of(pipeline), type(pipeline).__name__
    if not (capabilities.can("generate") or capabilities.can("reconstruct")):
        raise ValueError(f"{repo} must hold a pipeline that generates or reconstructs images, got {name}.")
    check_sampling_arguments(pipeline, arguments)
    if cas and cas < MIN_IMAGES:
        raise ValueError(f"`cas` must be 0, or at least {MIN_IMAGES} images, got {cas}.")
    if cas and capabilities.num_classes is None:
        raise ValueError("`cas` must be off: the model is not conditional, so its images have no labels.")
    if cas and accelerator.num_processes > 1:
        raise ValueError("`cas` must be off under several processes: it trains classifiers on one.")


def _measure_likelihood(evaluation: Evaluation, count: int) -> None:
    """Adds the likelihood of `count` test images under a diffusion model, if any."""
    if count and evaluation.accelerator.is_main_process:
        metrics = evaluate_diffusion_likelihood(evaluation.pipeline, evaluation.test, count, evaluation.tell)
        evaluation.result["figures"] += [metric.to_dict() for metric in metrics]


def _output_folder(repo: str, folder: Path, output: str | None) -> Path:
    if output is not None:
        return Path(output)
    return folder if Path(repo).expanduser().is_dir() else Path(f"evaluation-{repo.split('/')[-1]}")
