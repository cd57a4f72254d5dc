"""`genhub doctor` as a script: `accelerate launch scripts/doctor.py`."""

import sys

from genhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["doctor", *sys.argv[1:]]))
