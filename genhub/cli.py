"""The command line: `genhub train | generate | evaluate | figure | page | demo | push | recipes | doctor`.

A command calls one function of the package and prints lines about its result. Nothing heavy is imported before that.
"""

import os
import sys

try:
    HERE = os.getcwd()
except FileNotFoundError:  # it was removed
    HERE = ""
if __name__ == "__main__" and sys.path[0] in ("", HERE):  # `python -m`: a stranger's folder shadows no module
    folder = sys.path.pop(0)
    sys.path += [folder] if __file__ == os.path.join(folder, "genhub", "cli.py") else []  # a clone, not installed

import argparse  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from genhub.commands.errors import print_once, reason_of  # noqa: E402
from genhub.commands.options import make_parser, refuse_options  # noqa: E402
from genhub.commands.overrides import split_overrides  # noqa: E402

ENOUGH_IMAGES = 1300  # for a tenth of them to be enough for an evaluation


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 success, 1 a user's error, 2 wrong usage, 128 + n signal n."""
    try:
        words, overrides = split_overrides(sys.argv[1:] if arguments is None else arguments)
        options, unknown = make_parser(words).parse_known_args(words)
        if unknown and options.command == "train":
            known = "--output_dir, --from, --resume, --auto_resume, --trust_code, or --section.key VALUE"
            raise ValueError(f"There is no option {unknown[0]!r}; known are {known}.")
        if options.command not in ("train", "generate", "evaluate"):
            unknown += [f"--{key}" for key in overrides]
        if unknown:
            refuse_options(options.parser, unknown)
        return RUN[options.command](options, overrides)
    except KeyboardInterrupt:
        print("genhub: stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        if (reason := reason_of(error)) is None:
            raise
        print_once(f"genhub: error: {reason}")
        return 1


def _train(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from accelerate import PartialState

    from genhub.repository.metrics import read_metrics
    from genhub.training.run import TrainingStopped, train

    if options.folder and options.output_dir:
        raise ValueError(f"The folder must be given once, got {options.folder} and --output_dir {options.output_dir}.")
    if options.trust_code and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    more = {name: value for name in ("trust_code", "auto_resume", "start_from") if (value := getattr(options, name))}
    try:
        folder = train(options.recipe, options.output_dir or options.folder, options.resume, overrides, **more)
    except TrainingStopped as stop:
        print_once(f"genhub: {stop}")
        return stop.exit_code
    if PartialState().is_main_process:
        print(f"Saved the repository {folder}\n  card     {folder / 'README.md'}")
        if (folder / "samples.png").is_file():
            print(f"  samples  {folder / 'samples.png'}")
            metrics = read_metrics(folder / "metrics.json")
            generate = [] if "reconstructions" in metrics["sampling"] else [f"genhub generate {folder}"]
            can_evaluate = metrics["training"]["train_images"] >= ENOUGH_IMAGES
            if advice := generate + [f"genhub evaluate {folder}"] * can_evaluate:
                print(f"Next: {'    or: '.join(advice)}")
        print(f"To share it: genhub push {folder} YOUR_NAME/{folder.name}")
    return 0


def _sampling(options: argparse.Namespace, overrides: dict[str, object]) -> dict[str, Any]:
    """Returns the arguments of `generate` and `evaluate` that say how images are sampled."""
    sections: dict[str, dict[str, object]] = {"scheduler": {}, "pipeline": {}}
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if section not in sections:
            raise ValueError(
                f"There is no option '--{key}'; known are --scheduler.KEY VALUE and --pipeline.KEY VALUE."
            )
        sections[section][name] = value
    short = {"num_inference_steps": options.steps}
    short |= {"guidance_scale": options.guidance_scale, "truncation": options.truncation}
    arguments = sections["pipeline"] | {name: value for name, value in short.items() if value is not None}
    return {
        "batch_size": options.batch_size,
        "scheduler": options.scheduler,
        "scheduler_arguments": sections["scheduler"],
        "arguments": arguments,
    }


def _generate(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from genhub.commands.generate import generate

    labels = None if options.class_labels is None else [label.strip() for label in options.class_labels.split(",")]
    sampling = _sampling(options, overrides)
    edit = {"strength": options.strength, "operator": options.operator}
    sampling["arguments"] |= {name: value for name, value in edit.items() if value is not None}
    path = generate(
        options.repo,
        count=options.count,
        seed=options.seed,
        class_labels=labels,
        prompts=options.prompt,
        image=options.image,
        mask_image=options.mask_image,
        output=options.output,
        folder=options.folder,
        device=options.device,
        dtype=options.dtype,
        **sampling,
    )
    print(f"Wrote {path}")
    return 0


def _evaluate(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from accelerate import PartialState

    from genhub.commands.evaluate import evaluate
    from genhub.training.run import TrainingStopped

    try:
        folder = evaluate(
            options.repo,
            data_source=options.data,
            count=options.count,
            seed=options.seed,
            feature_net=options.feature_net,
            cas=options.cas,
            likelihood=options.likelihood,
            output=options.output,
            **_sampling(options, overrides),
        )
    except TrainingStopped as stop:
        print_once("genhub: stopped while a classifier was trained; the same command continues.")
        return stop.exit_code
    if PartialState().is_main_process:
        _print_evaluation(folder)
    return 0


def _print_evaluation(folder: Path) -> None:
    from genhub.repository.card_results import to_show
    from genhub.repository.metrics import read_metrics

    metrics = read_metrics(folder / "metrics.json")
    newest = metrics["evaluations"][-1]
    print(newest["protocol"] + ("" if newest["complete"] else ", reduced: not comparable with the full protocol"))
    for metric in newest["figures"]:
        name = f"{metric['name']} ({metric['space']})" if metric["space"] else metric["name"]
        spread = "" if metric["spread"] is None else f" ± {metric['spread']:.2g}"
        print(f"  {name}: {metric['value']:.4g}{spread}")
    print(f"Wrote {folder / 'metrics.json'}\n  card           {folder / 'README.md'}")
    if to_show(metrics) != newest:
        print("  The card still shows the evaluation that followed the whole protocol.")
    elif (folder / "closest.png").is_file():
        print(f"  closest pairs  {folder / 'closest.png'}")


def _figure(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from genhub.commands.figure import figure

    names = ("output", "steps", "seed", "count", "against")
    path = figure(options.name, options.repo, **{name: getattr(options, name) for name in names})
    print(f"Wrote {path}")
    return 0


def _page(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from genhub.commands.page import blind, page, serve
    from genhub.utils.port import check_port

    if options.serve is not None:
        check_port(options.serve)  # before minutes of work
    if options.blind and options.repos:
        raise ValueError(f"`blind` must be given without other repositories, got {options.repos}.")
    if options.blind:
        folder = blind(*options.blind, output=options.output)
    else:
        folder = page(options.repos, options.output, options.runtime)
    print(f"Wrote {folder}")
    if options.serve is not None:
        serve(folder, options.serve)
    return 0


def _demo(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from genhub.commands.demo import demo

    demo(options.repo, options.port)
    return 0


def _push(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from genhub.commands.push import push, push_demo, push_page

    send = push_page if options.page else push_demo if options.demo else push
    address = send(options.folder, options.repo_id, options.private, dry_run=options.dry_run)
    print(f"Nothing was sent to {address}" if options.dry_run else f"Uploaded to {address}")
    return 0


def _recipes(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from genhub.commands.recipes import recipes

    lines = recipes()
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:{width}} {text}")
    return 0


def _doctor(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from genhub.commands.doctor import report

    print(report())
    return 0


RUN = {
    "train": _train,
    "generate": _generate,
    "evaluate": _evaluate,
    "figure": _figure,
    "page": _page,
    "demo": _demo,
    "push": _push,
    "recipes": _recipes,
    "doctor": _doctor,
}


if __name__ == "__main__":
    sys.exit(main())
