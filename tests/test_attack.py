"""Hostile files, by a seed: what genhub reads is what was written, or it refuses in one line.

`python scripts/attack.py --seed SEED --kinds KIND --case NUMBER` repeats a case that fell.
"""

import ast
import inspect
import os
import signal
import time

import numpy as np
import pytest
from hostile import data_kinds, forks, repo_kinds, run_kinds, strict
from hostile.attack import KINDS, RIGHT, Attack, complaint
from hostile.forks import Verdict
from pictures import noise
from PIL import Image

from genhub.data import DataConfig
from genhub.data.decode import decode

SEED = 18
GROUPS = {"data": (data_kinds.KINDS, 14), "repositories": (repo_kinds.KINDS, 12), "runs": (run_kinds.KINDS, 13)}


@pytest.mark.parametrize("group", GROUPS)
def test_a_mutated_file_is_read_as_it_was_or_refused_in_one_line(tmp_path, monkeypatch, group):
    kinds, count = GROUPS[group]
    monkeypatch.chdir(tmp_path)
    attack = Attack(SEED, tmp_path, kinds)

    verdicts = list(forks.run(attack, attack.cases(count * len(kinds)), processes=1))

    fell = [f"{v.kind} {v.number}: {v.what}: {v.why}" for v in verdicts if v.outcome not in RIGHT]
    assert fell == [], f"{len(fell)} of {len(verdicts)} with seed {SEED}"
    assert len(verdicts) == count * len(kinds)
    assert {verdict.outcome for verdict in verdicts} == {*RIGHT}


def test_what_decides_what_a_picture_shows_has_nothing_of_genhub(tmp_path):
    tree = ast.parse(inspect.getsource(strict))
    names = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [name for name in names if "genhub" in name] == []

    colours = Image.fromarray(noise(9, 7, 4, seed=1), "RGBA")
    palette = colours.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=9)
    greys = colours.convert("L").convert("P")
    for picture in (*map(colours.convert, ("1", "L", "LA", "RGB", "RGBA")), palette, greys):
        picture.save(tmp_path / "a.png")
        read = decode([(tmp_path / "a.png").read_bytes()], DataConfig(), str).images[0]
        assert np.array_equal(strict.image(tmp_path / "a.png"), read)
    colours.convert("I;16").save(tmp_path / "a.png")
    assert strict.image(tmp_path / "a.png") is None


def test_there_are_at_least_500_cases():
    assert sum(count * len(kinds) for kinds, count in GROUPS.values()) >= 500
    assert {name for kinds, _ in GROUPS.values() for name in kinds} == {*KINDS}


def test_a_case_does_not_depend_on_the_others(tmp_path):
    def change(folder, kinds, number):
        file = Attack(3, folder, kinds).prepare(("idx", number))
        return file[1], [path.read_bytes() for path in sorted(file[0].iterdir()) if path.is_file()]

    first = change(tmp_path / "a", ["gz", "idx"], 1)

    assert change(tmp_path / "b", ["idx"], 1) == first
    assert change(tmp_path / "c", ["idx"], 2) != first


def hang(case):
    yield Verdict(*case, "hang", "started")
    while True:
        time.sleep(1)


def loop(case):
    yield Verdict(*case, "loop", "started")
    while True:
        pass


def die(case):
    yield Verdict(*case, "die", "started")
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(case):
    yield Verdict(*case, "leave", "started")
    os._exit(0)


def eat(case):
    yield Verdict(*case, "eat", "started")
    bytearray(4 << 30)


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (hang, "was not done after 0.2 s"),
        (loop, "took more than 0.1 s"),
        (die, "signal 11"),
        (leave, "exit code 0"),
        (eat, "exit code 1"),
    ],
)
def test_a_case_that_ends_its_process_falls_alone(monkeypatch, end, why):
    monkeypatch.setattr(forks, "SECONDS", 0.1)
    monkeypatch.setattr(forks, "WAIT", 0.2 if end is hang else 20)

    def judge(case):
        yield from end(case) if case == ("a", 1) else [Verdict(*case, "", "equal")]

    verdicts = {v.number: v for v in forks.run(judge, [("a", number) for number in range(4)], processes=1)}

    assert {number: v.outcome for number, v in verdicts.items()} == {0: "equal", 1: "fell", 2: "equal", 3: "equal"}
    assert (verdicts[1].what, verdicts[1].why) == (end.__name__, why)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TypeError("no"), "TypeError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), "UnicodeDecodeError"),
        (MemoryError(), "MemoryError"),
        (ValueError("a\nb"), "not one line"),
        (ValueError(""), "not one line"),
        (OSError("no"), "does not name the file"),
    ],
)
def test_an_error_that_is_not_one_line_of_genhubs_is_a_fall(tmp_path, error, why):
    def complain(error):
        try:
            raise error
        except BaseException as caught:
            return complaint(caught, tmp_path)

    assert why in complain(error)
    assert complain(ValueError("`a` must be b, got c.")) is None
    assert complain(FileNotFoundError(2, "no", "a")) is None
