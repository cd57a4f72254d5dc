"""Attacks genhub with mutated files of every kind, through its readers and its command line, and writes docs/attack.

    python scripts/attack.py --seed 1 --count 2000 --output fallen --report docs/attack
    python scripts/attack.py --seed 1 --kinds config.json --case 17       one case again; its files stay in --output

A case changes one file, reads it, and runs a command on it in the same way: `genhub train`, `generate`, `figure` or
`push`. Right are the original, what an independent decoder reads, and one line with exit code 1; anything else falls,
and its input is saved with the command that repeats it. The kinds and their laws are in tests/hostile.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
QUIET = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
QUIET |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "CUDA_VISIBLE_DEVICES": ""}
OUTCOMES = ("equal", "other", "refused", "fell")


def main() -> int:
    """Runs the attack; returns 1 if a case fell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000, help="cases, of all kinds in turn (default: 2000)")
    parser.add_argument("--kinds", help="some of them, with ; between them (default: all)")
    parser.add_argument("--case", type=int, help="the number of one case to repeat, of one kind")
    parser.add_argument("--output", type=Path, default=Path("fallen"), help="folder of the inputs that fell")
    parser.add_argument("--report", type=Path, help="folder of README.md and report.json")
    parser.add_argument("--processes", type=int, default=2, help="cases at a time (default: 2)")
    parser.add_argument("--readers", action="store_true", help="read only, and run no commands")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attack-") as scratch:
        prepare(Path(scratch))
        output, report = (path and path.absolute() for path in (options.output, options.report))
        os.chdir(scratch)
        return attack(options, Path(scratch) / "files", output, report)


def prepare(scratch: Path):
    """Gives genhub caches of its own, and makes the kinds of tests/ importable; before anything heavy is imported."""
    os.environ |= QUIET | {"HF_HOME": str(scratch / "hf"), "GENHUB_CACHE": str(scratch / "cache")}
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    import torch

    torch.set_num_threads(1)


def attack(options: argparse.Namespace, folder: Path, output: Path, report: Path | None) -> int:
    """Runs the cases; saves those that fell, and prints a line for each of them and for each kind."""
    from hostile import forks
    from hostile.attack import KINDS, Attack

    kinds = options.kinds.split(";") if options.kinds else [*KINDS]
    if unknown := [name for name in kinds if name not in KINDS]:
        raise SystemExit(f"There is no kind {unknown[0]!r}. Known: {'; '.join(KINDS)}.")
    if options.case is not None and len(kinds) != 1:
        raise SystemExit("`--case` must be a case of one kind, which `--kinds` names.")
    began = time.monotonic()
    attacker = Attack(options.seed, folder, kinds, through_commands=not options.readers)
    cases = [(kinds[0], options.case)] if options.case is not None else attacker.cases(options.count)
    began, verdicts = time.monotonic(), []
    for verdict in forks.run(attacker, cases, options.processes):
        verdicts.append(verdict)
        if verdict.outcome == "fell" or options.case is not None:
            print(f"{verdict.kind} {verdict.number}: {verdict.outcome}: {verdict.what}: {verdict.why}", flush=True)
            save(attacker, (verdict.kind, verdict.number), output)
    result = summary(options, verdicts, kinds, time.monotonic() - began)
    print("\n".join(table(result)))
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / "report.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (report / "README.md").write_text(markdown(result), encoding="utf-8")
    return int(any(verdict.outcome == "fell" for verdict in verdicts))


def save(attacker: Any, case: tuple[str, int], output: Path):
    """Saves the input of a case, with the commands that repeat it."""
    from hostile.attack import KINDS

    name, number = case
    target = output / f"{name.replace('/', '-')}-{number}".replace(" ", "_")
    shutil.rmtree(target, ignore_errors=True)
    folder, what = attacker.prepare(case, "fallen")
    target.mkdir(parents=True)
    shutil.move(folder, target / "input")
    words = ["python", "scripts/attack.py", "--seed", str(attacker.seed), "--kinds", name, "--case", str(number)]
    lines = [what, shlex.join(words)]
    if KINDS[name].commands:
        lines.append(shlex.join(["genhub", *attacker.words(case, target / "input")]))
    (target / "command.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def summary(options: argparse.Namespace, verdicts: list, kinds: list[str], seconds: float) -> dict[str, Any]:
    """Counts the outcomes of each kind."""
    import torch

    from genhub.utils.environment import device_name
    from genhub.version import VERSION

    by_kind = defaultdict(list)
    for verdict in verdicts:
        by_kind[verdict.kind].append(verdict)
    rows = {}
    for name in kinds:
        outcomes = [verdict.outcome for verdict in by_kind[name]]
        counts = {outcome: outcomes.count(outcome) for outcome in OUTCOMES}
        times = [verdict.seconds for verdict in by_kind[name]]
        rows[name] = {"cases": len(outcomes), **counts, "seconds": round(statistics.median(times or [0]), 3)}
    fell = [f"{v.kind} {v.number}: {v.what}: {v.why}" for v in verdicts if v.outcome == "fell"]
    about = {"seed": options.seed, "cases": len(verdicts), "minutes": round(seconds / 60, 1), "version": VERSION}
    about |= {"processes": options.processes, "through": "readers" if options.readers else "readers and commands"}
    about |= {"device": device_name(torch.device("cpu")), "python": platform.python_version()}
    return about | {"rows": rows, "fell": fell}


def table(result: dict[str, Any]) -> list[str]:
    """Returns the lines of a Markdown table, a row for each kind and one for all."""
    head = ("kind", "cases", *OUTCOMES, "seconds")
    rows = [(name, *row.values()) for name, row in result["rows"].items()]
    total = [sum(row[column] for row in rows) for column in range(1, len(head) - 1)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in [*rows, ("all", *total, "")]]


def markdown(result: dict[str, Any]) -> str:
    """Renders the report."""
    lines = [
        "# Mutated files",
        "",
        f"{result['cases']:,} mutations by seed {result['seed']} in {result['minutes']:g} minutes, through",
        f"{result['through']}, {result['processes']} at a time on an {result['device']}, genhub {result['version']}.",
        "Each case changes one file: bits, chunks, numbers, entries of a structure, or what lies at its path.",
        "*Equal*: what was read is the original; *other*: it is what an independent decoder reads, or what a file",
        "without a checksum may say; *refused*: one line and exit code 1; *fell*: anything else, such as a traceback,",
        "a signal, more than 10 s or 2 GB, or other content where a hash is known. Seconds are the median of a",
        "case. Written by `scripts/attack.py`.",
        "",
        *table(result),
        "",
    ]
    fallen = [f"- {line}" for line in result["fell"]]
    return "\n".join(lines + (["Fell:", "", *fallen, ""] if fallen else []))


if __name__ == "__main__":
    sys.exit(main())
