"""Claims about autoencoders, measured on the published ones."""

import math
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from claim_bench import Bench, Row, mean_row, per_image

from genhub.evaluation.features import principal_components
from genhub.evaluation.reconstruction import linear_probe, pca_error
from genhub.training.feature_classifier import labels_of

AXES = 30  # units of the chapter's code


def features_of_pixels(bench: Bench) -> Iterator[Row]:
    """C3: what codes must be compared with, by the probe of the cards."""
    train, test = bench.train, bench.all_test
    x, test_x = (images.images.flatten(1) / 255 for images in (train, test))
    axes = principal_components(x - x.mean(0), AXES).float()
    for name, codes, test_codes in (("pixels", x, test_x), (f"{AXES} principal components", x @ axes, test_x @ axes)):
        yield (
            f"linear probe, 500 labels, of {name}",
            *linear_probe(codes, labels_of(train), test_codes, labels_of(test), 500),
        )
    yield (
        f"linear probe, all labels, of {AXES} principal components",
        linear_probe(x @ axes, labels_of(train), test_x @ axes, labels_of(test))[0],
        None,
    )


def patterns(bench: Bench) -> Iterator[Row]:
    """C6: the best linear code of images, and of the same images with their pixels shuffled, each by itself."""
    generator = torch.Generator().manual_seed(0)
    train, test = bench.train[: 5 * bench.count].images, bench.test.images
    for name, is_shuffled in (("images", False), ("images whose pixels are shuffled", True)):
        known, new = (shuffle(images, generator) if is_shuffled else images for images in (train, test))
        spread = (new / 255 - (known / 255).mean(0)).square().mean().item()
        yield (
            f"error of the best linear code of {AXES} over the variance, {name}",
            pca_error(known, new, AXES) / spread,
            None,
        )


def shuffle(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Returns images whose pixels are in another order, each in its own."""
    order = torch.rand(len(images), images[0].numel(), generator=generator).argsort(1)
    return images.flatten(1).gather(1, order).view_as(images)


def components(bench: Bench) -> Iterator[Row]:
    """C7: the share of the variance that a code of 30 loses, by principal component."""
    copies = bench.model("stacked-ae")(bench.pixels, output_type="pt").images
    x = bench.train.images.flatten(1) / 255
    axes = principal_components(x - x.mean(0), x.shape[1]).float()
    lost = ((copies - bench.pixels).flatten(1) @ axes).square().mean(0)
    there = ((bench.pixels.flatten(1) - x.mean(0)) @ axes).square().mean(0)
    for start, stop in ((0, 10), (10, 30), (30, 100), (100, 784)):
        share = (lost[start:stop].sum() / there[start:stop].sum()).item()
        yield f"variance that stacked-ae loses along components {start + 1} to {stop}", share, None


def planes(bench: Bench) -> Iterator[Row]:
    """C13, C15: how well a plane keeps the classes apart, by the 10 nearest neighbours; C14: what it costs."""
    from sklearn.manifold import TSNE

    x, labels = bench.pixels.flatten(1), labels_of(bench.test)
    start = time.perf_counter()
    codes = bench.model("stacked-ae").encode(bench.pixels)
    yield "seconds of encoding, stacked-ae", time.perf_counter() - start, None
    embedding = TSNE(init="pca", random_state=42)
    start = time.perf_counter()
    of_codes = torch.from_numpy(embedding.fit_transform(codes))
    yield f"seconds of t-SNE of {AXES} codes", time.perf_counter() - start, None
    axes = principal_components(bench.train.images.flatten(1) / 255, 2).float()
    points = {
        "2 principal components": x @ axes,
        "2 latents of conv-vae": bench.model("conv-vae").encode((bench.pixels > 0.5).float()),
        "t-SNE of the codes of stacked-ae": of_codes,
        "t-SNE of pixels": torch.from_numpy(embedding.fit_transform(x)),
        f"{AXES} codes of stacked-ae": codes,
        "pixels": x,
    }
    for name, at in points.items():
        distances = torch.cdist(at, at).fill_diagonal_(torch.inf)
        neighbours = labels[distances.topk(10, largest=False).indices]  # (N, 10)
        yield mean_row(f"class of the 10 nearest, {name}", (neighbours.mode(1).values == labels).float())


def lost_pixels(bench: Bench) -> Iterator[Row]:
    """C31: the error on the pixels that were dropped, against the mean of the neighbours that were not."""
    kept = (torch.rand(bench.pixels.shape, generator=torch.Generator().manual_seed(0)) >= 0.5).float()
    weights = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None]
    sums = F.conv2d(bench.pixels * kept, weights, padding=1)
    guesses = {"the mean of the neighbours": sums / F.conv2d(kept, weights, padding=1).clamp(min=1e-6)}
    for name in ("denoising-ae", "denoising-conv-ae"):
        guesses[name] = bench.model(name).denoise(bench.pixels * kept * 2, output_type="pt").images
    for name, guess in guesses.items():
        error = ((guess - bench.pixels).square() * (1 - kept)).flatten(1).sum(1) / (1 - kept).flatten(1).sum(1)
        yield mean_row(f"squared error of dropped pixels, {name}", error)


def noise_removal(bench: Bench) -> Iterator[Row]:
    """C32: noise of deviation 0.2 taken away by the autoencoder trained for it, and by filters."""
    noisy = bench.pixels + 0.2 * torch.randn(bench.pixels.shape, generator=torch.Generator().manual_seed(0))
    patches = F.unfold(F.pad(noisy, (1, 1, 1, 1), mode="replicate"), 3)  # (N, 9, H W)
    binomial = torch.tensor([1.0, 2, 1, 2, 4, 2, 1, 2, 1])[:, None] / 16
    images = {
        "as it is": noisy.clamp(0, 1),
        "median of 3 x 3": patches.median(1).values.view_as(noisy).clamp(0, 1),
        "binomial filter of 3 x 3": (patches * binomial).sum(1).view_as(noisy).clamp(0, 1),
        "denoising-gaussian-ae": bench.model("denoising-gaussian-ae").denoise(noisy, output_type="pt").images,
    }
    for name, image in images.items():
        error = (image - bench.pixels).square().mean().item()
        yield f"PSNR in dB of a noisy image, {name}", -10 * math.log10(error), None


def sparsity(bench: Bench) -> Iterator[Row]:
    """C43: the mean activation of a sparse code, and the share of units that are active."""
    for name in ("sparse-kl-ae", "sparse-l1-ae"):
        codes = bench.model(name).encode(bench.pixels)
        yield f"mean activation, {name}", codes.mean().item(), None
        for threshold in (0.1, 0.5):
            share = (codes > threshold).float().mean().item()
            yield f"share of activations above {threshold}, {name}", share, None


def cloud(bench: Bench) -> Iterator[Row]:
    """C47: how near to N(0, I) the codes of all images lie; a normal number has the kurtosis 3."""
    for name in ("vae", "vae-best", "stacked-ae"):
        codes = draw_codes(bench, name)
        codes = codes[:, codes.std(0) > 0]
        correlation = codes.T.corrcoef() - torch.eye(codes.shape[1])
        z = (codes - codes.mean(0)) / codes.std(0)
        yield f"largest mean of a unit, {name}", codes.mean(0).abs().max().item(), None
        yield f"smallest deviation of a unit, {name}", codes.std(0).min().item(), None
        yield f"largest deviation of a unit, {name}", codes.std(0).max().item(), None
        yield f"largest correlation of two units, {name}", correlation.abs().max().item(), None
        yield f"largest kurtosis of a unit, {name}", (z**4).mean(0).max().item(), None


def draw_codes(bench: Bench, name: str) -> torch.Tensor:
    """Returns the codes (N, L) of test images, a draw from the posterior if there is one."""
    pipeline, sample = bench.model(name), 2 * bench.pixels - 1
    if not hasattr(pipeline, "vae"):
        return pipeline.encode(bench.pixels)
    with torch.no_grad():
        mean, logvar = pipeline.vae.encode(sample)
    return mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))


def bottleneck(bench: Bench) -> Iterator[Row]:
    """C49: what the noise on the code costs."""
    for name in ("vae", "vae-best"):
        pipeline = bench.model(name)
        for what, generator in (("the mean", None), ("a draw", torch.Generator().manual_seed(0))):
            copies = pipeline.reconstruct(bench.pixels, generator=generator, output_type="pt").images
            error = per_image((copies - bench.pixels).square())
            yield mean_row(f"squared error of copies from {what} of the code, {name}", error)


CLAIMS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "C3": features_of_pixels,
    "C6": patterns,
    "C7": components,
    "C13, C14, C15": planes,
    "C31": lost_pixels,
    "C32": noise_removal,
    "C43": sparsity,
    "C47": cloud,
    "C49": bottleneck,
}
