"""`genhub recipes` as a script."""

import sys

from genhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["recipes", *sys.argv[1:]]))
