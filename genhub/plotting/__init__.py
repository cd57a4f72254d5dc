"""Pictures of images and charts of numbers, drawn from arguments alone.

Charts need matplotlib. It is imported where they are drawn, and never through `pyplot`, whose state is global.
"""

from genhub.plotting.animations import gif
from genhub.plotting.bars import Histogram, histograms
from genhub.plotting.charts import chart, chart_png
from genhub.plotting.diagrams import Block, diagram
from genhub.plotting.grids import blank, cut_grid, grid, pairs, png
from genhub.plotting.maps import image_map, point_maps
from genhub.plotting.sheets import add_title, image_plane, image_rows
from genhub.plotting.space import space
from genhub.plotting.style import Line, Panel

__all__ = [
    "Block",
    "Histogram",
    "Line",
    "Panel",
    "add_title",
    "blank",
    "chart",
    "chart_png",
    "cut_grid",
    "diagram",
    "gif",
    "grid",
    "histograms",
    "image_map",
    "image_plane",
    "image_rows",
    "pairs",
    "png",
    "point_maps",
    "space",
]
