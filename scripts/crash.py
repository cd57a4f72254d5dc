"""Kills training runs and fails their system calls at random moments, resumes them, and writes docs/crash.

    python scripts/crash.py --minutes 15 --report docs/crash

Each family trains a tiny recipe once without disturbance. Then, again and again, a run of it is disturbed once or
more: by SIGKILL or SIGTERM at a random moment, or at a random call that writes, which fails, finds the disk full, is
the last one of the process, or the last one before a power cut (tests/faults.py). `genhub train --resume` has to go
on, and its weights, recipe and records have to be those of the undisturbed run, bit for bit. Folders of runs that fell
are kept.
"""

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SCRATCH = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def main() -> int:
    """Disturbs runs of all families in turn until the time is over; returns 1 if one fell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=15.0, help="(default: 15)")
    parser.add_argument("--families", help="some of them, with ; between them (default: all)")
    parser.add_argument("--output", type=Path, default=Path("crashed"), help="folder of the runs that fell")
    parser.add_argument("--report", type=Path, help="folder of README.md and report.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crash-") as scratch:
        output, report = (path and path.absolute() for path in (options.output, options.report))
        prepare(Path(scratch))
        os.chdir(scratch)
        result = crash(options, Path(scratch), output)
    print("\n".join(table(result)))
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / "report.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (report / "README.md").write_text(markdown(result), encoding="utf-8")
    return int(any(row["fell"] for row in result["rows"].values()))


def prepare(scratch: Path):
    """Gives genhub caches of its own, and imports all that the forked runs need."""
    os.environ |= SCRATCH | {"HF_HOME": str(scratch / "hf"), "GENHUB_CACHE": str(scratch / "cache")}
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    import torch

    torch.set_num_threads(1)


def crash(options: argparse.Namespace, scratch: Path, output: Path) -> dict[str, Any]:
    """Disturbs the runs, one after the other."""
    import torch
    from hostile.crashes import FAMILIES, Crashes

    from genhub.utils.environment import device_name
    from genhub.version import VERSION

    rng, began = random.Random(options.seed), time.monotonic()
    names = options.families.split(";") if options.families else [*FAMILIES]
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
        f"Tiny runs, disturbed at random moments and calls by seed {result['seed']}, for {result['minutes']:g}",
        f"minutes on an {result['device']}, genhub {result['version']}. A run is disturbed up to three times, then",
        "resumed by `genhub train --resume`. *Same bits*: its weights, recipe and records are those of an undisturbed",
        "run; *fell*: anything else. The columns after it count what the runs survived: signals at a random moment,",
        "and a random call that writes that fails (error), finds the disk full, or is the last one before a kill or a",
        "power cut. Written by `scripts/crash.py`.",
        "",
        *table(result),
        "",
    ]
    fallen = [f"- {name}: {line}" for name, row in result["rows"].items() for line in row["fell"]]
    return "\n".join(lines + (["Fell:", "", *fallen, ""] if fallen else []))


if __name__ == "__main__":
    sys.exit(main())
