"""`genhub push`: a saved repository onto the Hub, or a page or a demo of it, as a Space."""

import tempfile
from pathlib import Path

from genhub.repository.push import push
from genhub.repository.space import push_space

__all__ = ["push", "push_demo", "push_page"]


def push_page(folder: str, repo_id: str, private: bool = False, dry_run: bool = False) -> str:
    """Uploads a page, or the page of a repository, as a static Space, and returns its address."""
    from genhub.commands.page import page

    with tempfile.TemporaryDirectory() as scratch:
        is_page = (Path(folder) / "index.html").is_file()
        site = Path(folder) if is_page else page([folder], Path(scratch) / "site")
        return push_space(site, repo_id, "static", private, dry_run=dry_run)


def push_demo(folder: str, repo_id: str, private: bool = False, dry_run: bool = False) -> str:
    """Uploads a Gradio demo of a repository as a Space, and returns its address."""
    from genhub.commands.demo import write_demo

    with tempfile.TemporaryDirectory() as scratch:
        return push_space(write_demo(folder, Path(scratch) / "space"), repo_id, "gradio", private, dry_run=dry_run)
