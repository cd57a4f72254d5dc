"""Paths that a notebook shows by what lies at them."""

import base64
import html
from pathlib import Path
from typing import Any

from genhub.repository.card_evaluation import full_name, protocol_of, value_and_spread
from genhub.repository.metrics import read_metrics

ROWS = 12  # of the newest evaluation


class ShownPath(type(Path())):
    """A path that a notebook shows as its picture, or as the samples, losses and newest evaluation of its repository.

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
            parts.append(_tables(read_metrics(metrics)))
        return "".join(parts)


def _image(path: Path, kind: str) -> str:
    pixels = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(path.name)}" src="data:image/{kind};base64,{pixels}">'


def _tables(metrics: dict[str, Any]) -> str:
    losses = [(f"{row['name']} ({row['split']})", f"{row['value']:.4g}") for row in metrics.get("results", [])]
    newest = metrics.get("evaluations", [])[-1:]
    measured = [(full_name(x), value_and_spread(x)) for evaluation in newest for x in evaluation["figures"][:ROWS]]
    titles = [protocol_of(evaluation) for evaluation in newest]
    return _table("", losses) + _table("".join(titles), measured)


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows]
    return f"<table><caption>{html.escape(title)}</caption>{''.join(lines)}</table>" if rows else ""
