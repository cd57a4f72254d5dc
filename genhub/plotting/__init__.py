"""Pictures of images, and charts of numbers: what is drawn comes as arguments, and nothing is read or written.

Charts need matplotlib, which is imported where they are drawn, and never by `pyplot`, whose state is everybody's.
"""

from genhub.plotting.animations import gif
from genhub.plotting.bars import Histogram, histograms
from genhub.plotting.charts import chart, chart_png
from genhub.plotting.grids import GREY, first_row, grid, named_rows, pairs, plane, png, titled
from genhub.plotting.maps import image_map, spread_out
from genhub.plotting.style import CLASS_COLOURS, COLOURS, MARKERS, STYLE, Line, Panel

__all__ = [
    "CLASS_COLOURS",
    "COLOURS",
    "GREY",
    "MARKERS",
    "STYLE",
    "Histogram",
    "Line",
    "Panel",
    "chart",
    "chart_png",
    "first_row",
    "gif",
    "grid",
    "histograms",
    "image_map",
    "named_rows",
    "pairs",
    "plane",
    "png",
    "spread_out",
    "titled",
]
