"""The noisy image x_t = alpha_t x_0 + sigma_t eps of a diffusion process, and x_0 from what a network predicts."""

import torch

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def signal_and_noise(
    alphas_cumprod: torch.Tensor, timesteps: torch.Tensor, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns alpha_t = sqrt(alpha_bar_t) and sigma_t = sqrt(1 - alpha_bar_t) (Ho et al. 2020, arXiv 2006.11239,
    Eq. 4), each (B, 1, ..., 1), on the device and in the type of `like` (B, ...)."""
    alpha_bar = alphas_cumprod.to(timesteps.device)[timesteps].view(-1, *[1] * (like.ndim - 1))
    return alpha_bar.sqrt().to(like), (1 - alpha_bar).sqrt().to(like)


def predicted_x_0(
    prediction: torch.Tensor, x_t: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """Returns the x_0 that a prediction of eps, v or x_0 at x_t implies (Salimans & Ho 2022, arXiv 2202.00512,
    Sec. 4)."""
    if prediction_type == "epsilon":
        return (x_t - sigma * prediction) / alpha
    if prediction_type == "v_prediction":
        return alpha * x_t - sigma * prediction
    return prediction


def prediction_type_of(scheduler) -> str:
    """Returns what a network predicts for `scheduler`.

    Raises:
        ValueError: its `prediction_type` is none of `PREDICTION_TYPES`.
    """
    prediction_type = scheduler.config.get("prediction_type")
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(
            f"`scheduler.prediction_type` must be one of {', '.join(PREDICTION_TYPES)}, got {prediction_type!r}."
        )
    return prediction_type
