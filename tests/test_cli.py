"""The command line: what it prints, how it leaves, and that a mistake costs one line."""

import contextlib
import importlib
import inspect
import json
import os
import re
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from genhub.cli import RUN, main, split_overrides
from genhub.commands import doctor
from genhub.commands.figures import figures
from genhub.commands.generate import generate
from genhub.figures import FIGURES
from genhub.recipes import names

ROOT = Path(__file__).parent.parent


def script(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Runs a script or a module of the repository in a process of its own."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd or ROOT)


def words(overrides: dict) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in overrides.items()]


def test_overrides_are_yaml_and_stand_anywhere():
    line = "train --a.b 1e-3 ddpm --a.c=[8,16] --a.d text --resume --a.e=null --a.f -1 --a.g=1e3 --output=x.png"

    plain, overrides = split_overrides(line.split())

    assert plain == ["train", "ddpm", "--resume", "--output=x.png"]
    assert overrides == {"a.b": 1e-3, "a.c": [8, 16], "a.d": "text", "a.e": None, "a.f": -1, "a.g": 1000.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "ddpm-quikc"], "did you mean 'ddpm-quick'"),
        (["train", "ddpm-quick", "--training.batchsize", "8"], "did you mean 'batch_size'"),
        (
            ["train", "ddpm-quick", "--training.batch_size", "many"],
            "`training.batch_size` must be a whole number, got 'many'",
        ),
        (["train", "ddpm-quick", "--training.batch_size", "0"], "must be at least 1, got 0"),
        (["train", "ddpm-quick", "--training.batch_size"], "must be followed by a value"),
        (["train", "ddpm-quick", "--batch_size", "8"], "There is no option '--batch_size'"),
        (["train", "ddpm-quick", "--components.unet.class", "diffusers.UNet2DModle"], "did you mean 'UNet2DModel'"),
        (["train", "ddpm-quick", "--data.source", "/no/such/folder"], "must be an existing folder or a Hub id"),
        (["generate", "/no/such/folder"], "neither an existing folder nor a repository"),
        (["generate", "REPO", "--count", "0"], "`count` must be at least 1, got 0"),
        (["generate", "REPO", "--steps", "0"], "`num_inference_steps` must lie between 1 and 20, got 0"),
        (["generate", "REPO", "--steps", "21"], "`num_inference_steps` must lie between 1 and 20, got 21"),
        (["generate", "REPO", "--class_labels", "3"], "must be unset: the network is unconditional"),
        (["generate", "REPO", "--class_labels", "three"], "`class_labels` must be unset"),
        (["generate", "REPO", "--image", "none.png"], "`image` must be an image file, got none.png"),
        (["generate", "REPO", "--output", "/no/such/folder/x.png"], "must lie in an existing folder"),
        (["generate", "REPO", "--device", "cuba"], "`device`"),
        (["generate", "REPO", "--truncation", "0.5"], "`truncation` must be unset: CosineDDPMPipeline"),
        (["generate", "REPO", "--prompt", "a shoe"], "`prompt` must be unset: CosineDDPMPipeline"),
        (["generate", "REPO", "--scheduler.use_karas_sigmas", "true"], "There is no `scheduler.use_karas_sigmas`"),
        (["generate", "REPO", "--pipeline.num_inference_step", "2"], "did you mean 'num_inference_steps'"),
        (["generate", "REPO", "--data.source", "x"], "There is no option '--data.source'; known are --scheduler.KEY"),
        (["generate", "REPO", "--output", "x.foo"], "of a kind that pillow writes"),
        (["train", "--resume", "runs/nothing"], "There is no folder runs/nothing with a run to resume"),
        (["push", "/no/such/folder", "a/b"], "neither an existing folder"),
        (["evaluate", "/no/such/folder"], "neither an existing folder"),
        (["evaluate", "REPO", "--guidance_scale", "2", "--cas"], "`cas` must be off"),
        (["evaluate", "REPO", "--data", "sample", "--count", "128"], "`count` must be at least 129"),
        (
            ["evaluate", "REPO"],
            "must have at least 129 images in its split",
        ),
        (["figure", "sampling-tiem", "REPO"], "did you mean 'sampling-time'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, message, tiny_repo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    code = main([str(tiny_repo) if word == "REPO" else word for word in arguments])

    error = capsys.readouterr().err.splitlines()
    assert code == 1
    assert [line for line in error if line.startswith("genhub: error: ")] == error[-1:]
    assert message in error[-1]
    assert not list(tmp_path.iterdir())


def test_recipes_lists_every_recipe(capsys):
    assert main(["recipes"]) == 0

    printed = capsys.readouterr().out
    assert all(re.search(rf"^{name} +\S", printed, re.MULTILINE) for name in names())


def test_doctor_tells_what_a_run_would_get(capsys):
    assert main(["doctor"]) == 0

    printed = capsys.readouterr().out
    for fact in ("device", "processes", "float32", "bfloat16", "torch", "diffusers", "GFLOP/s"):
        assert fact in printed
    assert "PROBLEM" not in printed


def test_doctor_warns_of_processes_that_do_not_see_each_other(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # as a launcher has it that accelerate does not know
    monkeypatch.setattr(doctor, "DTYPES", {})  # nothing is timed

    assert main(["doctor"]) == 0

    assert "PROBLEM: 2 processes were launched, each sees only itself." in capsys.readouterr().out


COMMANDS = [*RUN]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_explains(command, capsys):
    with pytest.raises(SystemExit) as leave:
        main([*filter(None, [command]), "--help"])

    assert leave.value.code == 0
    assert len(capsys.readouterr().out) > 100


@pytest.mark.parametrize("words", [[], ["-h"]])
def test_the_short_help_begins_with_three_commands_that_work_and_groups_all(words, capsys):
    with contextlib.suppress(SystemExit):
        assert main(words) == 0

    printed = capsys.readouterr().out
    assert len(printed.splitlines()) < 28
    begin = re.findall(r"^  genhub (.*?)  ", printed, re.MULTILINE)
    assert begin == ["models", "generate gan-best", "train ddpm-quick"]
    assert (ROOT / "model_cards/gan-best").is_dir()
    assert "ddpm-quick" in names()
    assert sorted(re.findall(r"^  (?!genhub)(\w+) +[A-Z].*\.$", printed, re.MULTILINE)) == sorted(RUN)


def test_help_has_a_line_for_every_figure_with_the_options_that_it_takes(capsys):
    with pytest.raises(SystemExit):
        main(["figure", "--help"])

    printed = capsys.readouterr().out
    assert figures().keys() == FIGURES.keys()
    for name, target in FIGURES.items():
        module, _, function = target.partition(":")
        parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters.values()
        options = [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY][1:]
        (line,) = re.findall(rf"^  {name} +(\w.*)", printed, re.MULTILINE)
        assert re.findall(r"--(\w+)", line) == options


HEAVY = ("accelerate", "datasets", "diffusers", "huggingface_hub", "jsonargparse", "matplotlib", "numpy", "pydantic")
HEAVY += ("torch", "transformers")
LIGHT = ["--help", "recipes", "recipes gan-best", *(f"{command} --help" for command in COMMANDS)]


@pytest.mark.parametrize("line", LIGHT)
def test_help_and_lists_take_half_a_second_and_import_nothing_heavy(line):
    """Seconds of CPU time of the process, the best of up to three."""
    code = f"""
import atexit, sys
from genhub.cli import main
atexit.register(lambda: print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr))
sys.exit(main({line.split()}))
"""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = script("-c", code)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if seconds[-1] < 0.5:
            break

    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert min(seconds) < 0.5


def test_any_argument_of_scheduler_and_call_reaches_the_function(monkeypatch):
    calls = {}
    for name in ("generate", "evaluate"):
        module = importlib.import_module(f"genhub.commands.{name}")
        monkeypatch.setattr(module, name, lambda repo, name=name, **options: calls.update({name: options}) or ROOT)
    monkeypatch.setattr("genhub.commands.results.of_evaluation", lambda folder: ({}, []))
    words = ["--steps", "5", "--scheduler", "DDIMScheduler", "--scheduler.eta", "0.5", "--pipeline.timesteps=[9, 1]"]
    words += ["--guidance_scale", "2", "--truncation", "0.7"]

    for name in ("generate", "evaluate"):
        assert main([name, "repo", *words]) == 0

    for options in calls.values():
        assert options["scheduler"] == "DDIMScheduler"
        assert options["scheduler_arguments"] == {"eta": 0.5}
        assert options["arguments"] == {
            "num_inference_steps": 5,
            "guidance_scale": 2.0,
            "truncation": 0.7,
            "timesteps": [9, 1],
        }


def test_a_recipe_is_trusted_only_if_the_command_line_says_so(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("genhub.training.run.train", lambda *_, **options: calls.append(options) or tmp_path)
    monkeypatch.setattr("genhub.commands.results.of_training", lambda folder: ({}, []))

    for words in ([], ["--trust_code"], ["--auto_resume"]):
        assert main(["train", "ddpm", *words]) == 0

    assert calls == [{}, {"trust_code": True}, {"auto_resume": True}]


def test_image_i_depends_on_the_seed_and_on_nothing_else(tiny_repo, tmp_path):
    for name, count, batch, seed in (("a", 5, 5, 0), ("b", 5, 2, 0), ("c", 3, 64, 0), ("d", 3, 64, 1)):
        options = ["--count", count, "--batch_size", batch, "--seed", seed, "--folder", tmp_path / name]
        assert main(["generate", *map(str, [tiny_repo, *options, "--output", tmp_path / f"{name}.png"])]) == 0

    images = {n: [np.asarray(Image.open(p)).astype(int) for p in sorted((tmp_path / n).iterdir())] for n in "abcd"}
    for one, other in ((images["a"], images["b"]), (images["a"][:3], images["c"])):
        assert max(abs(x - y).max() for x, y in zip(one, other, strict=True)) <= 1  # of 255: sums in another order
    assert abs(images["c"][0] - images["d"][0]).max() > 20
    assert images["a"][0].shape == (28, 28)


@pytest.mark.slow
def test_scripts_do_what_the_commands_do(tiny_repo, tiny, tmp_path):
    trained = script("scripts/train.py", "ddpm-quick", "--output_dir", tmp_path / "run", *words(tiny))
    generated = script("scripts/generate.py", tmp_path / "run", "--count", 2, "--output", tmp_path / "grid.png")
    listed = script("scripts/recipes.py")

    assert trained.returncode == 0, trained.stderr
    assert "Next: genhub generate" in trained.stdout
    assert generated.stdout.strip() == f"Wrote {tmp_path / 'grid.png'}", generated.stderr
    assert "ddpm-quick" in listed.stdout
    name = "unet/diffusion_pytorch_model.safetensors"
    one, two = load_file(tiny_repo / name), load_file(tmp_path / "run" / name)
    assert all(torch.equal(one[key], two[key]) for key in one)


LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", 2, "--num_machines", 1]
LAUNCH += [
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--main_process_port",
    0,
    "scripts/train.py",
    "ddpm-quick",
]


@pytest.mark.slow
def test_accelerate_launch_starts_two_processes_on_cpus(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    done = script(*LAUNCH, "--output_dir", tmp_path / "run", *words(tiny))

    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/metrics.json").read_text())["hardware"]["processes"] == 2


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs the launcher uses them")
def test_processes_that_would_train_alone_are_refused(tiny, tmp_path):
    done = script(*LAUNCH, "--output_dir", tmp_path / "run", *words(tiny))

    assert done.returncode != 0
    assert "2 processes were launched, but each sees only itself" in done.stderr
    assert not (tmp_path / "run").exists()


def test_colour_images_of_any_size_from_a_folder_train(tiny, tmp_path):
    dice = np.random.default_rng(0)
    for place in range(24):
        size = dice.integers(20, 60, 2)
        (tmp_path / "photos" / "ab"[place % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(dice.integers(0, 255, (*size, 3), np.uint8)).save(
            tmp_path / "photos" / "ab"[place % 2] / f"{place}.jpg"
        )
    tiny |= {"data.source": str(tmp_path / "photos"), "data.size": 16, "data.val_size": 4}

    code = main(["train", "ddpm-quick", "--output_dir", str(tmp_path / "run"), *words(tiny)])

    assert code == 0
    assert json.loads((tmp_path / "run/unet/config.json").read_text())["in_channels"] == 3
    assert Image.open(tmp_path / "run/samples.png").mode == "RGB"


def test_three_images_are_too_few_for_a_batch_of_eight(tiny, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for place in range(3):
        Image.new("L", (28, 28), place).save(tmp_path / "photos" / f"{place}.png")
    tiny |= {"data.source": str(tmp_path / "photos"), "data.val_size": 0}

    code = main(["train", "ddpm-quick", "--output_dir", str(tmp_path / "run"), *words(tiny)])

    assert code == 1
    assert "must be at most the 3 training images, got 8" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_no_file_names_the_place_where_it_was_written():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")

    home = os.sep + "work" + os.sep
    binary = (".png", ".gif", ".parquet", ".safetensors")
    texts = [ROOT / name for name in listed.stdout.split() if not name.endswith(binary)]
    assert not [path for path in texts if path.is_file() and home in path.read_text()]


@pytest.mark.parametrize(("typo", "option"), [("--stpes", "--steps"), ("--labels", "--class_labels")])
def test_a_misspelt_option_is_refused_with_the_nearest_one(typo, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["generate", "anywhere", typo, "5"])

    assert f"unrecognized arguments: {typo} 5 (did you mean '{option}'?)" in capsys.readouterr().err


def png(width: int, height: int) -> bytes:
    """Returns a PNG that promises pixels, and holds none."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    )
    chunks = (
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("way", ["a pipe", "a device", "a bomb", "a program"])
def test_an_image_to_edit_is_a_whole_picture_in_a_regular_file(way, tmp_path):
    path = tmp_path / "image.png"
    if way == "a pipe":
        os.mkfifo(path)
    elif way == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(
            png(60_000, 60_000) if way == "a bomb" else b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"
        )

    with pytest.raises(ValueError, match="`image` must be an image file"):
        generate(str(tmp_path), image=str(path))


def too_deep():
    return too_deep()


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (lambda: bytearray(2**62), "The memory is not enough"),
        (lambda: torch.empty(2**60), "The memory is not enough .*you tried to allocate"),
        (too_deep, "nested too deeply"),
        (lambda: open("/no/such\nfile\x1b[2J"), r"'/no/such\\nfile\\x1b\[2J'$"),
        (lambda: int("a\nb\x1b"), r"^genhub: error: [^\x1b]*$"),
    ],
)
def test_what_a_machine_lacks_and_a_stranger_names_is_one_line(fail, told, monkeypatch, capsys):
    monkeypatch.setitem(RUN, "recipes", lambda *arguments: fail())

    assert main(["recipes"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(told, line)


def test_a_fault_of_the_program_is_no_mistake_of_the_user(monkeypatch):
    monkeypatch.setitem(RUN, "recipes", lambda *arguments: {}["key"])
    with pytest.raises(KeyError):
        main(["recipes"])


def test_a_working_folder_that_is_gone_is_no_reason_to_fail(tmp_path):
    command = "mkdir gone && cd gone && rmdir ../gone && exec $0 -m genhub.cli recipes"
    done = subprocess.run(["bash", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
