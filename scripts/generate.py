"""`genhub generate` as a script, for `accelerate launch scripts/generate.py ...`; `--help` explains."""

import sys

from genhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
