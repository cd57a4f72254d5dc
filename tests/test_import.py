"""`import genhub` is quick, and what it names is there."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import genhub

ROOT = Path(genhub.__file__).parent


def test_every_public_name_can_be_imported():
    assert [getattr(genhub, name).__name__ for name in genhub.__all__] == genhub.__all__
    assert {*genhub.__all__} <= {*dir(genhub)}


def test_a_command_is_a_function_even_if_its_module_was_imported():
    for name in ("evaluate", "figure", "generate", "push", "train"):
        importlib.import_module(f"genhub.commands.{name}" if name != "train" else "genhub.training.run")

        assert inspect.isfunction(getattr(genhub, name))


def test_an_unknown_name_is_an_attribute_error_that_says_so():
    with pytest.raises(AttributeError, match="module 'genhub' has no attribute 'DCGAN'"):
        genhub.DCGAN  # noqa: B018


def test_the_tour_of_the_package_names_what_exists():
    places = [line.split()[1] for line in genhub.__doc__.splitlines() if line.strip().startswith("->")]

    assert len(places) > 3
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_import_genhub_takes_less_than_a_third_of_a_second_and_imports_nothing_heavy():
    script = """
import sys, time
start = time.perf_counter()
import genhub
seconds = time.perf_counter() - start
print(seconds, *(name for name in ("datasets", "diffusers", "torch", "transformers") if name in sys.modules))
"""
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, check=True) for _ in range(5)]
    runs = [run.stdout.split() for run in runs]

    assert min(float(seconds) for seconds, *_ in runs) < 0.3  # so it costs no more than that over `import diffusers`
    assert runs[0][1:] == []
