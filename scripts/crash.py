"""Kills training runs and fails their system calls at random moments, resumes them, and writes docs/crash.

    python scripts/crash.py --minutes 15 --report docs/crash

Each family trains a tiny recipe once without disturbance. Then, again and again, a run of it is disturbed once or more:
by SIGKILL or SIGTERM at a random moment, or at a random call that writes, which fails, finds the disk full, is the last
one of the process, or the last one before a power cut (tests/faults.py). `genhub train --resume` has to go on, and its
weights, recipe and records have to be those of the undisturbed run, bit for bit. Folders of runs that fell are kept.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
SCRATCH = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
SAME = {
    "data.source": "sample",
    "data.labelled": 40,
    "training.batch_size": 4,
    "training.max_steps": 8,
    "training.max_minutes": None,
    "training.mixed_precision": "no",
    "training.channels_last": False,
    "training.num_samples": 2,
    "training.validate_every": 0,
    "training.sample_every": 3,
    "training.checkpoint_every": 2,
    "training.log_every": 1,
    "training.keep_checkpoints": 2,
    "evaluation.every": 0,
}
SMALL_UNET = {
    "components.unet.block_out_channels": [8, 8],
    "components.unet.layers_per_block": [1, 1],
    "components.unet.embedding_channels": 8,
    "training.num_samples": 11,
}
STAGES = [{"objective": {"level": level}, "training": {"max_steps": 4}} for level in (0, 1)]


@dataclass(frozen=True)
class Family:
    """Runs of one kind.

    Args:
        recipe: a published one.
        overrides: that make it tiny, beside those of all.
    """

    recipe: str
    overrides: dict[str, Any]
    processes: int = 1

    def write(self, file: Path):
        """Writes the tiny recipe."""
        from genhub import recipes
        from genhub.recipes.sections import override
        from genhub.recipes.yaml import read_yaml, write_yaml

        sections: Any = read_yaml(recipes.path(self.recipe).read_text())
        for key, value in (SAME | self.overrides).items():
            if "." in key:
                override(sections, key, value)
            else:
                sections[key] = value
        file.write_text(write_yaml(sections))


FAMILIES = {
    "autoencoder": Family("conv-ae", {}),
    "variational autoencoder": Family("vae", {}),
    "GAN": Family("gan", {}),
    "growing GAN": Family("progressive-gan", {"stages": STAGES, "training.max_steps": None}),
    "diffusion": Family("ddpm-quick", SMALL_UNET),
    "diffusion, two processes": Family("ddpm-quick", SMALL_UNET, 2),
}


class Crashes:
    """Disturbed runs of a family, against an undisturbed one.

    Raises:
        SystemExit: the undisturbed run fails.
    """

    def __init__(self, name: str, folder: Path):
        self.family, self.folder, self.counts = FAMILIES[name], folder, Counter()
        folder.mkdir(parents=True)
        self.log, self.whole, self.recipe, self.runs = folder / "log", folder / "whole", folder / "tiny.yaml", 0
        self.family.write(self.recipe)
        began = time.monotonic()
        if any(self._train(self.whole)):
            raise SystemExit(f"{name} does not train:\n{self.log.read_text()[-3000:]}")
        self.seconds = time.monotonic() - began
        self.calls = len(self._calls()) if self.family.processes == 1 else 0

    def disturb(self, rng: random.Random) -> str | None:
        """Disturbs a run once or more, resumes it to its end; returns what is wrong, None for the same bits."""
        from faults import FAULTS

        run = self.folder / f"run-{self.runs}" / "run"
        run.parent.mkdir()
        self.runs += 1
        ways = [*SIGNALS, *FAULTS] if self.calls else [*SIGNALS]
        told = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            way = rng.choice(ways)
            told.append(way)
            wrong = self._signal(run, way, rng) if way in SIGNALS else self._fault(run, way, rng)
            if wrong:
                break
            self.counts[way] += 1
        wrong = wrong or self._finish(run)
        if wrong is None:
            shutil.rmtree(run.parent)
            return None
        return f"{' then '.join(told)}: {wrong} ({run.parent})"

    def _signal(self, run: Path, way: str, rng: random.Random) -> str | None:
        from worlds import kill, start, wait

        self.log.write_text("")
        children = start(self._action(run), self.family.processes, self.log)
        time.sleep(rng.uniform(0, self.seconds))
        kill(children, SIGNALS[way])
        codes = wait(children)
        right = {0, -SIGNALS[way], 128 + SIGNALS[way]}
        return self._complaint(codes, right)

    def _fault(self, run: Path, way: str, rng: random.Random) -> str | None:
        from faults import KILLED, inject

        self.log.write_text("")
        outcome = inject(lambda root: self._logged(root / "run"), run.parent, rng.randint(1, self.calls), way)
        if outcome.error:
            return f"at {outcome.call}: {outcome.error.rstrip().splitlines()[-1]}"
        wrong = self._complaint([outcome.code], {0, 1, KILLED})
        return wrong and f"at {outcome.call}: {wrong}"

    def _finish(self, run: Path) -> str | None:
        """Resumes a run, or starts it again if it had not begun, and compares it."""
        self.log.write_text("")
        codes = self._train(run)
        return self._complaint(codes, {0}) or difference(self.whole, run)

    def _complaint(self, codes: list[int], right: set[int]) -> str | None:
        lines = self.log.read_text(errors="replace").rstrip().splitlines()
        if "Traceback (most recent call last)" in "\n".join(lines):
            return f"a traceback: {lines[-1]}"
        return None if {*codes} <= right else f"exit codes {codes}: {lines[-1] if lines else 'no word'}"

    def _train(self, run: Path) -> list[int]:
        from worlds import run as run_world

        return run_world(self._action(run), self.family.processes, self.log)

    def _action(self, run: Path) -> Callable[[], None]:
        """Trains, in a process of its own: resumes a run that has begun."""
        has_begun = (run / "recipe.yaml").is_file()

        def action():
            from genhub.cli import main

            words = ["--resume", str(run)] if has_begun else [str(self.recipe), "--output_dir", str(run)]
            raise SystemExit(main(["train", *words]))

        return action

    def _logged(self, run: Path):
        """The same in a child that shares the streams of this process."""
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = sys.stderr = open(handle, "w", buffering=1)
        self._action(run)()

    def _calls(self) -> list[str]:
        """Counts the calls of a whole run that write."""
        from faults import inject

        root = self.folder / "counted"
        root.mkdir()
        outcome = inject(lambda root: self._logged(root / "run"), root, 10**9)
        shutil.rmtree(root)
        return outcome.calls


def difference(whole: Path, run: Path) -> str | None:
    """Returns what two finished runs differ in: weights, recipe, the records of their steps."""
    from worlds import same_bits

    if not same_bits(whole, run):
        return "other weights"
    for read in (recipe_of, records_of):
        if read(whole) != read(run):
            return f"other {read.__name__.removesuffix('_of')}"
    return None


def recipe_of(run: Path) -> str:
    return (run / "recipe.yaml").read_text()


def records_of(run: Path) -> list[dict]:
    """Returns the records of the steps, without times; one that a resumed run wrote again counts once."""
    lines = (run / "training/metrics.jsonl").read_text().splitlines()
    timed = ("seconds", "per_second", "rate")
    records = [{k: v for k, v in json.loads(line).items() if not any(t in k for t in timed)} for line in lines]
    return [record for index, record in enumerate(records) if record not in records[:index]]


def main() -> int:
    """Disturbs runs of all families in turn until the time is over; returns 1 if one fell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=15.0, help="(default: 15)")
    parser.add_argument("--families", help="some of them, with ; between them (default: all)")
    parser.add_argument("--output", type=Path, default=Path("crashed"), help="folder of the runs that fell")
    parser.add_argument("--report", type=Path, help="folder of README.md and report.json")
    options = parser.parse_args()
    names = options.families.split(";") if options.families else [*FAMILIES]
    with tempfile.TemporaryDirectory(prefix="crash-") as scratch:
        output, report = (path and path.absolute() for path in (options.output, options.report))
        prepare(Path(scratch))
        os.chdir(scratch)
        result = crash(options, names, Path(scratch), output)
    print("\n".join(table(result)))
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / "report.json").write_text(json.dumps(result, indent=1) + "\n")
        (report / "README.md").write_text(markdown(result))
    return int(any(row["fell"] for row in result["rows"].values()))


def prepare(scratch: Path):
    """Gives genhub caches of its own, and imports all that the forked runs need."""
    os.environ |= SCRATCH | {"HF_HOME": str(scratch / "hf"), "GENHUB_CACHE": str(scratch / "cache")}
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    import torch
    import worlds  # noqa: F401

    torch.set_num_threads(1)


def crash(options: argparse.Namespace, names: list[str], scratch: Path, output: Path) -> dict[str, Any]:
    """Disturbs the runs, one after the other."""
    import torch

    from genhub.utils.environment import device_name
    from genhub.version import VERSION

    rng, began = random.Random(options.seed), time.monotonic()
    families = {name: Crashes(name, scratch / name.replace(" ", "-")) for name in names}
    rng, began = random.Random(options.seed), time.monotonic()
    rows = {name: {"runs": 0, "same bits": 0, "fell": []} for name in names}
    while time.monotonic() - began < options.minutes * 60:
        name = min(names, key=lambda name: rows[name]["runs"])
        wrong = families[name].disturb(rng)
        rows[name]["runs"] += 1
        rows[name]["same bits"] += wrong is None
        if wrong:
            print(f"{name}: {wrong}", flush=True)
            rows[name]["fell"].append(wrong)
            kept = families[name].folder / f"run-{families[name].runs - 1}"
            shutil.copytree(kept, output / f"{kept.parent.name}-{kept.name}", symlinks=True, dirs_exist_ok=True)
    for name, family in families.items():
        rows[name] |= {"calls that write": family.calls, "disturbances": dict(sorted(family.counts.items()))}
    about = {"seed": options.seed, "minutes": round((time.monotonic() - began) / 60, 1), "version": VERSION}
    about |= {"device": device_name(torch.device("cpu")), "python": platform.python_version()}
    return about | {"rows": rows}


def table(result: dict[str, Any]) -> list[str]:
    """Returns the lines of a Markdown table, a row for each family and one for all."""
    kinds = sorted({kind for row in result["rows"].values() for kind in row["disturbances"]})
    lines = [f"| {' | '.join(('family', 'runs', 'same bits', 'fell', *kinds))} |", "|---" * (4 + len(kinds)) + "|"]
    total = Counter()
    for name, row in result["rows"].items():
        counts = {"runs": row["runs"], "same bits": row["same bits"], "fell": len(row["fell"])}
        counts |= {kind: row["disturbances"].get(kind, 0) for kind in kinds}
        total.update(counts)
        lines.append(f"| {name} | {' | '.join(map(str, counts.values()))} |")
    return [*lines, f"| all | {' | '.join(str(total[key]) for key in ('runs', 'same bits', 'fell', *kinds))} |"]


def markdown(result: dict[str, Any]) -> str:
    """Renders the report."""
    lines = [
        "# Kills and failed system calls",
        "",
        f"Tiny runs, disturbed at random moments and calls by seed {result['seed']} for {result['minutes']:g} minutes on",
        f"an {result['device']}, genhub {result['version']}. A run is disturbed up to three times, then resumed by",
        "`genhub train --resume`. *Same bits*: its weights, recipe and records are those of an undisturbed run;",
        "*fell*: anything else. The columns after it count what the runs survived: signals at a random moment, and a",
        "random call that writes that fails (error), finds the disk full, or is the last one before a kill or a power",
        "cut. Written by `scripts/crash.py`.",
        "",
        *table(result),
        "",
    ]
    fallen = [f"- {name}: {line}" for name, row in result["rows"].items() for line in row["fell"]]
    return "\n".join(lines + (["Fell:", "", *fallen, ""] if fallen else []))


if __name__ == "__main__":
    sys.exit(main())
