"""Any `datasets` image data set -> uint8 images, or their latents -> batches that an objective meets."""

from genhub.data.captions import Captions
from genhub.data.config import DataConfig
from genhub.data.images import Images, InMemory, Order, Shape, to_model_range
from genhub.data.latents import Latents, encode_images
from genhub.data.lazy import Lazy
from genhub.data.load import load, load_whole
from genhub.data.points import Points, points_to_model_range
from genhub.data.sources import source_folder
from genhub.data.tokens import TOKENIZER_KEYS, token_counts, tokenize, train_tokenizer

__all__ = [
    "TOKENIZER_KEYS",
    "Captions",
    "DataConfig",
    "Images",
    "InMemory",
    "Latents",
    "Lazy",
    "Order",
    "Points",
    "Shape",
    "encode_images",
    "load",
    "load_whole",
    "points_to_model_range",
    "source_folder",
    "to_model_range",
    "token_counts",
    "tokenize",
    "train_tokenizer",
]
