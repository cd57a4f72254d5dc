"""`genhub train` as a script, for `accelerate launch scripts/train.py ...`; `--help` explains."""

import sys

from genhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
