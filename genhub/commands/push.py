"""`genhub push`: a saved repository onto the Hub."""

from genhub.repository.push import push

__all__ = ["push"]
