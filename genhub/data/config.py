"""The section `data` of a recipe."""

from dataclasses import dataclass
from typing import Literal

from genhub.utils.ranges import Range, check_ranges

RANGES = {
    "labelled": Range(1),
    "size": Range(1, 16_384),
    "padding": Range(0, 4096),
    "random_crop": Range(0, 256),
    "memory_limit_gb": Range(0, 10**6),
    "workers": Range(1, 256),
    "shuffle_buffer": Range(1),
    "caption_length": Range(3, 4096),
}
CHOICES = {"on_bad_image": ("error", "skip"), "background": ("black", "white")}


@dataclass
class DataConfig:
    """Which images a model is trained on, and in which shape.

    Args:
        source: `sample`, `points` (in space, near a plane), a Hub id, an `.npz` archive, or a folder: of parquet
            files, of images (a subfolder a class), of the four idx files, or one that `save_to_disk` wrote.
        val_size: images of the training file that are held out for validation, as a number or a share; None for a
            tenth, at most 5,000.
        test_size: images of the training file that are held out for the test where there is no file of them, as a
            number or a share.
        image_column: of a data set that has several columns of images.
        label_column: of a data set in which several columns may be the classes; `none` to train without them.
        on_bad_image: `error`, or `skip` to leave out images that cannot be read; their number stands on the card.
        background: `black` or `white`, which transparent pixels and the borders of `random_crop` show.
        random_flip: mirror half of the training images, others in each epoch.
        random_crop: pixels by which training images are shifted at most, in both directions, others in each epoch.
        labelled: train on this many images only, equally many of each class; None for all.
        label_draw: seed of the draw of the `labelled` images.
        size: centre-crop and resize to this many pixels; None keeps the images as they are.
        padding: black pixels around each image; `genhub evaluate` compares images without them.
        channels: 1 or 3 to convert; None keeps grey grey and colour colour.
        streaming: read the data set while training instead of loading it first.
        memory_limit_gb: a larger set is decoded by `workers` processes while training; idx files and archives must not
            be larger.
        shuffle_buffer: size of the buffer that a stream is shuffled in, in images.
        captions: of each image, for a model that reads them: `templates` writes them, from its class and what is
            measured on it; another name is that of a column of texts.
        caption_length: tokens of a caption with its two ends, to which it is filled up or cut.
        encode: component that encodes the images once; all others are trained on its latents.
        standardise: give the latents mean 0 and variance 1, by the scaling and biases of an `AutoencoderKL`; not for a
            network that knows its latents as they are.
    """

    source: str = "zalando-datasets/fashion_mnist"
    val_size: int | float | None = None
    test_size: int | float = 0.1
    image_column: str | None = None
    label_column: str | None = None
    on_bad_image: Literal["error", "skip"] = "error"
    background: Literal["black", "white"] = "black"
    random_flip: bool = False
    random_crop: int = 0
    labelled: int | None = None
    label_draw: int = 0
    size: int | None = None
    padding: int = 0
    channels: int | None = None
    streaming: bool = False
    memory_limit_gb: float = 4.0
    workers: int = 2
    shuffle_buffer: int = 10_000
    captions: str | None = None
    caption_length: int = 16
    encode: str | None = None
    standardise: bool = False

    def __post_init__(self):
        check_ranges("data", self, RANGES)
        for name in ("val_size", "test_size"):
            size = getattr(self, name)
            if isinstance(size, float) and size >= 1:
                raise ValueError(f"`data.{name}` must be a number of images, or a share below 1, got {size}.")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`data.{name}` must be {' or '.join(known)}, got {getattr(self, name)!r}.")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"`data.channels` must be 1 or 3, got {self.channels}.")
        if self.encode is not None and (self.random_flip or self.random_crop):
            raise ValueError("`data.random_flip` and `data.random_crop` must be off: latents are stored once.")

    @property
    def has_val(self) -> bool:
        """Whether images are held out for validation."""
        return self.val_size != 0

    @property
    def caption_column(self) -> str | None:
        """The column of the captions, if they are not written."""
        return None if self.captions == "templates" else self.captions
