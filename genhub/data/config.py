"""The section `data` of a recipe."""

from dataclasses import dataclass

from genhub.utils.ranges import Range, check_ranges

RANGES = {
    "labelled": Range(1),
    "size": Range(1, 16_384),
    "padding": Range(0, 4096),
    "memory_limit_gb": Range(0, 10**6),
    "workers": Range(1, 256),
    "shuffle_buffer": Range(1),
    "caption_length": Range(3, 4096),
}


@dataclass
class DataConfig:
    """Which images a model is trained on, and in which shape.

    Args:
        source: `sample`, `points` (in space, near a plane), a Hub id, or a folder of parquet files, of images (a
            subfolder a class) or of the four idx files.
        val_size: images at the end of the training split that are kept for validation.
        labelled: train on this many images only, equally many of each class; None for all.
        label_draw: seed of the draw of the `labelled` images.
        size: centre-crop and resize to this many pixels; None keeps the images as they are.
        padding: black pixels around each image; `genhub evaluate` compares images without them.
        channels: 1 or 3 to convert; None keeps grey grey and colour colour.
        streaming: read the data set while training instead of loading it first.
        memory_limit_gb: a larger set is decoded by `workers` processes while training.
        shuffle_buffer: size of the buffer that a stream is shuffled in, in images.
        captions: of each image, for a model that reads them: `templates` writes them, from its class and what is
            measured on it; another name is that of a column of texts.
        caption_length: tokens of a caption with its two ends, to which it is filled up or cut.
        encode: component that encodes the images once; all others are trained on its latents.
        standardise: give the latents mean 0 and variance 1, by the scaling and biases of an `AutoencoderKL`; not for a
            network that knows its latents as they are.
    """

    source: str = "zalando-datasets/fashion_mnist"
    val_size: int = 5000
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
        if self.channels not in (None, 1, 3):
            raise ValueError(f"`data.channels` must be 1 or 3, got {self.channels}.")

    @property
    def caption_column(self) -> str | None:
        """The column of the captions, if they are not written."""
        return None if self.captions == "templates" else self.captions
