"""The version of genhub."""

VERSION = "0.1.0"
