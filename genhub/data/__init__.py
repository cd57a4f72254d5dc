"""Any `datasets` image data set -> uint8 images -> batches in [-1, 1]."""

from genhub.data.config import DataConfig
from genhub.data.images import Images, Order, Shape, to_model_range
from genhub.data.lazy import Lazy
from genhub.data.load import load, source_folder

__all__ = ["DataConfig", "Images", "Lazy", "Order", "Shape", "load", "source_folder", "to_model_range"]
