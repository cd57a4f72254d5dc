"""Latents in memory: images that an encoder has seen once, in place of the images (Rombach et al. 2022, Sec. 3)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from genhub.data.images import Images, InMemory
from genhub.utils.cache import cached, content_hash

Encoder = Callable[[torch.Tensor], torch.Tensor]  # images (B, C, H, W) in [-1, 1] -> latents (B, L, h, w)


@dataclass
class Latents(InMemory):
    """Latents in memory: `latents` float32 (N, C, H, W), met as they are.

    Args:
        labels: int64 (N,).
        class_names: in the order of the labels.
        input_ids: int64 (N, T), the tokens of a text for each latent.
    """

    latents: torch.Tensor
    labels: torch.Tensor | None = None
    class_names: tuple[str, ...] | None = None
    input_ids: torch.Tensor | None = None

    def __post_init__(self):
        if self.latents.dtype != torch.float32 or self.latents.ndim != 4:
            got = f"{self.latents.dtype} {tuple(self.latents.shape)}"
            raise ValueError(f"`latents` must be float32 (N, C, H, W), got {got}.")

    def __len__(self) -> int:
        return len(self.latents)

    def sample(self, index: torch.Tensor | slice) -> torch.Tensor:
        return self.latents[index]


def encode_images(images: Images, encode: Encoder, key: str, batch_size: int = 250) -> Latents:
    """Encodes each image once; the latents are cached under `key` and the content of the images.

    Args:
        encode: maps images in [-1, 1] to latents (B, C, H, W), a function of each image alone.
        key: identifies `encode`, as `encoder_key` does.

    Raises:
        ValueError: the data set is not in memory, or the latents are not finite or not (B, C, H, W).
    """
    if not isinstance(images, Images):
        raise ValueError("`data.encode` must be left out of data that are decoded while training.")

    def compute() -> dict[str, torch.Tensor]:
        parts = []
        for start in range(0, len(images), batch_size):
            sample = images.sample(slice(start, start + batch_size))
            with torch.no_grad():
                latents = encode(sample).float().cpu()
            if latents.ndim != 4 or len(latents) != len(sample):
                raise ValueError(f"`encode` must give ({len(sample)}, C, H, W), got {tuple(latents.shape)}.")
            if not latents.isfinite().all():
                raise ValueError("`encode` must give finite latents, got nan or inf.")
            parts.append(latents)
        return {"latents": torch.cat(parts).contiguous()}

    def fits(found: dict[str, torch.Tensor]) -> bool:
        latents = found.get("latents", torch.empty(0))
        return latents.dtype == torch.float32 and latents.ndim == 4 and len(latents) == len(images)

    latents = cached("latents", content_hash(key, repr(batch_size), images.images), compute, fits)["latents"]
    return Latents(latents, images.labels, images.class_names, images.input_ids)
