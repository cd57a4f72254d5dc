"""`genhub evaluate` as a script, for `accelerate launch scripts/evaluate.py ...`; `--help` explains."""

import sys

from genhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
