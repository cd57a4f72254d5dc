"""Any `datasets` image data set -> uint8 images, or their latents -> batches that an objective meets."""

from genhub.data.config import DataConfig
from genhub.data.images import Images, InMemory, Order, Shape, to_model_range
from genhub.data.latents import Latents, encode_images, encoder_key, encoder_of
from genhub.data.lazy import Lazy
from genhub.data.load import load
from genhub.data.points import Points, points_to_model_range
from genhub.data.sources import source_folder

__all__ = [
    "DataConfig",
    "Images",
    "InMemory",
    "Latents",
    "Lazy",
    "Order",
    "Points",
    "Shape",
    "encode_images",
    "encoder_key",
    "encoder_of",
    "load",
    "points_to_model_range",
    "source_folder",
    "to_model_range",
]
