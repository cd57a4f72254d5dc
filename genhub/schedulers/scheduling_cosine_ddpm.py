"""The cosine noise schedule of Nichol & Dhariwal (2021, arXiv 2102.09672, Eq. 17), reversed step by step as in
Ho et al. (2020, arXiv 2006.11239).

Equation numbers 17-5 to 17-8 are those of Géron, *Hands-On Machine Learning*, 3rd ed., chapter 17. The book counts
t = 1..T; as in all of diffusers an index here is t - 1 and runs over 0..T-1.

The first step of sampling (t = T) is delicate. The cap on beta leaves alpha_T = 1 - 0.999, so Eq. 17-8 multiplies the
network's error by 1 / sqrt(alpha_T) = 31.6 (by 2 one step later, by 1.5 after that). Three things make it harmless:
`clip_sample` (on by default, as in Ho et al.'s code) bounds the predicted x_0, whose weight in the mean is then only
sqrt(alpha_bar_{T-1}) = 4e-4; the arithmetic is float32 for every dtype of the sample, since the predicted x_0 reaches
1 / sqrt(alpha_bar_T) = 8e4, beyond float16; and `timestep_spacing="leading"` or `timesteps=` can start below T.
"""

import inspect
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, DDPMScheduler, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

CHOICES = {
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "variance_type": ("fixed_small", "fixed_large"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "beta_schedule": ("squaredcos_cap_v2",),
}
OWN_DEFAULTS = {"beta_max": 0.999, "s": 0.008, "sigma_max": None, "sigma_min": None}  # others do not share these
LACKING = ("rescale_betas_zero_snr", "use_flow_sigmas")  # options of others that change the noise levels


@dataclass
class CosineDDPMSchedulerOutput(BaseOutput):
    """`prev_sample` is x_{t-1}, `pred_original_sample` the predicted x_0; both (B, C, H, W)."""

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor | None = None


def cosine_betas(num_train_timesteps: int, s: float = 0.008, beta_max: float = 0.999) -> torch.Tensor:
    """Returns beta_1..beta_T, (T,): beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}, at most `beta_max` (Eq. 17-7)."""

    def alpha_bar(t: int) -> float:
        return math.cos((t / num_train_timesteps + s) / (1 + s) * math.pi / 2) ** 2

    betas = (1 - alpha_bar(t) / alpha_bar(t - 1) for t in range(1, num_train_timesteps + 1))
    return torch.tensor([min(beta, beta_max) for beta in betas], dtype=torch.float32)


class CosineDDPMScheduler(SchedulerMixin, ConfigMixin):
    """Adds noise by the cosine schedule, and removes it step by step.

    Arguments in common with `DDPMScheduler(beta_schedule="squaredcos_cap_v2")` have the same names, the same defaults
    (except `num_train_timesteps`) and give the same results, so `DDIMScheduler.from_config(scheduler.config)` and the
    like sample from the same network, and `CosineDDPMScheduler.from_config` reads their configs.

    Args:
        s: offset that keeps beta small near t = 0.
        beta_max: cap on beta; with the defaults only t = T reaches it.
        prediction_type: output of the network: "epsilon", "v_prediction" (Salimans & Ho 2022) or "sample".
        variance_type: "fixed_large" is beta_t, as in Eq. 17-8; "fixed_small" the posterior variance (Ho et al., Eq.
            7), better with few steps.
        clip_sample: clamp the predicted x_0 to +-`clip_sample_range` in every step.
        timestep_spacing: "leading", "trailing" or "linspace" (Lin et al. 2023, Table 2).
        trained_betas: the betas, in place of the formula. The constructor sets them if `s` or `beta_max` are not the
            defaults, so that `from_config` of another scheduler uses the same noise levels.
        use_exponential_sigmas, sigma_min, sigma_max: not for these steps, but for the solvers made from this config
            (`DPMSolverMultistepScheduler` and the like): steps uniform in ln sigma, sigma^2 = 1 / alpha_bar - 1, from
            `sigma_max` to `sigma_min`. At T = 4000 the largest sigma is 8e4, so without `sigma_max` solvers waste most
            of their steps.
        thresholding, sample_max_value: True and 1.0 are what solvers call `clip_sample` with a range of 1.
    """

    _compatibles = [e.name for e in KarrasDiffusionSchedulers]
    order = 1

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 4000,
        s: float = 0.008,
        beta_max: float = 0.999,
        prediction_type: str = "epsilon",
        variance_type: str = "fixed_small",
        clip_sample: bool = True,
        clip_sample_range: float = 1.0,
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        beta_schedule: str = "squaredcos_cap_v2",
        trained_betas: list[float] | None = None,
        use_exponential_sigmas: bool = False,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        thresholding: bool = False,
        sample_max_value: float = 1.0,
    ):
        self._check()

        # The noise levels, each (T,)
        self.betas = self._make_betas(num_train_timesteps, s, beta_max, trained_betas)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)  # alpha_bar

        # Another scheduler that reads this config must know only these values as defaults, which it then leaves out
        ours = [name for name, default in OWN_DEFAULTS.items() if self.config[name] == default]
        self.register_to_config(_use_default_values=ours)

        self.init_noise_sigma = 1.0
        self.num_inference_steps = None
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1)

    def _check(self):
        """Raises ValueError for an option out of range."""
        c = self.config
        if c["num_train_timesteps"] < 1:
            raise ValueError(f"`num_train_timesteps` must be at least 1, got {c['num_train_timesteps']}.")
        if not 0 <= c["s"] < math.inf:
            raise ValueError(f"`s` must be at least 0, got {c['s']}.")
        if not 0 < c["beta_max"] < 1:
            raise ValueError(f"`beta_max` must lie between 0 and 1, got {c['beta_max']}.")
        if c["clip_sample_range"] <= 0:
            raise ValueError(f"`clip_sample_range` must be above 0, got {c['clip_sample_range']}.")
        low, high = c["sigma_min"], c["sigma_max"]
        if (low is not None and low <= 0) or (high is not None and high <= (low or 0)):
            raise ValueError(f"`sigma_min` must lie between 0 and `sigma_max`, got {low} and {high}.")
        clipping = {name: c[name] for name in ("clip_sample", "clip_sample_range", "sample_max_value")}
        if c["thresholding"] and not all(value == 1 for value in clipping.values()):
            raise ValueError(f"`thresholding` must be off: it is `clip_sample` only at 1, got {clipping}.")
        for name, choices in CHOICES.items():
            if c[name] not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {c[name]!r}.")

    def _make_betas(self, count: int, s: float, beta_max: float, trained_betas: list[float] | None) -> torch.Tensor:
        """Returns the betas (T,) of Eq. 17-7, or `trained_betas`; writes those of other `s` or `beta_max` than the
        defaults into the config."""
        betas = cosine_betas(count, s, beta_max)
        if (s, beta_max) == (0.008, 0.999):
            return betas if trained_betas is None else torch.tensor(trained_betas, dtype=torch.float32)
        if trained_betas is not None and not (len(trained_betas) == count and np.allclose(trained_betas, betas)):
            raise ValueError(f"`trained_betas` must be the cosine schedule of s={s}, beta_max={beta_max}, or None.")
        self.register_to_config(trained_betas=betas.tolist())
        return betas

    @classmethod
    def extract_init_dict(cls, config_dict, **kwargs):
        """Reads the config of a compatible scheduler, its defaults included.

        Raises:
            ValueError: the config has an option that this scheduler lacks.
        """
        for name in LACKING:
            if config_dict.get(name):
                raise ValueError(f"`{name}` must be off: CosineDDPMScheduler has no such option.")
        optional = [name for name, p in inspect.signature(cls).parameters.items() if p.default is None]
        config: dict[str, Any] = {k: v for k, v in config_dict.items() if v is not None or k in optional}
        defaults = config.pop("_use_default_values", ())
        for key in {"sigma_max", "sigma_min"} & {*defaults}:  # the other scheduler's, of other noise levels
            config.pop(key, None)
        if kwargs.keys() & {"num_train_timesteps", "s", "beta_max"}:  # the noise levels change
            config["trained_betas"] = None
        return super().extract_init_dict(config, **kwargs)

    def to_diffusers(self) -> DDPMScheduler | None:
        """Returns an equivalent scheduler of diffusers, None if `s` or `beta_max` are not the defaults."""
        if self.config["trained_betas"] is not None:
            return None
        shared = inspect.signature(DDPMScheduler).parameters
        return DDPMScheduler(**{name: value for name, value in self.config.items() if name in shared})

    def __len__(self) -> int:
        return self.config["num_train_timesteps"]

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[int] | None = None,
    ):
        """Sets the timesteps of sampling: `num_inference_steps` of them, or the decreasing `timesteps`."""
        total = self.config["num_train_timesteps"]
        if timesteps is not None and num_inference_steps is None:
            steps = np.array(timesteps, dtype=np.int64)
            if not len(steps) or (np.diff(steps) >= 0).any() or steps[-1] < 0 or steps[0] >= total:
                raise ValueError(f"`timesteps` must fall strictly within {total - 1}..0, got {list(timesteps)}.")
        elif num_inference_steps is not None and timesteps is None:
            if not 1 <= num_inference_steps <= total:
                raise ValueError(f"`num_inference_steps` must lie between 1 and {total}, got {num_inference_steps}.")
            steps = self._space(num_inference_steps)
            if steps[0] >= total or steps[-1] < 0:
                raise ValueError(
                    f"`steps_offset` must keep the timesteps within {total - 1}..0, got {self.config['steps_offset']}."
                )
        else:
            raise ValueError("Pass exactly one of `num_inference_steps` and `timesteps`.")
        self.num_inference_steps = len(steps)
        self.timesteps = torch.from_numpy(steps).to(device)

    def _space(self, count: int) -> np.ndarray:
        """Returns `count` decreasing indices (Lin et al. 2023, arXiv 2305.08891, Table 2)."""
        total, spacing = self.config["num_train_timesteps"], self.config["timestep_spacing"]
        if spacing == "leading":
            return np.arange(count)[::-1] * (total // count) + self.config["steps_offset"]
        if spacing == "trailing":  # rounding of the step can give one more index
            return np.round(np.arange(total, 0, -total / count)).astype(np.int64)[:count] - 1
        return np.linspace(0, total - 1, count).round()[::-1].astype(np.int64)

    def scale_model_input(self, sample: torch.Tensor, timestep: int | torch.Tensor | None = None) -> torch.Tensor:
        """Returns `sample` unscaled: the schedule preserves the variance."""
        return sample

    def previous_timestep(self, timestep: int) -> int | torch.Tensor:
        """Returns the timestep after `timestep` in sampling, -1 at the end: a tensor once there are steps, as in
        `DDPMScheduler`."""
        if self.num_inference_steps is None:
            return timestep - 1
        index = (self.timesteps == timestep).nonzero()
        if not len(index):
            raise ValueError(f"`timestep` must be one of `scheduler.timesteps`, got {timestep}.")
        after = int(index[0]) + 1
        return self.timesteps[after] if after < len(self.timesteps) else torch.tensor(-1)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> CosineDDPMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Samples x_{t-1}, or the next of the respaced steps, given x_t (Eq. 17-8; Ho et al. 2020, Eq. 7)."""
        t = int(timestep)
        previous = int(self.previous_timestep(t))
        x_t, prediction = sample.float(), model_output.float()
        alpha_bar = self.alphas_cumprod[t].to(sample.device)
        alpha_bar_previous = self.alphas_cumprod[previous].to(sample.device) if previous >= 0 else torch.tensor(1.0)
        alpha = alpha_bar / alpha_bar_previous  # alpha_t of the respaced chain
        beta = 1 - alpha

        # x_0 from the prediction (Eq. 17-6 solved for x_0; Salimans & Ho 2022, Sec. 4)
        if self.config["prediction_type"] == "epsilon":
            x_0 = (x_t - (1 - alpha_bar) ** 0.5 * prediction) / alpha_bar**0.5
        elif self.config["prediction_type"] == "v_prediction":
            x_0 = alpha_bar**0.5 * x_t - (1 - alpha_bar) ** 0.5 * prediction
        else:
            x_0 = prediction
        if self.config["clip_sample"]:
            x_0 = x_0.clamp(-self.config["clip_sample_range"], self.config["clip_sample_range"])

        # The mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, Eq. 7), equal to Eq. 17-8 if x_0 is not clipped
        x_0_weight = alpha_bar_previous**0.5 * beta / (1 - alpha_bar)
        x_t_weight = alpha**0.5 * (1 - alpha_bar_previous) / (1 - alpha_bar)
        x_previous = x_0_weight * x_0 + x_t_weight * x_t

        # The noise (last term of Eq. 17-8); none in the last step
        if t > 0:
            variance = beta
            if self.config["variance_type"] == "fixed_small":
                variance = ((1 - alpha_bar_previous) / (1 - alpha_bar) * beta).clamp(min=1e-20)
            z = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=torch.float32)
            x_previous = x_previous + variance**0.5 * z

        x_previous, x_0 = x_previous.to(sample.dtype), x_0.to(sample.dtype)
        if not return_dict:
            return x_previous, x_0
        return CosineDDPMSchedulerOutput(prev_sample=x_previous, pred_original_sample=x_0)

    def _signal_and_noise(self, sample: torch.Tensor, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), each (B, 1, ..., 1) like `sample`."""
        self.alphas_cumprod = self.alphas_cumprod.to(sample.device)
        alpha_bar = self.alphas_cumprod[timesteps.to(sample.device)].reshape(-1, *[1] * (sample.ndim - 1))
        return (alpha_bar**0.5).to(sample.dtype), ((1 - alpha_bar) ** 0.5).to(sample.dtype)

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Returns x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (Eq. 17-6)."""
        signal_weight, noise_weight = self._signal_and_noise(original_samples, timesteps)
        return signal_weight * original_samples + noise_weight * noise

    def get_velocity(self, sample: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Returns v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans & Ho 2022, arXiv 2202.00512,
        Sec. 4)."""
        signal_weight, noise_weight = self._signal_and_noise(sample, timesteps)
        return signal_weight * noise - noise_weight * sample

    def snr(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Returns the signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t), shaped like `timesteps`."""
        alpha_bar = self.alphas_cumprod.to(timesteps.device)[timesteps]
        return alpha_bar / (1 - alpha_bar)
