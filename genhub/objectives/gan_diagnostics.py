"""What goes wrong in an adversarial game, read from its records: each trouble by name, with what to try.

Thresholds are ours, set on runs that did collapse and on some that did not; they cost nothing but a warning.
"""

import itertools

WINDOW = 3  # records that must agree
SURE = 0.9  # D(real) - D(fake) from which on a generator learns next to nothing
POOR = 0.5  # spread of fakes, as a share of that of real images
RARE = 0.01  # share of a class that is lost
FEW = 0.6  # share of the classes that must be seen
SWING = 0.35  # distance between the classes of two sets of fakes, 0 to 1; sampling 256 images makes 0.06

ADVICE = {
    "discriminator wins": "The generator learns next to nothing. Try a lower learning rate or more dropout for the "
    "discriminator, `objective.r1_weight`, `objective.label_smoothing`, or augmentation.",
    "mode collapse": "The generator makes few kinds of images. Try another optimizer (Adam with betas [0.5, 0.99], "
    "RMSprop), `objective.r1_weight`, `objective.replay_steps`, or minibatch discrimination.",
    "oscillation": "The generator goes from one kind of image to the next. Try lower learning rates, "
    "`objective.replay_steps`, `objective.r1_weight`, or a moving average (`training.ema`).",
}


def diagnose(records: list[dict], has_probabilities: bool = True, window: int = WINDOW) -> dict[str, str]:
    """Returns the troubles that the newest of `records` show: name -> what is seen and what to try.

    Args:
        records: those of training, with `discriminator/...`, and of evaluation, with `val_share/<class>`.
        has_probabilities: whether D(x) is one; a critic cannot win.
        window: records that must agree; with 1, the first sign of a trouble counts.
    """
    training = [record for record in records if "discriminator/spread" in record][-window:]
    shares = [shares_of(record) for record in records if any(key.startswith("val_share/") for key in record)]
    seen: dict[str, str] = {}

    if len(training) == window:
        gaps = [record["discriminator/D(real)"] - record["discriminator/D(fake)"] for record in training]
        if has_probabilities and min(gaps) > SURE:
            seen["discriminator wins"] = f"D(real) - D(fake) is {gaps[-1]:.2f}."
        pairs = [(record["discriminator/spread"], record["discriminator/real_spread"]) for record in training]
        if all(spread < POOR * real_spread for spread, real_spread in pairs):  # never of one image, which has none
            spread, real_spread = pairs[-1]
            seen["mode collapse"] = f"Fakes spread {spread / real_spread:.2f} times as far as real images."

    if len(shares) >= window:
        lost = [[name for name, share in one.items() if share < RARE] for one in shares[-window:]]
        if all(len(names) > (1 - FEW) * len(shares[-1]) for names in lost):
            seen["mode collapse"] = f"No fakes of class {', '.join(lost[-1])}."
        swings = [distance(*two) for two in itertools.pairwise(shares[-max(window, 2) :])]
        if swings and min(swings) > SWING:
            seen["oscillation"] = f"The share of {swings[-1]:.0%} of the fakes went to other classes."
    return {name: f"{found} {ADVICE[name]}" for name, found in seen.items()}


def shares_of(record: dict) -> dict[str, float]:
    """Returns the share of each class among fakes."""
    prefix = "val_share/"
    return {key.removeprefix(prefix): value for key, value in record.items() if key.startswith(prefix)}


def distance(one: dict[str, float], two: dict[str, float]) -> float:
    """Returns the total variation distance of two distributions over the same classes."""
    return sum(abs(one[name] - two[name]) for name in one) / 2
