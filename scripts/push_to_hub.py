"""`genhub push` as a script, for `accelerate launch scripts/push_to_hub.py ...`; `--help` explains."""

import sys

from genhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]]))
