"""The command line: one function of the package for each `genhub COMMAND`.

A command calls its function and prints the result. Nothing heavy is imported before that.
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
import io  # noqa: E402

from genhub.commands.console import Console  # noqa: E402
from genhub.commands.errors import print_once, reason_of  # noqa: E402
from genhub.commands.options import make_parser, refuse_options  # noqa: E402
from genhub.commands.overrides import sampling_arguments, split_overrides  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 success, 1 a user's error, 2 wrong usage, 128 + n signal n."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console of Windows lacks letters that names have
    try:
        words, overrides = split_overrides(sys.argv[1:] if arguments is None else arguments)
        if not words and not overrides:
            make_parser(words).print_help()
            return 0
        options, unknown = make_parser(words).parse_known_args(words)
        if unknown and options.command == "train":
            known = "--output_dir, --from, --resume, --auto_resume, --trust_code, or --section.key VALUE"
            raise ValueError(f"There is no option {unknown[0]!r}; known are {known}.")
        if options.command not in ("train", "generate", "evaluate"):
            unknown += [f"--{key}" for key in overrides]
        if unknown:
            refuse_options(options.parser, unknown)
        console = Console(options)
        with console.redirected():
            return RUN[options.command](options, overrides, console)
    except KeyboardInterrupt:
        print("genhub: stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        if (reason := reason_of(error)) is None:
            raise
        print_once(f"genhub: error: {reason}")
        return 1


def _train(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from accelerate import PartialState

    from genhub.commands.results import of_training
    from genhub.training.run import TrainingStopped, train

    if options.folder and options.output_dir:
        raise ValueError(f"The folder must be given once, got {options.folder} and --output_dir {options.output_dir}.")
    if options.trust_code and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    more = {name: value for name in ("trust_code", "auto_resume", "start_from") if (value := getattr(options, name))}
    try:
        folder = train(options.recipe, options.output_dir or options.folder, options.resume, overrides, **more)
    except TrainingStopped as stop:
        console.fail(stop)
        return stop.exit_code
    if PartialState().is_main_process:
        console.show(*of_training(folder))
    return 0


def _generate(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from genhub.commands.generate import generate

    labels = None if options.class_labels is None else [label.strip() for label in options.class_labels.split(",")]
    sampling = sampling_arguments(options, overrides)
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
    console.show({"output": path, "folder": options.folder}, [f"Wrote {path}"])
    return 0


def _evaluate(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from accelerate import PartialState

    from genhub.commands.evaluate import evaluate
    from genhub.commands.results import of_evaluation
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
            **sampling_arguments(options, overrides),
        )
    except TrainingStopped as stop:
        console.fail("stopped while a classifier was trained; the same command continues.")
        return stop.exit_code
    if PartialState().is_main_process:
        console.show(*of_evaluation(folder))
    return 0


def _figure(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from genhub.commands.figure import figure

    names = ("output", "steps", "seed", "count", "against")
    path = figure(options.name, options.repo, **{name: getattr(options, name) for name in names})
    console.show({"output": path}, [f"Wrote {path}"])
    return 0


def _export(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from genhub.commands.export import export, lines_of

    path = export(options.repo, options.format, options.dtype, options.opset, options.output)
    console.show({"output": path}, [f"Wrote {path}", *(f"  {line}" for line in lines_of(path))])
    return 0


def _page(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
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
    console.show({"output": folder}, [f"Wrote {folder}"])
    if options.serve is not None:
        serve(folder, options.serve)
    return 0


def _demo(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from genhub.commands.demo import demo

    demo(options.repo, options.port)
    return 0


def _push(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from genhub.commands.push import push, push_demo, push_page

    send = push_page if options.page else push_demo if options.demo else push
    address = send(options.folder, options.repo_id, options.private, dry_run=options.dry_run)
    told = f"Nothing was sent to {address}" if options.dry_run else f"Uploaded to {address}"
    console.show({"address": address, "sent": not options.dry_run}, [told])
    return 0


def _models(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from genhub.commands.models import lines, models

    console.show(found := models(), lines(found))
    return 0


def _recipes(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    if options.name is not None:
        from genhub.commands.recipe import lines as lines_of
        from genhub.commands.recipe import recipe

        console.show(one := recipe(options.name), lines_of(one))
        return 0
    from genhub.commands.recipes import lines, recipes

    console.show(found := recipes(), lines(found))
    return 0


def _doctor(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from genhub.commands.doctor import examine, lines

    console.show(found := examine(), lines(found))
    return 0


def _completion(options: argparse.Namespace, overrides: dict[str, object], console: Console) -> int:
    from genhub.commands.completion import completion

    script = completion(make_parser([]), options.shell)
    console.show({"shell": options.shell, "script": script}, [script])
    return 0


RUN = {
    "train": _train,
    "models": _models,
    "generate": _generate,
    "evaluate": _evaluate,
    "figure": _figure,
    "export": _export,
    "page": _page,
    "demo": _demo,
    "push": _push,
    "recipes": _recipes,
    "doctor": _doctor,
    "completion": _completion,
}


if __name__ == "__main__":
    sys.exit(main())
