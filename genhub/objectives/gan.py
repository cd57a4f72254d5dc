"""The game of a generator and a discriminator (Goodfellow et al. 2014, arXiv 1406.2661), in two phases: the
discriminator moves first, then the generator, against the discriminator as it then is.

The fakes of a step are made once: the generator does not move between the two phases, so it is led by the fakes that
the discriminator has just met. (The book draws anew; the expectation of each gradient is the same.) With accumulation,
or where the generator rests, the discriminator's fakes are made without a graph, and each phase draws its own.

Two processes equal one, and accumulated parts the whole batch, wherever a loss is a mean over images. It is not one
where a network looks at its batch: batch normalisation, minibatch deviation, minibatch discrimination. There, each
part is a batch of its own.
"""

from collections.abc import Callable

import torch
from torch import nn

from genhub.objectives.gan_augmentation import Augmentation
from genhub.objectives.gan_diagnostics import WINDOW, diagnose
from genhub.objectives.gan_losses import GAN_LOSSES
from genhub.objectives.gan_penalties import Drift, GradientPenalty, R1Penalty
from genhub.objectives.gan_replay import Replay, memory_of
from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step


class AdversarialGame(Objective):
    """Judges a generator by a discriminator, and the discriminator by what it takes for real.

    Args:
        generator: called with `latents` and, as far as it takes them, `class_labels`, `noise`, `mixing_latents` and
            `mixing_layer`; gives `sample`. It has `config["latent_channels"]` and `num_noise`.
        discriminator: called with images, `class_labels` and `noise`, gives `logits`. It has `num_noise`, how many
            numbers uniform in [0, 1) it takes for each image, and `has_batch_statistics`, whether an image's logit
            depends on the others of its batch; such a one meets real images and fakes apart.
        loss: "binary_cross_entropy" (the book's), "non_saturating", "least_squares", "hinge" or "wasserstein".
        label_smoothing: taken off the label of real images (Salimans et al. 2016, arXiv 1606.03498, Sec. 3.4).
        generator_every: steps of the discriminator for one of the generator.
        r1_weight, r1_every: of the squared slope at real images (Mescheder et al. 2018, arXiv 1801.04406, Eq. 9),
            taken once in `r1_every` steps and then as many times as strong (Karras et al. 2019, arXiv 1912.04958,
            whose correction of Adam's rates for the rare term is left out).
        gradient_penalty_weight: of the slope's distance from 1 between real images and fakes (Gulrajani et al. 2017,
            arXiv 1704.00028, Eq. 3).
        drift_weight: of the squared scores of real images (Karras et al. 2017, arXiv 1710.10196, App. A.1).
        mixing: share of fakes that take their styles of two latents (Karras et al. 2018, arXiv 1812.04948, Sec. 3.1).
        replay_steps, replay_share: how many steps' fakes are remembered, and the share of old ones among those that
            the discriminator meets.
        augmentations: changes to all that the discriminator sees: "colour", "translation", "cutout".
        augmentation_probability: of each change to an image; it adapts where there is an `augmentation_target`, and
            starts at 0 then, unless it is given; 1 otherwise.
        augmentation_target: share of real images called real above which augmentation grows, as the mean sign of
            their scores (Karras et al. 2020, arXiv 2006.06676: 0.6).
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: str = "non_saturating",
        label_smoothing: float = 0.0,
        generator_every: int = 1,
        r1_weight: float = 0.0,
        r1_every: int = 16,
        gradient_penalty_weight: float = 0.0,
        drift_weight: float = 0.0,
        mixing: float = 0.0,
        replay_steps: int = 0,
        replay_share: float = 0.5,
        augmentations: tuple[str, ...] = (),
        augmentation_probability: float | None = None,
        augmentation_target: float | None = None,
    ):
        if loss not in GAN_LOSSES:
            raise ValueError(f"`loss` must be one of {', '.join(GAN_LOSSES)}, got {loss!r}.")
        self.game, self.label, self.generator_every = GAN_LOSSES[loss], 1 - label_smoothing, generator_every
        if not 0 <= label_smoothing < 1 or (label_smoothing and not self.game.has_labels):
            raise ValueError(f"`label_smoothing` must lie in [0, 1), and be 0 for {loss}, got {label_smoothing}.")
        for name, value in (("generator_every", generator_every), ("r1_every", r1_every)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        classes = [part.config.get("num_class_embeds") for part in (generator, discriminator)]
        if classes[0] != classes[1]:
            raise ValueError(
                f"`num_class_embeds` must be the same in both networks, got {classes[0]} and {classes[1]}."
            )
        layers = getattr(generator, "layers_in_use", 1)
        if not 0 <= mixing <= 1 or (mixing and layers < 2):
            raise ValueError(
                f"`mixing` must lie in [0, 1], and be 0 for {type(generator).__name__} without styles, got {mixing}."
            )
        self.modules = {"generator": generator, "discriminator": discriminator}
        parts = [getattr(part, "trainable_submodules", ()) for part in (discriminator, generator)]
        self.phases = (
            Phase("discriminator", self.discriminator_loss, submodules=parts[0]),
            Phase("generator", self.generator_loss, every=generator_every, submodules=parts[1]),
        )
        self.latent_channels, self.is_conditional = generator.config["latent_channels"], classes[0] is not None
        self.num_noise = discriminator.num_noise
        self.meets_apart = discriminator.has_batch_statistics
        self.mixing, self.layers = mixing, layers
        self.inputs: list[Callable[[Batch, Step], dict]] = [  # of the generator
            lambda batch, step: {"latents": step.random.randn(self.latent_channels)},
            *([lambda batch, step: {"class_labels": batch["labels"]}] if self.is_conditional else []),
            *([lambda batch, step: {"noise": step.random.randn(generator.num_noise)}] if generator.num_noise else []),
            *([self.two_latents] if mixing else []),
        ]
        penalties = [R1Penalty(r1_weight, r1_every), GradientPenalty(gradient_penalty_weight), Drift(drift_weight)]
        self.penalties = [penalty for penalty in penalties if penalty.weight]
        self.needs_double_backward = bool(r1_weight or gradient_penalty_weight)
        self.replay = Replay(replay_steps, replay_share)
        if augmentation_target is not None and self.game.reading is None:
            raise ValueError(
                f"`augmentation_target` must be unset for {loss}, whose scores say nothing by their sign."
            )
        if augmentation_probability is None:
            augmentation_probability = 1.0 if augmentation_target is None else 0.0
        self.augmentation = Augmentation(tuple(augmentations), augmentation_probability, augmentation_target)
        self.kept: torch.Tensor | None = None  # the fakes of this step, with their graph

    has_diagnostics = True
    per_sample = ("fakes", "labels")

    def check_batch(self, batch_size: int, share: int):
        """Refuses what `Objective.check_batch` refuses, and a memory of fakes that does not fit."""
        super().check_batch(batch_size, share)
        generator = self.modules["generator"]
        size = generator.config["sample_size"]
        shape = (generator.config["out_channels"], *((size, size) if isinstance(size, int) else size))
        self.replay.check(batch_size, shape, memory_of(next(generator.parameters()).device))

    def discriminator_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns what the discriminator loses to real images and to fakes, and its penalties."""
        real, labels = self.real(batch, step), self.labels(batch)
        fake = self.fakes_for_both(batch, step)
        shown, shown_labels = self.replay.show(fake.detach(), labels, step)
        judged = [(real, labels), (shown, shown_labels)]
        real_scores, fake_scores = self.scores(judged, step)
        terms = {"real": self.game.real(real_scores, self.label), "fake": self.game.fake(fake_scores)}
        for penalty in self.penalties:
            if step.index % penalty.every == 0:
                terms[penalty.name] = penalty(
                    lambda images: self.scores([(images, labels)], step)[0], real, fake.detach(), real_scores, step
                )
        with torch.no_grad():
            step.metrics.update(self.readings(real_scores, fake_scores, real, fake))
            if self.game.reading:
                step.metrics["sign"] = (2 * self.game.reading(real_scores) - 1).sign().mean()
        return terms

    def generator_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns what the generator loses."""
        fake, self.kept = self.kept if self.kept is not None else self.fakes(batch, step), None
        (scores,) = self.scores([(fake, self.labels(batch))], step)
        return {"fool": self.game.fool(scores)}

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns both players' losses and what the discriminator takes held-out images and fakes for."""
        real, fake, labels = self.real(batch, step), self.fakes(batch, step), self.labels(batch)
        scores = [self.modules["discriminator"](one, **self.conditions(labels)).logits.float() for one in (real, fake)]
        losses = {
            "discriminator_loss": self.game.real(scores[0], self.label) + self.game.fake(scores[1]),
            "generator_loss": self.game.fool(scores[1]),
        }
        return losses | self.readings(*scores, real, fake)

    def real(self, batch: Batch, step: Step) -> torch.Tensor:
        """Returns the real images as the discriminator meets them."""
        return batch["sample"]

    def labels(self, batch: Batch) -> torch.Tensor | None:
        return batch["labels"] if self.is_conditional else None

    def conditions(self, labels: torch.Tensor | None) -> dict:
        return {} if labels is None else {"class_labels": labels}

    def fakes(self, batch: Batch, step: Step) -> torch.Tensor:
        """Returns a fake for each image of the batch, of its class where classes are known."""
        inputs = {}
        for draw in self.inputs:
            inputs |= draw(batch, step)
        return self.modules["generator"](**inputs).sample

    def fakes_for_both(self, batch: Batch, step: Step) -> torch.Tensor:
        """Returns the fakes that the discriminator meets, and keeps their graph if the generator moves right after
        it."""
        is_shared = step.accumulation_steps == 1 and step.index % self.generator_every == 0
        generator = self.modules["generator"]  # frozen in this phase
        if is_shared:
            generator.requires_grad_(True)
        with torch.set_grad_enabled(is_shared):
            fake = self.fakes(batch, step)
        if is_shared:
            generator.requires_grad_(False)
        self.kept = fake if is_shared else None
        return fake

    def scores(self, judged: list[tuple[torch.Tensor, torch.Tensor | None]], step: Step) -> list[torch.Tensor]:
        """Returns the discriminator's scores (B,) of one or two batches of images, augmented, with their labels."""
        samples = [self.augmentation(sample, step) for sample, _ in judged]
        inputs = [self.conditions(labels) for _, labels in judged]
        if self.num_noise:
            for one in inputs:
                one["noise"] = step.random.rand(self.num_noise)
        shared = self.shared_inputs(step)
        discriminator = self.modules["discriminator"]
        if self.meets_apart or len(judged) == 1:
            pairs = zip(samples, inputs, strict=True)
            return [discriminator(sample, **one, **shared).logits.float() for sample, one in pairs]
        both = {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}
        return list(discriminator(torch.cat(samples), **both, **shared).logits.float().chunk(2))

    def shared_inputs(self, step: Step) -> dict:
        """Returns what both networks are given besides: nothing here."""
        return {}

    def two_latents(self, batch: Batch, step: Step) -> dict:
        """Returns second latents, and for each image the layer from which on it takes their styles, or one past the
        last."""
        chance, place = step.random.rand(2).unbind(1)  # (B,) each
        layer = 1 + (place * (self.layers - 1)).long()
        layer = torch.where(chance < self.mixing, layer, self.layers)
        return {"mixing_latents": step.random.randn(self.latent_channels), "mixing_layer": layer}

    def readings(self, real_scores, fake_scores, real: torch.Tensor, fake: torch.Tensor) -> Losses:
        """Returns what to watch: D(x), a probability but for a critic's values, and the deviation of pixels in [0, 1]
        over the batch."""
        read = self.game.reading or (lambda scores: scores)
        spread, real_spread = (images.float().std(0, correction=0).mean() / 2 for images in (fake, real))
        readings = {"D(real)": read(real_scores).mean(), "D(fake)": read(fake_scores).mean()}
        return readings | {"spread": spread, "real_spread": real_spread}

    def observe(self, numbers: dict[str, float], images: int):
        """Lets augmentation adapt to how sure the discriminator is of real images."""
        if self.augmentation.target is not None:
            self.augmentation.observe(numbers["discriminator/sign"], images)

    def diagnose(self, records: list[dict], window: int = WINDOW) -> dict[str, str]:
        """Returns what goes wrong, by name, with what to try."""
        return diagnose(records, self.game.reading is not None, window)

    def state_dict(self) -> dict:
        return self.replay.state_dict() | {"augmentation": self.augmentation.state_dict()}

    def load_state_dict(self, state: dict):
        self.augmentation.load_state_dict(state["augmentation"])
        device = next(self.modules["generator"].parameters()).device
        self.replay.load_state_dict(state, device)


class GrowingGame(AdversarialGame):
    """The game at one level of networks that grow, whose newest level fades in (Karras et al. 2017, arXiv 1710.10196,
    Sec. 2); one stage of training for each level.

    Args:
        level: from 0; both networks are set to it.
        fade_in: share of the stage in which the newest level's part rises linearly from 0 to 1.

    The rest are options of `AdversarialGame`, which remembers no fakes here, as those of other levels are of no use.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        level: int,
        fade_in: float = 0.5,
        loss: str = "non_saturating",
        r1_weight: float = 0.0,
        r1_every: int = 16,
        gradient_penalty_weight: float = 0.0,
        drift_weight: float = 0.0,
        mixing: float = 0.0,
        augmentations: tuple[str, ...] = (),
        augmentation_probability: float | None = None,
        augmentation_target: float | None = None,
    ):
        if not 0 <= fade_in <= 1:
            raise ValueError(f"`fade_in` must lie in [0, 1], got {fade_in}.")
        for module in (generator, discriminator):
            module.grow(level)
        super().__init__(
            generator,
            discriminator,
            loss,
            r1_weight=r1_weight,
            r1_every=r1_every,
            gradient_penalty_weight=gradient_penalty_weight,
            drift_weight=drift_weight,
            mixing=mixing,
            augmentations=augmentations,
            augmentation_probability=augmentation_probability,
            augmentation_target=augmentation_target,
        )
        self.level, self.fade_in = level, fade_in
        self.grown = generator.config["base_size"] * 2 ** (len(generator.config["block_out_channels"]) - 1)
        self.cell = 2 ** (len(generator.config["block_out_channels"]) - 1 - level)  # pixels of a pixel of this level
        self.inputs.append(lambda batch, step: self.shared_inputs(step))

    def shared_inputs(self, step: Step) -> dict:
        """Returns alpha, the share of the newest level; in validation, the networks keep theirs."""
        if not self.modules["generator"].training:
            return {}
        return {"alpha": torch.full((1,), self.alpha(step), device=step.random.device)}

    def alpha(self, step: Step) -> float:
        return 1.0 if self.level == 0 or self.fade_in == 0 else min(step.progress / self.fade_in, 1.0)

    def real(self, batch: Batch, step: Step) -> torch.Tensor:
        """Returns real images between this level's resolution and the one before, as far as the fade has come."""
        generator = self.modules["generator"]
        alpha = self.alpha(step) if generator.training else generator.alpha.item()
        return blended(batch["sample"], self.grown, self.cell, alpha)


def blended(sample: torch.Tensor, grown: int, cell: int, alpha: float) -> torch.Tensor:
    """Returns images (B, C, H, W) in the resolution of `cell` pixels, and a share of 1 - alpha of them in half of it.

    Args:
        grown: size of the image with its margin, which both networks see.
    """
    fine = in_cells(sample, grown, cell)
    return fine if alpha == 1 else torch.lerp(in_cells(sample, grown, 2 * cell), fine, alpha)


def in_cells(sample: torch.Tensor, grown: int, cell: int) -> torch.Tensor:
    """Replaces squares of `cell` times `cell` pixels by their means, edges being repeated up to the size `grown`."""
    if cell == 1:
        return sample
    top, left = ((grown - size) // 2 for size in sample.shape[2:])
    padded = nn.functional.pad(sample, (left, left, top, top), mode="replicate")
    coarse = nn.functional.avg_pool2d(padded, cell)
    coarse = nn.functional.interpolate(coarse, scale_factor=float(cell), mode="nearest")
    return coarse[:, :, top : coarse.shape[2] - top, left : coarse.shape[3] - left]
