"""The adversarial game of a generator and a discriminator (Goodfellow et al. 2014, arXiv 1406.2661), in two phases:
the discriminator is updated first, then the generator against the updated discriminator.

Both phases use the same fakes, since the generator does not change in between. (The book draws new ones for the
generator; the expected gradients are the same.) With accumulation, or in steps without a generator update, the
discriminator's fakes carry no graph, and each phase draws its own.

Several processes, or micro-batches, give the same update as one wherever a loss is a mean over images. Where a network
computes statistics over its batch (batch normalisation, minibatch deviation, minibatch discrimination), each
micro-batch counts as a batch of its own.
"""

import torch
from diffusers import ModelMixin

from genhub.objectives.gan_augmentation import Augmentation
from genhub.objectives.gan_diagnostics import WINDOW, diagnose, game_metrics
from genhub.objectives.gan_losses import choose_loss
from genhub.objectives.gan_penalties import make_penalties
from genhub.objectives.gan_replay import Replay, memory_per_process
from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step, as_pair

Labelled = tuple[torch.Tensor, torch.Tensor | None]  # images (B, C, H, W) and their labels (B,), if conditional


class AdversarialGame(Objective):
    """Trains a discriminator to tell real images from fakes, and a generator to fool it.

    Args:
        generator: called with `latents` and, if it takes them, `class_labels`, `noise`, `mixing_latents` and
            `mixing_layer`; returns `sample`. It has `config["latent_channels"]` and `noise_size`, the number of normal
            values that it takes per image.
        discriminator: called with images, `class_labels` and `noise`; returns `logits`. It has `noise_size`, the
            number of values uniform in [0, 1) that it takes per image, and `has_batch_statistics`, whether the logit
            of an image depends on the others of its batch; real images and fakes are then separate batches.
        loss: "binary_cross_entropy" (the book's), "non_saturating", "least_squares", "hinge" or "wasserstein".
        label_smoothing: subtracted from the label of real images (Salimans et al. 2016, arXiv 1606.03498, Sec. 3.4).
        generator_every: number of discriminator updates per generator update.
        r1_weight, r1_every: R1 penalty on the squared gradient at real images (Mescheder et al. 2018, arXiv
            1801.04406, Eq. 9), computed in one step of `r1_every` with `r1_every` times the weight (Karras et al.
            2019, arXiv 1912.04958, without their correction of Adam's rates for such a lazy term).
        gradient_penalty_weight: on gradients of other length than 1 between real images and fakes (Gulrajani et al.
            2017, arXiv 1704.00028, Eq. 3).
        drift_weight: on the squared scores of real images (Karras et al. 2017, arXiv 1710.10196, App. A.1).
        mixing: share of fakes with the styles of two latents (Karras et al. 2018, arXiv 1812.04948, Sec. 3.1).
        replay_steps, replay_share: number of steps whose fakes are stored, and the share of stored ones among the
            fakes that the discriminator sees.
        augmentations: changes to all images that the discriminator sees: "colour", "translation", "cutout".
        augmentation_probability: of each change to an image, 1 by default; with `augmentation_target` the initial one,
            0 by default.
        augmentation_target: mean sign of the scores of real images above which the probability rises (Karras et al.
            2020, arXiv 2006.06676: 0.6); None for a constant probability.
    """

    has_diagnostics = True
    per_sample = ("fakes", "labels")

    def __init__(
        self,
        generator: ModelMixin,
        discriminator: ModelMixin,
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
        self.loss = choose_loss(loss, label_smoothing, augmentation_target)
        self.real_label = 1 - label_smoothing
        check_networks(generator, discriminator, mixing)
        self.modules = {"generator": generator, "discriminator": discriminator}
        self.phases = game_phases(self, generator_every)
        self.latent_channels = generator.config["latent_channels"]
        self.is_conditional = generator.config.get("num_class_embeds") is not None
        self.generator_noise, self.discriminator_noise = generator.noise_size, discriminator.noise_size
        self.separate_batches = discriminator.has_batch_statistics
        self.mixing, self.num_layers = mixing, getattr(generator, "layers_in_use", 1)
        self.penalties = make_penalties(r1_weight, r1_every, gradient_penalty_weight, drift_weight)
        self.needs_double_backward = bool(r1_weight or gradient_penalty_weight)
        self.replay = Replay(replay_steps, replay_share)
        self.augmentation = Augmentation(tuple(augmentations), augmentation_probability, augmentation_target)
        self.cached_fakes: torch.Tensor | None = None  # from the discriminator's phase to the generator's, with graph

    def check_batch(self, batch_size: int, micro_batch_size: int) -> None:
        """Checks that batch statistics are never computed over a single image, and that stored fakes fit in memory.

        Raises:
            ValueError: a micro-batch holds one image, or `replay_steps` is too large.
        """
        super().check_batch(batch_size, micro_batch_size)
        generator, config = self.modules["generator"], dict(self._configs())["generator"]
        shape = (config["out_channels"], *as_pair(config["sample_size"]))
        self.replay.check_memory(batch_size, shape, memory_per_process(next(generator.parameters()).device))

    def discriminator_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the discriminator's losses on real images and fakes, and its penalties."""
        real, labels = self.prepare_real(batch, step), self.class_labels(batch)
        fake = self.make_and_cache_fakes(batch, step)
        replayed = self.replay.replace(fake.detach(), labels, step)
        real_scores, fake_scores = self.score([(real, labels), replayed], step)

        def critic(images: torch.Tensor) -> torch.Tensor:
            return self.score([(images, labels)], step)[0]

        losses = {"real": self.loss.real(real_scores, self.real_label), "fake": self.loss.fake(fake_scores)}
        for penalty in self.penalties:
            if step.index % penalty.every == 0:
                losses[penalty.name] = penalty(critic, real, fake.detach(), real_scores, step)

        with torch.no_grad():
            step.metrics.update(game_metrics(self.loss, real_scores, fake_scores, real, fake))
            if self.loss.probability:
                step.metrics["sign"] = (2 * self.loss.probability(real_scores) - 1).sign().mean()
        return losses

    def generator_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the generator's loss, on the cached fakes of this step if there are any."""
        fake, self.cached_fakes = self.cached_fakes, None
        if fake is None:
            fake = self.make_fakes(batch, step)
        (scores,) = self.score([(fake, self.class_labels(batch))], step)
        return {"fool": self.loss.generator(scores)}

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns both losses, without penalties, augmentation or dropout, and the metrics of the game."""
        real, fake, labels = self.prepare_real(batch, step), self.make_fakes(batch, step), self.class_labels(batch)
        conditions = {} if labels is None else {"class_labels": labels}
        discriminator = self.modules["discriminator"]
        real_scores, fake_scores = (discriminator(images, **conditions).logits.float() for images in (real, fake))
        losses = {
            "discriminator_loss": self.loss.real(real_scores, self.real_label) + self.loss.fake(fake_scores),
            "generator_loss": self.loss.generator(fake_scores),
        }
        return losses | game_metrics(self.loss, real_scores, fake_scores, real, fake)

    def prepare_real(self, batch: Batch, step: Step) -> torch.Tensor:
        """Returns the real images as the discriminator sees them."""
        return batch["sample"]

    def class_labels(self, batch: Batch) -> torch.Tensor | None:
        """Returns the labels (B,) that both networks are conditioned on, None if they are unconditional."""
        return batch["labels"] if self.is_conditional else None

    def make_fakes(self, batch: Batch, step: Step) -> torch.Tensor:
        """Generates one fake per image of the batch, of the same class if the networks are conditional."""
        inputs = {"latents": step.random.randn(self.latent_channels)}
        if self.is_conditional:
            inputs["class_labels"] = batch["labels"]
        if self.generator_noise:
            inputs["noise"] = step.random.randn(self.generator_noise)
        if self.mixing:
            inputs |= self.mix_styles(step)
        return self.modules["generator"](**inputs, **self.shared_inputs(step)).sample

    def make_and_cache_fakes(self, batch: Batch, step: Step) -> torch.Tensor:
        """Generates the fakes of the discriminator's phase, and caches them for the generator's phase of this step.

        The loop has frozen the generator for this phase, so it is unfrozen while the graph is built. With
        accumulation, or if the generator is not due, no graph is built and nothing cached.
        """
        generator, generator_phase = self.modules["generator"], self.phases[1]
        if step.accumulation_steps > 1 or step.index % generator_phase.every:
            self.cached_fakes = None
            with torch.no_grad():
                return self.make_fakes(batch, step)
        generator.requires_grad_(True)
        self.cached_fakes = self.make_fakes(batch, step)
        generator.requires_grad_(False)
        return self.cached_fakes

    def score(self, batches: list[Labelled], step: Step) -> list[torch.Tensor]:
        """Returns the discriminator's scores (B,) of one or two batches of images, augmented, with their labels."""
        discriminator, inputs = self.modules["discriminator"], []
        for images, labels in batches:
            inputs.append({"sample": self.augmentation(images, step)})
            if labels is not None:
                inputs[-1]["class_labels"] = labels
        if self.discriminator_noise:
            for arguments in inputs:
                arguments["noise"] = step.random.rand(self.discriminator_noise)
        shared = self.shared_inputs(step)
        if self.separate_batches or len(batches) == 1:
            return [discriminator(**arguments, **shared).logits.float() for arguments in inputs]
        joined = {name: torch.cat([arguments[name] for arguments in inputs]) for name in inputs[0]}
        return list(discriminator(**joined, **shared).logits.float().chunk(2))

    def shared_inputs(self, step: Step) -> dict:
        """Returns further arguments of both networks."""
        return {}

    def mix_styles(self, step: Step) -> dict:
        """Draws second latents (B, L), and for each image the first layer (B,) that takes their styles: none of them
        with probability 1 - `mixing`."""
        chance, position = step.random.rand(2).unbind(1)  # (B,) each
        layer = 1 + (position * (self.num_layers - 1)).long()
        layer = torch.where(chance < self.mixing, layer, self.num_layers)
        return {"mixing_latents": step.random.randn(self.latent_channels), "mixing_layer": layer}

    def after_step(self, step: Step, metrics: dict[str, torch.Tensor]) -> None:
        """Adapts the augmentation to the signs of the scores of real images."""
        if self.augmentation.target is not None:
            self.augmentation.adapt(metrics["discriminator/sign"], step.random.total)

    def diagnose(self, records: list[dict], window: int = WINDOW) -> dict[str, str]:
        """Returns the failure modes that the newest records show, name -> evidence and advice."""
        return diagnose(records, self.loss.probability is not None, window)

    def state_dict(self) -> dict:
        return self.replay.state_dict() | {"augmentation": self.augmentation.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        device = next(self.modules["generator"].parameters()).device
        self.augmentation.load_state_dict(state["augmentation"], device)
        self.replay.load_state_dict(state, device)


def game_phases(game: AdversarialGame, generator_every: int) -> tuple[Phase, Phase]:
    """Returns the discriminator's and the generator's phase."""
    if generator_every < 1:
        raise ValueError(f"`generator_every` must be at least 1, got {generator_every}.")
    generator, discriminator = (
        getattr(game.modules[name], "trainable_submodules", ()) for name in ("generator", "discriminator")
    )
    return (
        Phase("discriminator", game.discriminator_loss, submodules=discriminator),
        Phase("generator", game.generator_loss, every=generator_every, submodules=generator),
    )


def check_networks(generator: ModelMixin, discriminator: ModelMixin, mixing: float) -> None:
    """Checks that both networks know the same classes, and that the generator has styles to mix.

    Raises:
        ValueError: the number of classes differs, or `mixing` is out of range.
    """
    classes = [network.config.get("num_class_embeds") for network in (generator, discriminator)]
    if classes[0] != classes[1]:
        raise ValueError(f"`num_class_embeds` must be the same in both networks, got {classes[0]} and {classes[1]}.")
    if not 0 <= mixing <= 1 or (mixing and getattr(generator, "layers_in_use", 1) < 2):
        raise ValueError(
            f"`mixing` must lie in [0, 1], and be 0 for {type(generator).__name__} without styles, got {mixing}."
        )
