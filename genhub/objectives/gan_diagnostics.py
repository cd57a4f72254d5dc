"""What is logged of a GAN's training, and the failure modes that show in it.

The thresholds are ours, set on runs that collapsed and on some that did not; they cause warnings only.
"""

import itertools

import torch

from genhub.objectives.gan_losses import GANLoss, Scores
from genhub.objectives.objective import Losses

WINDOW = 3  # consecutive records that must agree
MAX_GAP = 0.9  # D(real) - D(fake) above which the generator learns next to nothing
MIN_SPREAD = 0.5  # spread of fakes, relative to that of real images
LOST_SHARE = 0.01  # share of fakes below which a class counts as lost
MIN_CLASSES = 0.6  # share of the classes that must not be lost
MAX_SWING = 0.35  # total variation between the classes of two sets of fakes; sampling 256 images gives 0.06

ADVICE = {
    "discriminator wins": "The generator learns next to nothing. Try a lower learning rate or more dropout for the "
    "discriminator, `objective.r1_weight`, `objective.label_smoothing`, or augmentation.",
    "mode collapse": "The generator makes few kinds of images. Try another optimizer (Adam with betas [0.5, 0.99], "
    "RMSprop), `objective.r1_weight`, `objective.replay_steps`, or minibatch discrimination.",
    "oscillation": "The generator goes from one kind of image to the next. Try lower learning rates, "
    "`objective.replay_steps`, `objective.r1_weight`, or a moving average (`training.ema`).",
}


def game_metrics(
    loss: GANLoss, real_scores: Scores, fake_scores: Scores, real: torch.Tensor, fake: torch.Tensor
) -> Losses:
    """Returns the mean D(x), a probability or a critic's value, and the spread of images (B, C, H, W): the standard
    deviation over the batch of pixels in [0, 1]."""
    if loss.probability:
        real_scores, fake_scores = loss.probability(real_scores), loss.probability(fake_scores)
    spread, real_spread = (images.float().std(0, correction=0).mean() / 2 for images in (fake, real))
    metrics = {"D(real)": real_scores.mean(), "D(fake)": fake_scores.mean()}
    return metrics | {"spread": spread, "real_spread": real_spread}


def diagnose(records: list[dict], has_probabilities: bool = True, window: int = WINDOW) -> dict[str, str]:
    """Returns the failure modes that the newest of `records` show, name -> evidence and advice.

    Args:
        records: log records, of training with `discriminator/...` and of evaluation with `val_share/<class>`.
        has_probabilities: whether D(x) is a probability; a Wasserstein critic cannot win.
        window: number of consecutive records that must agree; 1 reports the first sign.
    """
    training = [record for record in records if "discriminator/spread" in record][-window:]
    shares = [shares_by_class(record) for record in records if any(key.startswith("val_share/") for key in record)]
    evidence: dict[str, str] = {}
    if len(training) == window:
        evidence |= diagnose_training(training, has_probabilities)
    if len(shares) >= window:
        evidence |= diagnose_classes(shares, window)
    return {name: f"{text} {ADVICE[name]}" for name, text in evidence.items()}


def diagnose_training(records: list[dict], has_probabilities: bool) -> dict[str, str]:
    """Returns the failure modes that all training records show, name -> evidence."""
    evidence = {}
    gaps = [record["discriminator/D(real)"] - record["discriminator/D(fake)"] for record in records]
    if has_probabilities and min(gaps) > MAX_GAP:
        evidence["discriminator wins"] = f"D(real) - D(fake) is {gaps[-1]:.2f}."
    spreads = [(record["discriminator/spread"], record["discriminator/real_spread"]) for record in records]
    if all(spread < MIN_SPREAD * real_spread for spread, real_spread in spreads):  # never in batches of one image
        spread, real_spread = spreads[-1]
        evidence["mode collapse"] = f"Fakes spread {spread / real_spread:.2f} times as far as real images."
    return evidence


def diagnose_classes(shares: list[dict[str, float]], window: int) -> dict[str, str]:
    """Returns the failure modes that the shares of the classes among fakes show in the last `window` evaluations."""
    evidence = {}
    lost = [[name for name, share in classes.items() if share < LOST_SHARE] for classes in shares[-window:]]
    if all(len(names) > (1 - MIN_CLASSES) * len(shares[-1]) for names in lost):
        evidence["mode collapse"] = f"No fakes of class {', '.join(lost[-1])}."
    swings = [total_variation(*pair) for pair in itertools.pairwise(shares[-max(window, 2) :])]
    if swings and min(swings) > MAX_SWING:
        evidence["oscillation"] = f"{swings[-1]:.0%} of the fakes moved to other classes."
    return evidence


def shares_by_class(record: dict) -> dict[str, float]:
    """Returns the share of each class among the fakes of an evaluation."""
    prefix = "val_share/"
    return {key.removeprefix(prefix): value for key, value in record.items() if key.startswith(prefix)}


def total_variation(p: dict[str, float], q: dict[str, float]) -> float:
    """Returns the total variation distance of two distributions over the same classes."""
    return sum(abs(p[name] - q[name]) for name in p) / 2
