"""How a new version of a repository replaces an old one.

It does so in steps that may be interrupted anywhere:
1. It is written to `.saving`, and flushed to the disk. Until then the old version is the repository.
2. `.saving` is renamed to `.saved`. From here on the new version is: `download` prefers a `.saved` folder.
3. Each of its files replaces the old one, model_index.json last. They are hard links, so `.saved` stays complete.
4. `.saved` is removed. If that or step 3 failed, the next save begins by doing them again.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from genhub.repository.format import SCRATCH, STAGED, RepositoryError, member, repo_files
from genhub.utils.files import remove_leftovers, replacement, scratch_name, sync_folder, sync_tree
from genhub.utils.locks import FolderInUse, locked


@contextmanager
def new_version(folder: Path) -> Iterator[Path]:
    """Yields an empty folder, whose content is the new version of the repository in `folder` when the block ends; if
    it fails, the old one stays. `folder` is locked meanwhile."""
    with locked(folder):
        remove_leftovers(folder)
        _finish_save(folder)
        scratch = folder / SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir()
            yield scratch
            sync_tree(scratch)
            scratch.rename(folder / STAGED)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        sync_folder(folder)
        _finish_save(folder)


def finish_save(folder: Path):
    """Puts a complete new version in place of the old one, if an earlier save was interrupted after its commit; leaves
    that to a process which is saving."""
    if (folder / STAGED).is_dir():
        with suppress(FolderInUse), locked(folder):
            _finish_save(folder)


def _finish_save(folder: Path):
    staged, scratch = folder / STAGED, folder / SCRATCH
    if not staged.is_dir():
        return
    files = sorted(repo_files(staged), key=lambda name: name == "model_index.json")
    _check_inside(folder, files)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        replace_by_link(staged / name, folder / name)
    folders = {(folder / name).parent for name in files} - {folder}
    for path in {path for parent in folders for path in parent.iterdir()}:
        if path.is_file() and path.relative_to(folder).as_posix() not in files:
            path.unlink()  # of an earlier version of the component
    for parent in [*folders, folder]:
        sync_folder(parent)
    shutil.rmtree(scratch, ignore_errors=True)
    staged.rename(scratch)
    shutil.rmtree(scratch, ignore_errors=True)


def _check_inside(folder: Path, files: list[str]):
    """Checks that no link leads out of a folder, which may be a stranger's: what is read has to lie in its new
    version, and what is replaced or removed in the folder itself.

    Raises:
        RepositoryError: one does.
    """
    staged = folder / STAGED
    places = {staged: folder.resolve() / STAGED}
    places |= {(folder / name).parent: (folder.resolve() / name).parent for name in files}
    for path, place in places.items():
        if path.resolve() != place:
            raise RepositoryError(f"{path} must be a folder of the repository, got a link to {path.resolve()}.")
    for name in files:
        member(staged, name)


def replace_by_link(source: Path, target: Path):
    """Replaces `target` in one step by a hard link to `source`, or by a copy where there are no hard links."""
    if target.exists() and target.samefile(source):
        return
    part = scratch_name(target.parent)
    try:
        os.link(source, part)
        os.replace(part, target)
    except OSError:
        part.unlink(missing_ok=True)
        with replacement(target) as part:
            shutil.copyfile(source, part)
