"""The part of a card on the variation over training seeds."""

import statistics
from typing import Any

ONE_RUN = "One training run with one seed."
SMALLER_IS_BETTER = ("FD", "KID", "MIND", "class balance")


def seeds_table(metrics: dict[str, Any]) -> list[str]:
    """Returns the lines on the training runs in `metrics["seeds"]`, none for fewer than two.

    Each is a `seed` and the `figures` of its evaluation, by the same protocol.
    """
    runs = metrics.get("seeds", [])
    if len(runs) < 2:
        return []
    named = ", ".join(str(run["seed"]) for run in runs)
    lines = [
        "",
        "### Other seeds",
        "",
        f"The same recipe, trained {len(runs)} times (seeds {named}) and judged alike. This is the run of seed "
        f"{runs[0]['seed']}.",
        "",
        "| figure | mean ± sample sd | worst |",
        "|---|---|---|",
    ]
    for name in runs[0]["figures"]:
        values = [run["figures"][name] for run in runs]
        worst = max(values) if name.startswith(SMALLER_IS_BETTER) else min(values)
        lines.append(f"| {name} | {statistics.mean(values):.3g} ± {statistics.stdev(values):.2g} | {worst:.3g} |")
    return lines
