"""Which sampler is how good after how many calls of the network? Writes `samplers.json` and the table `samplers.md`.

    python scripts/studies/sampler_study.py runs/ddpm-quick --data zalando-datasets/fashion_mnist --calls 5 10 20
    genhub figure samplers runs/ddpm-quick

Every cell generates the same number of images from the same initial noise, with the config of the repository's own
scheduler, and is stored as soon as it is measured: a stopped study goes on where it was. FD is the Fréchet distance to
the test images in the features of the protocol's first classifier.
"""

import argparse
import inspect
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline

from genhub.commands.generate import DTYPES
from genhub.data import DataConfig, Images, load
from genhub.evaluation.features import cached_features, pinned_spaces
from genhub.evaluation.generation_metrics import Comparison, FrechetDistance
from genhub.evaluation.metrics import Gaussian
from genhub.evaluation.sampling import Sampler, check_sampling_arguments, set_scheduler
from genhub.repository.capabilities import capabilities_of
from genhub.repository.download import download
from genhub.repository.load import AutoPipeline
from genhub.utils.cache import content_hash
from genhub.utils.environment import best_device, device_name, versions
from genhub.utils.files import atomic_write, sha256
from genhub.utils.schedulers import undeclared_options
from genhub.utils.spelling import did_you_mean

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> class of diffusers, and its options
    "DDPM": ("DDPMScheduler", {}),
    "DDIM": ("DDIMScheduler", {}),
    "DPM-Solver++ 2M": ("DPMSolverMultistepScheduler", {"solver_order": 2}),
    "DPM-Solver++ 3M": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DEIS": ("DEISMultistepScheduler", {"sigma_min": 0.003}),  # it ends there, not at 0
    "Heun": ("HeunDiscreteScheduler", {}),
    "SDE-DPM++": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
}
CALLS = (1, 2, 5, 8, 10, 20, 50, 100, 250, 1000, 4000)
ANCESTRAL = "DDPM"


def study(
    repo: str,
    data: str,
    count: int = 2000,
    calls: Sequence[int] = CALLS,
    names: Sequence[str] = tuple(SAMPLERS),
    options: dict[str, Any] | None = None,
    arguments: dict[str, Any] | None = None,
    batch_size: int = 250,
    seed: int = 0,
    dtype: str = "fp32",
    output: Path | None = None,
) -> dict[str, Any]:
    """Measures the cells that are missing in `samplers.json` and returns its content.

    Args:
        calls: of the network, to measure each sampler with; those beyond its number of noise levels are left out.
        names: keys of `SAMPLERS`.
        options: of schedulers, such as `sigma_min`; a scheduler without one ignores it.
        arguments: of the pipeline's call, such as `guidance_scale`.
        output: folder of the results, by default the repository.

    Raises:
        ValueError: an unknown sampler, too few images, a pipeline that takes prompts, or a stored study with other
            settings.
    """
    check_samplers(names, options or {})
    folder, path = download(repo), (output or Path(repo)) / "samplers.json"
    test, space = load(DataConfig(source=data), "test"), next(pinned_spaces())
    assert isinstance(test, Images)
    real = cached_features(space, test.images)
    if count < (least := 2 * (real.shape[1] + 1)):
        raise ValueError(f"`count` must be at least {least}, for the covariance of features of halves, got {count}.")
    pipeline = AutoPipeline.from_pretrained(folder, dtype=DTYPES[dtype]).to(best_device())
    check_sampling_arguments(pipeline, arguments or {})
    arguments = guidance_of(pipeline) | (arguments or {})
    settings = {"images": count, "seed": seed, "batch_size": batch_size, "dtype": dtype, "data": data}
    settings |= {"reference_images": len(test), "options": options or {}, "arguments": arguments}
    settings |= {"repository": content_hash(*(sha256(file) for file in sorted(folder.glob("*/*.safetensors"))))}
    settings |= {"hardware": {"device": device_name(pipeline.device), "threads": torch.get_num_threads()}}
    report: dict[str, Any] = _stored(path, settings) | {"versions": versions()}
    for name, number in missing(report, names, calls, len(pipeline.scheduler)):
        images, cell = measure(pipeline, name, number, test, settings)
        comparison = Comparison(space, real, Gaussian.fit(real), space(images))
        (distance,) = FrechetDistance(("clf",))(comparison)
        report["cells"].append(cell | {"FD": distance.value, "spread": distance.spread})
        print(report["cells"][-1], flush=True)
        atomic_write(path, json.dumps(report, indent=1) + "\n")
        atomic_write(path.with_suffix(".md"), markdown(report))
    return report


def guidance_of(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """Returns the guidance of a call that names none.

    Raises:
        ValueError: the pipeline takes prompts.
    """
    if "prompt" in (capabilities := capabilities_of(pipeline)).inputs:
        raise ValueError(f"`repo` must hold a pipeline that takes no prompts, got {type(pipeline).__name__}.")
    names = ("guidance_scale", "guidance_interval") if capabilities.has_null_class else ()
    return {name: pipeline.config[name] for name in names}


def _stored(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the study stored at `path`, an empty one if there is none.

    Raises:
        ValueError: it has other settings.
    """
    if not path.is_file():
        return settings | {"cells": []}
    report = json.loads(path.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if report[name] != value:
            raise ValueError(f"`{name}` must be {report[name]!r}, as in {path}, got {value!r}; or change `output`.")
    return report


def missing(report: dict, names: Sequence[str], calls: Sequence[int], total: int) -> list[tuple[str, int]]:
    """Returns the samplers and numbers of calls that are not yet measured, the cheapest first."""
    done = {(cell["sampler"], cell["calls"]) for cell in report["cells"]}
    wanted = [(name, _steps(name, number)[1]) for number in sorted(set(calls)) for name in names if number <= total]
    return [cell for cell in dict.fromkeys(wanted) if cell not in done]


def options_of(name: str) -> set[str]:
    """Returns the options that a sampler knows."""
    scheduler = getattr(diffusers, SAMPLERS[name][0])
    return {*inspect.signature(scheduler).parameters, *undeclared_options(scheduler)}


def check_samplers(names: Sequence[str], options: dict[str, Any]) -> None:
    """Raises ValueError for an unknown sampler, or an option that none of them knows."""
    for name in names:
        if name not in SAMPLERS:
            raise ValueError(f"There is no sampler {name!r}{did_you_mean(name, SAMPLERS)}.")
    known = set().union(*map(options_of, names))
    for option in options.keys() - known:
        raise ValueError(f"No sampler has the option `{option}`{did_you_mean(option, known)}.")


def _steps(name: str, calls: int) -> tuple[int, int]:
    """Returns the steps that a sampler takes with at most `calls` calls, and the calls of these steps."""
    if name != "Heun":
        return calls, calls
    steps = (calls + 1) // 2  # two calls for each step but the last
    return steps, 2 * steps - 1


def measure(
    pipeline: DiffusionPipeline, name: str, calls: int, test: Images, settings: dict[str, Any]
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Returns the images of a cell, uint8 (N, C, H, W), and its cost."""
    scheduler, (steps, _) = pipeline.scheduler, _steps(name, calls)
    cls, own = SAMPLERS[name]
    set_scheduler(pipeline, cls, {k: v for k, v in settings["options"].items() if k in options_of(name)} | own)
    channels, height, width = test.images.shape[1:]
    sampler = Sampler(
        pipeline,
        shape=(channels, height, width),
        seed=settings["seed"],  # x_T is the first draw of a batch's generator, so it is the same in all cells
        batch_size=settings["batch_size"],
        classes=capabilities_of(pipeline).num_classes,
        arguments=settings["arguments"] | {"num_inference_steps": steps},
        key=repr([settings[key] for key in ("repository", "hardware", "dtype")]) + repr(pipeline.scheduler),
        is_quiet=True,
    )
    images, seconds = sampler.draw(settings["images"])
    pipeline.register_modules(scheduler=scheduler)
    rate = round(settings["batch_size"] / statistics.median(seconds), 2) if seconds else None
    return images, {"sampler": name, "steps": steps, "calls": calls, "images_per_second": rate}


def cheapest(cells: Sequence[dict]) -> dict:
    """Returns the cell with the fewest calls whose FD is within 5 % or two standard deviations of the best."""
    best = min(cells, key=lambda cell: cell["FD"])

    def is_as_good(cell: dict) -> bool:
        deviation = math.hypot(cell["spread"], best["spread"])
        return cell["FD"] <= max(1.05 * best["FD"], best["FD"] + 2 * deviation)

    return min(filter(is_as_good, cells), key=lambda cell: (cell["calls"], cell["FD"]))


def ratios(cells: Sequence[dict], calls: int) -> dict[str, float]:
    """Returns the FD of each sampler with at most `calls` calls over that of the most ancestral steps measured."""
    ancestral = [cell for cell in cells if cell["sampler"] == ANCESTRAL]
    if not ancestral:
        return {}
    base = max(ancestral, key=lambda cell: cell["calls"])["FD"]
    newest = {c["sampler"]: c for c in sorted(cells, key=lambda c: c["calls"]) if calls - 1 <= c["calls"] <= calls}
    return {name: cell["FD"] / base for name, cell in newest.items()}


def markdown(report: dict) -> str:
    """Renders the table and what follows from it."""
    cells = report["cells"]
    names = [name for name in SAMPLERS if any(cell["sampler"] == name for cell in cells)]
    text = {(c["sampler"], c["calls"]): f"{c['FD']:.2f} ± {c['spread']:.2f} ({c['images_per_second']})" for c in cells}
    lines = [
        f"FD ± sd over halves (images/s), {report['images']:,} images of the same initial noise against "
        f"{report['reference_images']:,}; {report['dtype']}, {report['hardware']['device']}, "
        f"{report['hardware']['threads']} thread(s).",
        f"\n| calls | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for calls in sorted({cell["calls"] for cell in cells}):
        lines.append(f"| {calls:,} | " + " | ".join(text.get((name, calls), "") for name in names) + " |")
    choice = cheapest(cells)
    lines += ["", f"The cheapest within 5 % or 2 sd of the best is {choice['sampler']} with {choice['calls']} calls."]
    steps = max((cell["calls"] for cell in cells if cell["sampler"] == ANCESTRAL), default=0)
    for calls in (10, 20):
        if found := ratios(cells, calls):
            each = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found.items())
            lines.append(f"FD with {calls} calls over that of {steps:,} ancestral steps: {each}.")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo")
    parser.add_argument("--data", required=True, help="Fashion MNIST, as data.source of a recipe")
    parser.add_argument("--count", type=int, default=2000, help="images of each cell (default: 2,000)")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--samplers", nargs="+", default=[*SAMPLERS], metavar="NAME", help=", ".join(SAMPLERS))
    parser.add_argument("--options", type=json.loads, default={}, help="of schedulers: '{\"sigma_min\": 0.02}'")
    parser.add_argument("--arguments", type=json.loads, default={}, help="of the call: '{\"guidance_scale\": 1.25}'")
    parser.add_argument("--batch_size", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--output", type=Path, help="folder of samplers.json (default: the repository)")
    options = vars(parser.parse_args())
    print(markdown(study(names=options.pop("samplers"), **options)))


if __name__ == "__main__":
    main()
