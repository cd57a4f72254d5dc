"""Measures what pretraining is worth (exercise 10): `python scripts/pretraining_report.py FASHION_MNIST OUTPUT`.

What was stopped goes on: OUTPUT/report.json keeps each figure, and runs/pretraining each trained repository.
"""

import sys
from pathlib import Path

from genhub.pretraining import write_report

if __name__ == "__main__":
    write_report(sys.argv[1], Path(sys.argv[2]))
