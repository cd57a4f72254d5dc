"""What the chapter and the tutorial say of trained models, measured on the published ones; nothing is trained.

    python scripts/studies/published_claims.py FASHION_MNIST docs/studies/published-models

The file named after `claim_code` has the functions, one a claim. Rows that are in report.json are not measured again.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import claim_codes
import claim_samples
import torch
from claim_bench import Bench
from cpu_minutes import Report

CLAIMS = claim_codes.CLAIMS | claim_samples.CLAIMS  # claim -> function of a bench, which yields (what, value, spread)
COUNT = 2000


def study(data: str, folder: Path, models: Path, count: int = COUNT, claims: list[str] | None = None) -> Report:
    """Measures the claims that are missing in `report.json`.

    Args:
        data: Fashion MNIST, as data.source of a recipe.
        models: the folder of the published models.
        count: test images, or samples, of each measure.
        claims: only these; they are measured again.
    """
    report = Report(folder, {"images": count}, markdown)
    bench = Bench(data, models, count)
    for claim, function in CLAIMS.items():
        if claim in (claims or set(CLAIMS) - report.content["rows"].keys()):
            start = time.perf_counter()
            rows = [(what, round(value, 5), spread and round(spread, 5)) for what, value, spread in function(bench)]
            print(claim, rows, f"{time.perf_counter() - start:.0f} s", flush=True)
            measured = report.content["rows"] | {claim: rows}
            report.content["rows"] = {name: measured[name] for name in CLAIMS if name in measured}
            report.save()
    report.save()
    return report


def markdown(report: dict[str, Any]) -> str:
    """Renders the table."""
    lines = [
        "# Claims measured on the published models",
        "",
        f"{report['images']:,} images of the test set of Fashion MNIST, or as many samples of one seed, for each row,",
        f"in float32, on one {report['device']} with torch {report['versions']['torch']}; nothing is trained.",
        "Written by `python scripts/studies/published_claims.py FASHION_MNIST docs/studies/published-models`; the",
        "functions of `scripts/studies/claim_codes.py` and `scripts/studies/claim_samples.py` say how. Spreads are",
        "standard errors over images, of probes the standard deviation over five draws of labels. Pixels lie in",
        "[0, 1]; the classifier is that of the protocol (`clf`).",
        "",
        "| claim | measured | value | ± |",
        "|---|---|---|---|",
    ]
    for claim, rows in report["rows"].items():
        for what, value, spread in rows:
            lines.append(f"| {claim} | {what} | {value:.4g} | {'' if spread is None else f'{spread:.2g}'} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="Fashion MNIST, as data.source of a recipe")
    parser.add_argument("folder", type=Path, help="of the results")
    parser.add_argument("--models", type=Path, default=Path("model_cards"), help="folder of the published models")
    parser.add_argument("--claims", nargs="+", choices=CLAIMS, help="measure these again, and no others")
    options = vars(parser.parse_args())
    torch.set_num_threads(1)
    print(markdown(study(**options).content))


if __name__ == "__main__":
    main()
