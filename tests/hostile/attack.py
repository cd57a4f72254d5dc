"""An attack: mutations by a seed, each with its verdict."""

import random
import shutil
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import genhub
from genhub.cli import main
from hostile import data_kinds, repo_kinds, run_kinds
from hostile.forks import Case, Output, Verdict
from hostile.kind import Kind, Value, equal

KINDS: dict[str, Kind] = {**data_kinds.KINDS, **repo_kinds.KINDS, **run_kinds.KINDS}
ROOT = Path(genhub.__file__).parent
RIGHT = ("equal", "other", "refused")


class Attack:
    """Mutations of files of some kinds; a case of a `seed` is the same whatever the other cases are.

    A reader has to return the original, or what the kind permits, or to raise one line of genhub's.

    Args:
        folder: for unharmed files and for those of each case.
        through_commands: run a command line of the kind after the reader: it has to refuse what the reader refused.
        keep: whether the files of each case stay.
    """

    def __init__(
        self, seed: int, folder: Path, kinds=tuple(KINDS), through_commands: bool = False, keep: bool = False
    ):
        self.seed, self.folder, self.keep, self.through_commands = seed, folder, keep, through_commands
        self.kinds = [*kinds]
        self.originals: dict[str, Value] = {}
        for name in self.kinds:
            pristine = self._unharmed(name)
            KINDS[name].make(pristine)
            self.originals[name] = KINDS[name].read(self._copy(name, folder / "first" / _plain(name)))
        shutil.rmtree(folder / "first", ignore_errors=True)

    def cases(self, count: int) -> list[Case]:
        """Returns the first cases, of all kinds in turn."""
        return [(self.kinds[index % len(self.kinds)], index // len(self.kinds)) for index in range(count)]

    def __call__(self, case: Case) -> Iterator[Verdict]:
        """Yields the case as it begins, and its verdict."""
        folder, what = self.prepare(case)
        verdict = Verdict(*case, what, "started")
        yield verdict
        began = time.perf_counter()
        outcome, why = self._read(case[0], folder, what.partition(": ")[2])
        if outcome != "fell" and self.through_commands and KINDS[case[0]].commands:
            outcome, why = self._command(case, outcome, why)
        if not self.keep:
            shutil.rmtree(folder.parent, ignore_errors=True)
        yield replace(verdict, outcome=outcome, why=why[:1000], seconds=time.perf_counter() - began)

    def prepare(self, case: Case, place: str = "cases") -> tuple[Path, str]:
        """Writes the files of a case; returns their folder, and what was done to them."""
        name, number = case
        rng, kind = random.Random(f"{self.seed} {name} {number}"), KINDS[name]
        folder = self._copy(name, self.folder / place / f"{_plain(name)}-{number}" / "input")
        file = rng.choice(kind.paths(folder))
        what = rng.choice(kind.mutations)(rng, folder, file)
        return folder, f"{file.relative_to(folder)}: {what}"

    def _read(self, name: str, folder: Path, what: str) -> tuple[str, str]:
        kind, original = KINDS[name], self.originals[name]
        with Output():
            try:
                found = kind.read(folder)
            except BaseException as error:
                wrong = complaint(error, folder)
                return ("fell", wrong) if wrong else ("refused", str(error))
        if what.startswith("link outside") and not kind.follows_links:
            return "fell", "a file outside was read"
        if equal(found, original):
            return "equal", ""
        if kind.permits(found, original, folder):
            return "other", ""
        return "fell", "other content was read without a word"

    def words(self, case: Case, folder: Path) -> list[str]:
        """Returns the words of the command line that reads a case, in turn one of its kind's."""
        name, number = case
        return KINDS[name].commands[number % len(KINDS[name].commands)](folder)

    def _command(self, case: Case, outcome: str, why: str) -> tuple[str, str]:
        folder, _ = self.prepare(case, "commands")
        words = self.words(case, folder)
        code, text = run_command(words)
        wrong = complaint_of_command(code, text)
        reads_all = words[0] != "push" and words[1] != "--resume"  # one checks, the other begins anew
        given = [word[2:].partition("=")[0] for word in words if word.startswith("--") and "=" in word]
        is_overridden = any(f"`{key}`" in why for key in given)
        if wrong is None and outcome == "refused" and code == 0 and reads_all and not is_overridden:
            wrong = f"the reader refused ({why}), and the command did not"
        if wrong is None and code == 0 and words[0] == "train" and not KINDS[case[0]].leaves(folder):
            wrong = "its result is another one"
        shutil.rmtree(folder.parent, ignore_errors=True)
        if wrong:
            return "fell", f"genhub {words[0]}: {wrong}"
        return ("refused", text.rstrip().splitlines()[-1]) if code else (outcome, why)

    def _unharmed(self, name: str) -> Path:
        return self.folder / "unharmed" / _plain(name)

    def _copy(self, name: str, folder: Path) -> Path:
        return Path(shutil.copytree(self._unharmed(name), folder))


def _plain(name: str) -> str:
    return name.replace("/", "-")


def run_command(words: list[str]) -> tuple[int, str]:
    """Runs `genhub WORDS` in this process; returns its exit code, 70 with a traceback, and what it printed."""
    with Output() as output:
        try:
            code = main(words)
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = 70
        return code, output.text


def complaint_of_command(code: int, text: str) -> str | None:
    """Returns what is wrong with the end of a command: success, or code 1 and one line (an error, or why training
    stopped), are right."""
    lines = text.rstrip().splitlines()
    if "Traceback" in text or code not in (0, 1):
        return f"exit code {code}: {lines[-1] if lines else 'no word'}"
    if code == 1 and not (lines and lines[-1].startswith("genhub: ")):
        return f"not one line: {' / '.join(lines[-3:])}"
    if code == 1 and len(lines[-1]) > 3000:
        return f"a line of {len(lines[-1]):,} letters"
    return None


def complaint(error: BaseException, folder: Path) -> str | None:
    """Returns what is wrong with an error: a ValueError of genhub's, and an OSError of a named file, in one line, are
    right."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT)]
    last, inner = (own or frames)[-1], frames[-1]
    place = f"{Path(last.filename).relative_to(ROOT) if own else last.filename}:{last.name}"
    summary = (
        f"{type(error).__name__} in {place} (raised in {Path(inner.filename).name}:{inner.name}): {str(error)[:300]!r}"
    )
    is_ours = type(error) is ValueError or type(error).__module__.startswith("genhub.")
    if not (isinstance(error, ValueError) and is_ours or isinstance(error, OSError)):
        return summary
    if isinstance(error, OSError) and error.filename is None and str(folder) not in str(error) and not is_ours:
        return f"does not name the file: {summary}"
    if len(str(error).strip().splitlines()) != 1:
        return f"not one line: {summary}"
    if isinstance(error, ValueError) and inner.filename.startswith("<"):
        return f"not genhub's: {summary}"
    return None
