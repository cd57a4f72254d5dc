"""The forward process of diffusion, and the ways to say what a network predicts of it."""

import torch

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def signal_and_noise(
    alphas_cumprod: torch.Tensor, timesteps: torch.Tensor, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns alpha = sqrt(alpha_bar_t) and sigma = sqrt(1 - alpha_bar_t), each (B, 1, ..., 1) like `like`, so that
    x_t = alpha x_0 + sigma eps (Ho et al. 2020, arXiv 2006.11239, Eq. 4)."""
    alpha_bar = alphas_cumprod.to(like.device)[timesteps].reshape(-1, *[1] * (like.ndim - 1))
    return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar).sqrt().to(like.dtype)


def target(
    x_0: torch.Tensor, eps: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """Returns the correct prediction: eps, x_0, or v = alpha eps - sigma x_0 (Salimans & Ho 2022, arXiv 2202.00512,
    Sec. 4)."""
    if prediction_type == "epsilon":
        return eps
    return x_0 if prediction_type == "sample" else alpha * eps - sigma * x_0


def predicted_x_0(
    prediction: torch.Tensor, x_t: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """Converts a prediction of eps, x_0 or v at x_t to x_0."""
    if prediction_type == "epsilon":
        return (x_t - sigma * prediction) / alpha
    return prediction if prediction_type == "sample" else alpha * x_t - sigma * prediction
