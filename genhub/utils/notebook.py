"""Where a notebook's kernel runs this process, and paths that show there what lies at them."""

import base64
import html
import json
import sys
from pathlib import Path

METRICS = 12  # rows of a repository's table


def in_notebook() -> bool:
    """Returns whether a kernel of IPython runs this process."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None


class ShownPath(type(Path())):
    """A path that a notebook shows as its picture, or as the samples and metrics of its repository.

    Attributes:
        stopped: why training ended before its last step, "" if it did not.
    """

    stopped = ""

    def _repr_png_(self) -> bytes | None:
        return self.read_bytes() if self.suffix.lower() == ".png" and self.is_file() else None

    def _repr_html_(self) -> str | None:
        if self.suffix.lower() == ".gif" and self.is_file():
            return _image(self, "gif")
        if not self.is_dir():
            return None
        parts = [f"<p>{html.escape(self.stopped or str(self))}</p>"]
        if (samples := self / "samples.png").is_file() and not self.stopped:
            parts.append(_image(samples, "png"))
        if (metrics := self / "metrics.json").is_file() and not self.stopped:
            parts.append(_table(json.loads(metrics.read_text(encoding="utf-8")).get("results", [])))
        return "".join(parts)


def _image(path: Path, kind: str) -> str:
    pixels = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(path.name)}" src="data:image/{kind};base64,{pixels}">'


def _table(results: list[dict]) -> str:
    cells = [(html.escape(f"{row['name']} ({row.get('split', '')})"), row["value"]) for row in results[:METRICS]]
    return "<table>" + "".join(f"<tr><td>{name}</td><td>{value:.4g}</td></tr>" for name, value in cells) + "</table>"
