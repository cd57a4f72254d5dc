"""`genhub figure` as a script; `--help` explains."""

import sys

from genhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["figure", *sys.argv[1:]]))
