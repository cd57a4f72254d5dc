"""The command line: `genhub train | generate | evaluate | figure | push | recipes | doctor`. Each command
calls one function of the package."""

import argparse
import json
import sys

import yaml

from genhub.recipes.yaml import read_yaml

EPILOG = {
    "train": """examples:
  genhub train ddpm-quick                                  the recipe as it is, into runs/ddpm-quick
  genhub train ddpm-quick --data.source ./my_photos --data.size 28 --output_dir runs/mine
  genhub train ddpm --training.batch_size 128 --optimizers.unet.lr 5e-4
  genhub train --resume runs/ddpm-quick                    go on where a run was stopped or killed
  accelerate launch scripts/train.py ddpm                  the same on several devices

Any value of a recipe can be given as --section.key VALUE (VALUE is YAML). `genhub recipes` lists the recipes.""",
    "generate": """examples:
  genhub generate runs/ddpm-quick                          64 images into runs/ddpm-quick/generated.png
  genhub generate user/name --count 16 --seed 7 --steps 100 --output grid.png
  genhub generate runs/mine --count 1000 --folder images   one PNG file per image""",
    "evaluate": """examples:
  genhub evaluate runs/ddpm-quick --count 1000             a quick look, not comparable
  genhub evaluate user/name --data zalando-datasets/fashion_mnist
  genhub evaluate runs/ddpm --scheduler DPMSolverMultistepScheduler --steps 20
  accelerate launch scripts/evaluate.py runs/ddpm          images made by several devices, the same figures

Protocol fmnist-eval-1: 10,000 images against the 10,000 test images of Fashion MNIST. The figures go into
metrics.json and onto the card, the closest pairs into closest.png. What was generated is kept in the cache, so a
stopped run goes on.""",
    "figure": """examples:
  genhub figure classes runs/ddpm-quick                    a row of samples for each class
  genhub figure sampling-time runs/ddpm-quick              quality against seconds per image, after `genhub evaluate`
  genhub figure training-time runs/ddpm-quick --output curve.png
  genhub figure codes runs/stacked-ae --count 1000         the codes of 1,000 images on a plane

of every model:
classes          10 samples of each class, asked for or, from an unconditional model of Fashion MNIST, found
sampling-time    the distance of all evaluations that compare with the newest, one line for each sampler
training-time    kernel distance and validation loss while training (--against: another run, beside it)
progress         what training drew every `--training.sample_every` steps, as an animation (.gif)
milestones       samples early and late in training, of models that make images (--count: rows, 8)
of autoencoders, variational ones too:
reconstructions  held-out images above what the model makes of them (--count: images, 10)
codes            held-out images on a plane, by t-SNE of their codes (--count: images, 5000; --seed)
units            the images that most excite each unit of the code (--count: images looked at, all)
activations      how active units of the code are, and each on average (--count: images looked at, all)
of autoencoders:
denoising        images clean, corrupted as for training, and denoised (--count: images, 10; --seed)
neighbours       test images and the training images nearest by hash, of a sigmoid code (--count: test images, 8)
of variational autoencoders:
prior-samples    images of the prior (--count: images, 21, or of each class, 10; --seed)
interpolation    from one image to another, and along each latent (--count: pairs, 4)
manifold         a plane of two latents (--count: images, a square number, 400)
of adversarial networks (prior-samples too):
latent-interpolation  between random latents, by arc, line and style (--count: pairs, 4, or one of each class; --seed)
arithmetic       a sum of latents, its terms and its neighbours (--seed)
style-mixing     images with some styles of others, of a generator with styles (--count: columns, 6; --seed)
growth           the same latents at each level of a generator that grows (--count: latents, 8; --seed)
game             the two players while training, and the run's warnings""",
    "push": """examples:
  genhub push runs/ddpm-quick user/ddpm-quick              needs a token: `hf auth login` or HF_TOKEN""",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 an error of the user's, 2 wrong usage, 128 + n a
    signal."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    overrides = {}
    try:
        if rest and options.command != "train":
            options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
        overrides = parse_overrides(rest)
        return options.run(options, overrides)
    except KeyboardInterrupt:
        print("genhub: stopped.", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"genhub: error: {error}", file=sys.stderr)
        return 1


def parse_overrides(words: list[str]) -> dict[str, object]:
    """Reads `--section.key value` and `--section.key=value`; values are YAML.

    Raises:
        ValueError: a word that is neither, or a key without a value.
    """
    overrides, words = {}, list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or "." not in word.split("=")[0]:
            known = "--output_dir, --resume, or --section.key VALUE"
            raise ValueError(f"There is no option {word!r}; known are {known}.")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise ValueError(f"`--{key}` must be followed by a value.")
            value = words.pop(0)
        overrides[key] = parse_value(value)
    return overrides


def parse_value(text: str) -> object:
    """Reads one value as YAML; what is none is a word."""
    try:
        return read_yaml(text)
    except yaml.YAMLError:
        return text


def _parser() -> argparse.ArgumentParser:
    from genhub.version import VERSION

    parser = argparse.ArgumentParser(
        "genhub", description="Generative models of small images in the Hugging Face ecosystem."
    )
    parser.add_argument("--version", action="version", version=f"genhub {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, text: str, run) -> argparse.ArgumentParser:
        formatter = argparse.RawDescriptionHelpFormatter
        sub = commands.add_parser(
            name, help=text, description=text, epilog=EPILOG.get(name), formatter_class=formatter
        )
        sub.set_defaults(run=run, parser=sub)
        return sub

    sub = command("train", "Train a recipe and save a repository of the Hub's format.", _train)
    sub.add_argument("recipe", help="a recipe's name, a YAML file, a run's folder, or a repository of the Hub")
    sub.add_argument("--output_dir", "--output-dir", help="where the repository goes (default: runs/<recipe>)")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder")

    sub = command("generate", "Generate images with a saved pipeline.", _generate)
    sub.add_argument("repo", help="a folder or a repository of the Hub")
    sub.add_argument("--count", type=int, help="number of images (default: that of the labels if several, else 64)")
    sub.add_argument("--seed", type=int, default=0, help="the same seed gives the same images (default: 0)")
    sub.add_argument("--steps", type=int, help="sampling steps of a diffusion model (default: the pipeline's)")
    sub.add_argument(
        "--truncation", type=float, help="a GAN's: 0 shows the mean of its styles or latents (default: 1)"
    )
    sub.add_argument("--class_labels", "--class-labels", help="3 for all images, or 0,1,2 (default: all in turn)")
    sub.add_argument("--batch_size", "--batch-size", type=int, default=64, help="images at a time (default: 64)")
    sub.add_argument("--output", help="file of the grid (default: generated.png in the folder, or here)")
    sub.add_argument("--folder", help="also write each image to a PNG file in this folder")
    sub.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best there is)")

    sub = command("evaluate", "Measure how good, varied, fast and original the images of a pipeline are.", _evaluate)
    sub.add_argument("repo", help="a folder or a repository of the Hub")
    sub.add_argument("--data", help="what to compare with, as data.source of a recipe (default: the recipe's)")
    sub.add_argument("--count", type=int, default=10_000, help="images to generate (default: 10,000, the protocol's)")
    sub.add_argument("--seed", type=int, help="of sampling (default: 10,000 + the seed of training)")
    sub.add_argument("--batch_size", "--batch-size", type=int, default=250, help="images at a time (default: 250)")
    sub.add_argument("--steps", type=int, help="sampling steps of a diffusion model (default: the pipeline's)")
    sub.add_argument("--scheduler", help="another scheduler of diffusers, such as DDIMScheduler")
    sub.add_argument("--guidance_scale", "--guidance-scale", type=float, help="classifier-free guidance")
    sub.add_argument("--feature_net", "--feature-net", help="a trained feature-classifier, for other data sets")
    sub.add_argument("--imagenet", action="store_true", help="also measure KID in an ImageNet space")
    sub.add_argument(
        "--cas",
        type=int,
        nargs="?",
        default=0,
        const=50_000,
        metavar="N",
        help="also train classifiers on N images (50,000 if not given) of a conditional model",
    )
    sub.add_argument("--output", help="folder of the results (default: the repository, or evaluation-<name>)")

    sub = command("figure", "Draw a figure of a repository: its samples, codes, speed, training.", _figure)
    sub.add_argument("name", help="which figure, of those below")
    sub.add_argument("repo", help="a folder or a repository of the Hub")
    sub.add_argument("--output", help="PNG or GIF file (default: <name>.png or <name>.gif in the folder, or here)")
    sub.add_argument("--steps", type=int, help="sampling steps, for `classes` (default: the pipeline's)")
    sub.add_argument("--seed", type=int, help="of what is drawn at random (default: 0; of `codes` 42)")
    sub.add_argument("--count", type=int, help="how many images are drawn or looked at, see below")
    sub.add_argument("--against", help="a second run, for `training-time`")

    sub = command("push", "Upload a saved repository to the Hub, with its card.", _push)
    sub.add_argument("folder", help="a saved repository")
    sub.add_argument("repo_id", help="user/name on the Hub; created if it does not exist")
    sub.add_argument("--private", action="store_true", help="create it private")

    command("recipes", "List the recipes.", _recipes)
    command("doctor", "Print what this machine really gives: devices, processes, arithmetic, versions.", _doctor)
    return parser


def _train(options, overrides: dict) -> int:
    from genhub.training.run import TrainingStopped, train

    try:
        folder = train(options.recipe, options.output_dir, options.resume, overrides)
    except TrainingStopped as stop:
        print(f"genhub: {stop}", file=sys.stderr)
        return stop.exit_code
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(f"Saved the repository {folder}\n  card     {folder / 'README.md'}")
        if (folder / "samples.png").is_file():
            print(f"  samples  {folder / 'samples.png'}")
            made = json.loads((folder / "metrics.json").read_text())["sampling"]
            generate = "" if "reconstructions" in made else f"genhub generate {folder}    or: "
            print(f"Next: {generate}genhub evaluate {folder}")
        print(f"To share it: genhub push {folder} YOUR_NAME/{folder.name}")
    return 0


def _generate(options, overrides: dict) -> int:
    from genhub.commands.generate import generate

    labels = None
    if options.class_labels is not None:
        labels = options.class_labels.split(",")
        if not all(label.strip().isdigit() for label in labels):
            raise ValueError(
                f"`class_labels` must be whole numbers, such as 3 or 0,1,2, got {options.class_labels!r}."
            )
    path = generate(
        options.repo,
        count=options.count,
        seed=options.seed,
        steps=options.steps,
        truncation=options.truncation,
        class_labels=None if labels is None else [int(label) for label in labels],
        batch_size=options.batch_size,
        output=options.output,
        folder=options.folder,
        device=options.device,
    )
    print(f"Wrote {path}")
    return 0


def _evaluate(options, overrides: dict) -> int:
    from genhub.commands.evaluate import evaluate
    from genhub.training.run import TrainingStopped

    try:
        folder = evaluate(
            options.repo,
            data_source=options.data,
            count=options.count,
            seed=options.seed,
            batch_size=options.batch_size,
            steps=options.steps,
            scheduler=options.scheduler,
            guidance_scale=options.guidance_scale,
            feature_net=options.feature_net,
            imagenet=options.imagenet,
            cas=options.cas,
            output=options.output,
        )
    except TrainingStopped as stop:
        print("genhub: stopped while a classifier was trained; the same command goes on from there.", file=sys.stderr)
        return stop.exit_code
    from accelerate import PartialState

    from genhub.repository.card_results import to_show

    if PartialState().is_main_process:
        metrics = json.loads((folder / "metrics.json").read_text())
        found = metrics["evaluations"][-1]
        print(f"{found['protocol']}{'' if found['complete'] else ', reduced: not comparable with the full protocol'}")
        for figure in found["figures"]:
            spread = "" if figure["spread"] is None else f" ± {figure['spread']:.2g}"
            print(
                f"  {figure['name']} {figure['space'] and '(' + figure['space'] + ')'}: {figure['value']:.4g}{spread}"
            )
        print(f"Wrote {folder / 'metrics.json'}\n  card           {folder / 'README.md'}")
        if to_show(metrics) != found:
            print("  The card goes on to show the evaluation that followed the whole protocol.")
        elif (folder / "closest.png").is_file():
            print(f"  closest pairs  {folder / 'closest.png'}")
    return 0


def _figure(options, overrides: dict) -> int:
    from genhub.commands.figure import figure

    path = figure(
        options.name,
        options.repo,
        output=options.output,
        steps=options.steps,
        seed=options.seed,
        count=options.count,
        against=options.against,
    )
    print(f"Wrote {path}")
    return 0


def _push(options, overrides: dict) -> int:
    from genhub.repository.push import push

    print(f"Uploaded to {push(options.folder, options.repo_id, options.private)}")
    return 0


def _recipes(options, overrides: dict) -> int:
    from genhub.recipes.recipe import describe, recipe_names

    names = recipe_names()
    for name in names:
        print(f"{name:{max(map(len, names))}} {describe(name)}")
    return 0


def _doctor(options, overrides: dict) -> int:
    from genhub.commands.doctor import report

    print(report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
