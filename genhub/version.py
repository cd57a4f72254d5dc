"""The version of genhub."""

VERSION = "0.2.0"
