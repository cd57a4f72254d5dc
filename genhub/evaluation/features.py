"""Feature spaces: uint8 images (N, C, H, W) -> features (N, K), by which sets of images are compared."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch

from genhub.data import to_model_range
from genhub.models.classifier import ImageClassifier
from genhub.repository.format import member
from genhub.repository.weights import check_component, check_finite
from genhub.utils.cache import cached, content_hash, holds
from genhub.utils.files import sha256
from genhub.utils.reading import one_line, parse_json, read_safetensors, read_text

NETS = Path(__file__).parent / "feature_nets"
PINNED = {  # the classifiers of protocol fmnist-eval-1, seeds 0, 1 and 2; others give other numbers
    "fashion-mnist-0": "0ce4cdb3d967b216712c565e79fd830e68c20a75887c43d51bc0324f7202744b",
    "fashion-mnist-1": "c987635d2de45618c3e225b75065ac478e77adb7832944d500f64e5da3704c86",
    "fashion-mnist-2": "fcee913c49567a4508259c5932c87c2caf916125ff080ca32e3517876df4314e",
}
WEIGHTS = "diffusion_pytorch_model.safetensors"
EXACT = 4096  # pixels, at most, whose principal components are exact; else there are
OVERSAMPLING, POWER = 10, 7  # more projections than components, and iterations of the power method


class FeatureSpace:
    """Maps images to features.

    Attributes:
        name: of the space, in reports.
        key: identifies the features, for caches and reports.
        shape: (C, H, W) of the images, None for any.
    """

    name: str
    key: str
    shape: tuple[int, int, int] | None = None

    def __call__(self, images: torch.Tensor, batch_size: int = 500) -> torch.Tensor:
        """Returns the features of uint8 `images` (N, C, H, W) as float32 (N, K), on the CPU.

        Raises:
            ValueError: `images` are not uint8, or of another shape than the space's.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise ValueError(
                f"`images` must be uint8 (N, C, H, W) with N of at least 1, got {images.dtype} {tuple(images.shape)}."
            )
        if self.shape is not None and tuple(images.shape[1:]) != self.shape:
            raise ValueError(f"The space {self.name} is for images of {self.shape}, got {tuple(images.shape[1:])}.")
        with torch.inference_mode():
            return torch.cat([self.map(batch).float().cpu() for batch in images.split(batch_size)])

    def map(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the features of one batch."""
        raise NotImplementedError

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the class probabilities, (N, classes), of images with these `features`; only a classifier's space
        has them."""
        raise NotImplementedError


class ClassifierSpace(FeatureSpace):
    """The input of a classifier's last layer."""

    def __init__(self, name: str, classifier: ImageClassifier, key: str, device: str | torch.device = "cpu"):
        self.name, self.key, self.device = name, key, torch.device(device)
        self.is_pinned = False
        # channels_last: a fifth faster on CPUs
        self.classifier: ImageClassifier = classifier.eval().to(
            device,  # pyright: ignore[reportArgumentType]  # diffusers' wrapper of `to` hides its parameters
            memory_format=torch.channels_last,
        )

    @classmethod
    def load(cls, name: str, folder: Path, device: str | torch.device = "cpu") -> "ClassifierSpace":
        """Loads the classifier in `folder`.

        Raises:
            ValueError: there is none, or its folder has the name of a classifier of the protocol but other weights.
        """
        for file in ("config.json", WEIGHTS):
            if not (folder / file).is_file():
                raise ValueError(f"{folder} holds no {file}: it is no classifier of the recipe feature-classifier.")
            member(folder.parent, f"{folder.name}/{file}")
        check_component(ImageClassifier, folder)
        digest = sha256(folder / WEIGHTS)
        if digest != PINNED.get(folder.name, digest):
            raise ValueError(
                f"{folder / WEIGHTS} must be the feature weights of the protocol (SHA-256 {PINNED[folder.name]}), "
                f"got {digest}."
            )
        config = read_text(folder / "config.json")
        classifier = cast(ImageClassifier, ImageClassifier.from_config(parse_json(config, folder / "config.json")))
        classifier.load_state_dict(read_safetensors(folder / WEIGHTS))
        check_finite(classifier, folder)
        space = cls(name, classifier, f"{digest}-{content_hash(config)}", device)
        space.try_once(folder)
        return space

    def try_once(self, folder: Path):
        """Raises a ValueError if the classifier does not make finite features of an image."""
        row = torch.arange(28 * 28).remainder(256).to(torch.uint8)
        image = row.expand(1, self.classifier.config["in_channels"], -1).unflatten(2, (28, 28))
        try:
            is_finite = self(image).isfinite().all()
        except (RuntimeError, TypeError) as error:  # PyTorch's, of a stride that is none
            raise ValueError(f"{folder} holds no classifier of images: {one_line(error)}") from error
        if not is_finite:
            raise ValueError(f"{folder} holds a classifier whose features are no finite numbers.")

    def map(self, images: torch.Tensor) -> torch.Tensor:
        channels = self.classifier.config["in_channels"]
        if images.shape[1] != channels:
            raise ValueError(f"The space {self.name} is for images of {channels} channel(s), got {images.shape[1]}.")
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # for the same numbers on a GPU
            return self.classifier(to_model_range(images.to(self.device))).features

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the class probabilities, (N, classes), of images with these `features`."""
        with torch.inference_mode():
            return self.classifier.head(features.to(self.device)).softmax(1).cpu()


class PixelSpace(FeatureSpace):
    """The first principal components of pixels in [0, 1], not whitened: no network, and sensitive to flips and blur.

    Args:
        train: uint8 images (N, C, H, W) to take the components of.
    """

    name = "pix"

    def __init__(self, train: torch.Tensor, components: int = 64):
        pixels = train.flatten(1).float() / 255
        if components > min(pixels.shape):
            raise ValueError(f"There must be at least {components} training images and pixels, got {pixels.shape}.")
        channels, height, width = train.shape[1:]
        self.shape = (channels, height, width)
        self.mean = pixels.mean(0)
        vectors = principal_components(pixels - self.mean, components)
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        self.components = (vectors * largest.sign()).float()  # eigh returns arbitrary signs
        self.key = f"pca{components}-{content_hash(self.mean, self.components)}"

    def map(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1).float() / 255 - self.mean) @ self.components

    def reconstruct(self, images: torch.Tensor, components: int) -> torch.Tensor:
        """Returns uint8 `images` projected on their first principal components."""
        basis = self.components[:, :components]
        pixels = (images.flatten(1).float() / 255 - self.mean) @ basis @ basis.T + self.mean
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).reshape(images.shape)


def principal_components(centred: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the first principal components of samples (N, D) of mean 0, (D, K), double: exactly up to `EXACT`
    dimensions, whose matrix is quickly decomposed, else by random projections (Halko et al. 2011, arXiv 0909.4061)."""
    if centred.shape[1] <= EXACT:
        _, vectors = torch.linalg.eigh(centred.T.double().cov())  # eigenvalues ascend
        return vectors[:, -count:].flip(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, vectors = torch.svd_lowrank(centred, min(count + OVERSAMPLING, *centred.shape), niter=POWER)
    return vectors[:, :count].double()


def pinned_spaces(device: str | torch.device = "cpu") -> Iterator[ClassifierSpace]:
    """Yields the spaces of the protocol's classifiers: `clf`, in which all metrics are reported, `clf-1`, `clf-2`."""
    for number, name in enumerate(PINNED):
        space = ClassifierSpace.load("clf" if number == 0 else f"clf-{number}", NETS / name, device)
        space.is_pinned = True
        yield space


def cached_features(space: FeatureSpace, images: torch.Tensor) -> torch.Tensor:
    """Returns the features of real images, from the cache if possible."""
    key, rows = content_hash(space.key, images), holds(len(images), "features")
    return cached("features", key, lambda: {"features": space(images)}, rows)["features"]
