"""Claims about samples and the space of latents, measured on the published models."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from claim_bench import Bench, Row, mean_row, per_image
from claim_codes import draw_codes

from genhub import CosineDDPMScheduler
from genhub.evaluation.memorisation import nearest
from genhub.evaluation.metrics import mean_of

DRESS, SHIRT, PULLOVER = 3, 0, 2  # classes
CLOTHES = (0, 2, 3, 4, 6)  # classes of things that are as wide on the left as on the right
PAIRS = 500


def decoded_noise(bench: Bench) -> Iterator[Row]:
    """C45: codes drawn from a Gaussian and decoded, by a VAE and by a plain autoencoder."""
    generator = torch.Generator().manual_seed(0)
    codes = draw_codes(bench, "stacked-ae")
    plain, noise = bench.model("stacked-ae"), torch.randn(bench.count, codes.shape[1], generator=generator)
    fitted = codes.mean(0) + noise @ torch.linalg.cholesky(codes.T.cov() + 1e-4 * torch.eye(codes.shape[1])).T
    images = {
        "real": bench.pixels,
        "vae": bench.samples("vae"),
        "stacked-ae, N(0, I)": plain.decode(noise, output_type="pt").images,
        "stacked-ae, the Gaussian of its codes": plain.decode(fitted, output_type="pt").images,
    }
    for name, some in images.items():
        yield f"FD-FM, {name}", bench.distance(some), None
        yield bench.confidence(name, some)


def sharpness(bench: Bench) -> Iterator[Row]:
    """C52: the mean square of the Laplacian, over that of real images."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]

    def energy(images: torch.Tensor) -> torch.Tensor:
        return per_image(F.conv2d(images, kernel).square())

    real = energy(bench.pixels).mean()
    for name in ("vae", "vae-best", "conv-vae", "gan", "dcgan", "gan-best", "ddpm-quick"):
        labels = {"class_labels": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 25} if name in ("gan-best", "ddpm-quick") else {}
        yield mean_row(
            f"energy of edges over that of real images, {name}", energy(bench.samples(name, 250 * 4, **labels)) / real
        )


def midpoints(bench: Bench) -> Iterator[Row]:
    """C53: the middle of two images by their codes and by their pixels."""
    for name in ("vae", "vae-best"):
        pipeline, (first, second) = bench.model(name), bench.pixels[: 2 * PAIRS].split(PAIRS)
        codes = (pipeline.encode(first) + pipeline.encode(second)) / 2
        ways = {"codes": pipeline.decode(codes, output_type="pt").images}
        copies = [pipeline.reconstruct(images, output_type="pt").images for images in (first, second)]
        ways["pixels of the copies"] = (copies[0] + copies[1]) / 2
        real = bench.features(bench.train[:20_000].images / 255)
        for way, images in ways.items():
            distance, _ = nearest(bench.features(images), real)
            entropy = torch.special.entr(bench.probabilities(images)).sum(1)
            yield mean_row(f"distance of the middle to the nearest real image, by {way}, {name}", distance)
            yield mean_row(f"entropy of its class in nats, by {way}, {name}", entropy)


def walk(bench: Bench) -> Iterator[Row]:
    """C54: how many classes are met on the walk of seven codes along an axis."""
    pipeline = bench.model("vae")
    met = [len(bench.classes(pipeline.traverse(axis, output_type="pt").images).unique()) for axis in range(10)]
    yield "classes met in seven steps from -0.8 to 0.8 along axis 3, vae", met[3], None
    yield "the most along any of the 10 axes, vae", max(met), None
    wide = [
        len(bench.classes(pipeline.traverse(axis, -3, 3, 7, output_type="pt").images).unique()) for axis in range(10)
    ]
    yield "the most in seven steps from -3 to 3, vae", max(wide), None


def arithmetic(bench: Bench) -> Iterator[Row]:
    """C74: dress - T-shirt + pullover, each the mean of three latents; C75: the mean of latents and of pixels."""
    for name in ("dcgan", "stylegan"):
        pipeline, generator = bench.model(name), torch.Generator().manual_seed(0)
        latents = torch.randn(bench.count, pipeline.generator.config["latent_channels"], generator=generator)
        images = pipeline(latents=latents, generator=generator, output_type="pt").images
        classes = bench.classes(images)
        terms = [
            latents[classes == label][: 3 * 20].unflatten(0, (-1, 3)).mean(1) for label in (DRESS, SHIRT, PULLOVER)
        ]
        start, minus, plus = (term[: min(map(len, terms))] for term in terms)
        found = bench.classes(pipeline(latents=start - minus + plus, generator=generator, output_type="pt").images)
        for label, what in ((DRESS, "dress"), (PULLOVER, "pullover"), (SHIRT, "T-shirt")):
            yield mean_row(f"dress - T-shirt + pullover is a {what}, {name}", found == label)
        yield from means_of_three(bench, name, latents, images, classes)


def means_of_three(bench, name, latents, images, classes) -> Iterator[Row]:
    """Yields how sure the classifier is of the class of three fakes, whose latents or pixels are averaged."""
    pipeline, generator = bench.model(name), torch.Generator().manual_seed(0)
    sure = bench.probabilities(images).amax(1) > 0.9
    for what in ("latents", "pixels"):
        probabilities = []
        for label in range(10):
            index = (sure & (classes == label)).nonzero()[:, 0]
            index = index[: len(index) // 3 * 3][:60]
            if not len(index):
                continue
            if what == "latents":
                means = latents[index].unflatten(0, (-1, 3)).mean(1)
                means = pipeline(latents=means, generator=generator, output_type="pt").images
            else:
                means = images[index].unflatten(0, (-1, 3)).mean(1)
            probabilities.append(bench.probabilities(means)[:, label])
        yield mean_row(f"probability of the class of three fakes, mean of {what}, {name}", torch.cat(probabilities))


def variants(bench: Bench) -> Iterator[Row]:
    """C76: small noise on a latent."""
    for name in ("dcgan", "gan"):
        pipeline, generator = bench.model(name), torch.Generator().manual_seed(0)
        latents = torch.randn(bench.count, pipeline.generator.config["latent_channels"], generator=generator)
        classes = bench.classes(pipeline(latents=latents, output_type="pt").images)
        for sigma in (0.1, 0.25, 0.5):
            near = latents + sigma * torch.randn(latents.shape, generator=generator)
            same = bench.classes(pipeline(latents=near, output_type="pt").images) == classes
            yield mean_row(f"the class stays with noise of deviation {sigma} on the latent, {name}", same)


def symmetry(bench: Bench) -> Iterator[Row]:
    """C77: how unlike left and right of clothes are, over real ones."""

    def unlike(images: torch.Tensor) -> torch.Tensor:
        clothes = images[torch.isin(bench.classes(images), torch.tensor(CLOTHES))]
        return per_image((clothes - clothes.flip(-1)).square()) / per_image((clothes - clothes.mean()).square())

    real = unlike(bench.pixels).mean()
    for name in ("gan", "dcgan", "dcgan-replay", "stylegan"):
        yield mean_row(
            f"difference of left and right over that of real clothes, {name}", unlike(bench.samples(name)) / real
        )


def styles(bench: Bench) -> Iterator[Row]:
    """C87: whose class an image has that takes some styles from another; C88: what the noise inputs change."""
    pipeline, generator = bench.model("stylegan"), torch.Generator().manual_seed(0)
    latents = torch.randn(80, pipeline.generator.config["latent_channels"], generator=generator)
    rows, columns = latents.split(40)
    images = pipeline(latents=latents, generator=generator, output_type="pt").images
    classes = bench.classes(images).split(40)
    for what, layers in (("coarse", (0, 2)), ("middle", (2, 4)), ("fine", (4, 8))):
        images = pipeline.mix(
            rows, columns, layers, generator=torch.Generator().manual_seed(0), output_type="pt"
        ).images
        found = bench.classes(images).view(len(rows), len(columns))
        differ = classes[0][:, None] != classes[1]
        yield mean_row(f"class of the one that gives the {what} styles", (found == classes[1])[differ])
    z = latents[:1].expand(250, -1)
    same = pipeline(latents=z, generator=generator, output_type="pt").images
    others = bench.samples("stylegan", 250)
    yield (
        "deviation of pixels by noise alone over that by latents, stylegan",
        (same.std(0).mean() / others.std(0).mean()).item(),
        None,
    )


def forward_process(bench: Bench) -> Iterator[Row]:
    """C91: moments of pixels as noise is added."""
    scheduler, x_0 = CosineDDPMScheduler(), 2 * bench.pixels - 1
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    for t in (0, 1000, 2000, 3000, 4000):
        x_t = x_0 if t == 0 else scheduler.add_noise(x_0, noise, torch.full((len(x_0),), t - 1))
        z = (x_t - x_t.mean()) / x_t.std()
        yield f"mean of pixels at t = {t}", x_t.mean().item(), None
        yield f"variance of pixels at t = {t}", x_t.var().item(), None
        yield f"kurtosis of pixels at t = {t}", (z**4).mean().item(), None


def plane(bench: Bench) -> Iterator[Row]:
    """C115: the largest step between neighbours on the 20 x 20 plane, in the mean distance of two real images."""
    pipeline = bench.model("conv-vae")
    images = pipeline.manifold(400, output_type="pt").images.view(20, 20, -1)
    real = (bench.pixels[:1000] > 0.5).float().flatten(1)
    unit = torch.cdist(real[:500], real[500:]).mean()
    steps = [(images[1:] - images[:-1]).norm(dim=2), (images[:, 1:] - images[:, :-1]).norm(dim=2)]
    steps = torch.cat([step.flatten() for step in steps]) / unit
    yield "mean step between neighbours on the plane, conv-vae", mean_of(steps)[0], None
    yield "largest step between neighbours on the plane, conv-vae", steps.max().item(), None
    yield "classes on the plane, conv-vae", len(bench.classes(images.view(400, 1, 28, 28)).unique()), None


CLAIMS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "C45": decoded_noise,
    "C52": sharpness,
    "C53": midpoints,
    "C54": walk,
    "C74, C75": arithmetic,
    "C76": variants,
    "C77": symmetry,
    "C87, C88": styles,
    "C91": forward_process,
    "C115": plane,
}
