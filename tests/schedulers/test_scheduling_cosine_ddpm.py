"""The cosine schedule against its equations, against `DDPMScheduler`, and read by its compatible schedulers."""

import inspect
import itertools

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from diffusers.utils import DummyObject
from torch.testing import assert_close

from genhub.schedulers.scheduling_cosine_ddpm import CosineDDPMScheduler, cosine_betas

PREDICTIONS = ("epsilon", "v_prediction", "sample")
VARIANCES = ("fixed_small", "fixed_large")
SPACINGS = ("leading", "trailing", "linspace")
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
SCHEDULES = ({}, {"s": 0.05}, {"beta_max": 0.9}, {"num_train_timesteps": 50, "s": 0.0, "beta_max": 0.99})
OPTIONS = tuple(inspect.signature(CosineDDPMScheduler).parameters)
COMPATIBLES = [c for c in CosineDDPMScheduler().compatibles if not isinstance(c, DummyObject)]
COMPATIBLES.sort(key=lambda scheduler_class: scheduler_class.__name__)
SIBLINGS = [c for c in COMPATIBLES if "trained_betas" in inspect.signature(c).parameters]


def randn(seed, *shape, dtype=None):
    return torch.randn(shape or (2, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def f(t, s=0.008):
    """Eq. 17-7, t in 0..1."""
    return np.cos((t + s) / (1 + s) * np.pi / 2) ** 2


def alpha_bar(total):
    """Eq. 17-7 in float64, (T + 1,), from t = 0."""
    t = np.arange(total) / total
    return np.append(f(t) / f(0), 0.001 * f(t[-1]) / f(0))


def options(scheduler):
    return {name: scheduler.config[name] for name in OPTIONS if scheduler.config.get(name) is not None}


def walk(scheduler, model, x_t):
    """Samples with generator seed 0, and returns every (prev_sample, pred_original_sample)."""
    outputs, generator = [(x_t, x_t)], torch.Generator().manual_seed(0)
    for t in scheduler.timesteps:
        x_t = outputs[-1][0]
        outputs.append(scheduler.step(model(x_t, t), t, x_t, generator=generator, return_dict=False))
    return outputs


def exact_model(scheduler, mean, std):
    """The best prediction for pixels from N(mean, std^2); between two t, log SNR is linear in t."""
    log_noise = -torch.log(scheduler.snr(torch.arange(len(scheduler)))).double().numpy()

    def predict(x_t, t):
        a = 1 / (1 + np.exp(np.interp(float(t), np.arange(len(log_noise)), log_noise)))
        error = (x_t - a**0.5 * mean) / (a * std**2 + 1 - a)
        epsilon, x_0 = (1 - a) ** 0.5 * error, mean + a**0.5 * std**2 * error
        v = a**0.5 * epsilon - (1 - a) ** 0.5 * x_0
        return dict(zip(PREDICTIONS, (epsilon, v, x_0), strict=True))[scheduler.config.prediction_type]

    return predict


@pytest.mark.parametrize("s", [0.0, 0.008, 0.05])
@pytest.mark.parametrize("total", [1, 10, 4000])
def test_alpha_bar_is_the_squared_cosine_until_the_cap_at_T(total, s):
    scheduler = CosineDDPMScheduler(total, s=s)

    uncapped = f(np.arange(total) / total, s) / f(0, s)  # t = 0..T-1
    np.testing.assert_allclose(scheduler.alphas_cumprod[:-1], uncapped[1:], rtol=2e-4)
    np.testing.assert_allclose(scheduler.alphas_cumprod[-1], 0.001 * uncapped[-1], rtol=2e-4)


@pytest.mark.parametrize("beta_max", [0.1, 0.9, 0.999])
def test_beta_is_cut_at_beta_max_and_nowhere_else(beta_max):
    scheduler = CosineDDPMScheduler(beta_max=beta_max)

    assert torch.equal(scheduler.betas, cosine_betas(4000, beta_max=1.0).clamp(max=beta_max))


def test_the_noise_levels_are_those_that_the_reference_computed_independently():
    t = np.array([1, 10, 100, 400, 1000, 2000, 3000, 3600, 3900, 3990, 3999, 4000])
    betas = [9.894e-6, 1.258e-5, 3.994e-5, 1.322e-4, 3.311e-4, 7.883e-4]
    betas += [1.895e-3, 4.941e-3, 1.969e-2, 0.1736, 0.75, 0.999]
    alphas_cumprod = [0.99999, 0.999888, 0.997513, 0.972093, 0.847011, 0.493843]
    alphas_cumprod += [0.144272, 0.0240917, 1.51721e-3, 1.51797e-5, 1.51798e-7, 1.51798e-10]

    scheduler = CosineDDPMScheduler()

    np.testing.assert_allclose(scheduler.betas[t - 1], betas, rtol=4e-4, atol=6e-8)  # 6e-8: theirs is 1 - float32
    np.testing.assert_allclose(scheduler.alphas_cumprod[t - 1], alphas_cumprod, rtol=1e-4)
    np.testing.assert_allclose(scheduler.alphas[-3:] ** -0.5, [1.5, 2.0, 31.623], rtol=1e-4)  # delicate


def test_noise_added_at_once_has_the_moments_of_noise_added_step_by_step():
    scheduler, signal, variance = CosineDDPMScheduler(), 1.0, 0.0
    for t, beta in enumerate(scheduler.betas.double().tolist()):
        signal, variance = (1 - beta) ** 0.5 * signal, (1 - beta) * variance + beta  # Eq. 17-5
        if t % 500 == 499:
            zero, one, at = torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([t])
            assert_close(scheduler.add_noise(one, zero, at).item(), signal, rtol=1e-3, atol=1e-6)  # Eq. 17-6
            assert_close(scheduler.add_noise(zero, one, at).item() ** 2, variance, rtol=1e-4, atol=1e-6)


def test_s_keeps_the_first_step_from_being_a_hundredth_of_itself_and_the_cap_the_last_from_infinity():
    first, first_without = (
        scheduler.betas[0].item() for scheduler in (CosineDDPMScheduler(), CosineDDPMScheduler(s=0))
    )
    last = CosineDDPMScheduler().alphas[-1].item() ** -0.5

    assert (first, first_without) == pytest.approx((9.89e-6, 1.54e-7), rel=1e-2)
    assert last == pytest.approx(31.6, rel=1e-3)
    assert cosine_betas(4000, beta_max=1.0)[-1] == 1  # by whose complement Eq. 17-8 divides


def test_the_cosine_schedule_is_slower_at_both_ends_than_a_straight_line_and_at_the_first_end_than_the_first_ddpm():
    linear, cosine = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02), CosineDDPMScheduler()
    signals = [scheduler.alphas_cumprod.double() for scheduler in (linear, cosine)]

    at = {
        share: [signal[int(share * len(signal)) - 1].item() for signal in signals] for share in (0.1, 0.25, 0.5, 0.75)
    }

    assert [at[share][0] for share in at] == pytest.approx([0.897, 0.524, 0.0786, 0.00335], rel=2e-3)
    assert [at[share][1] for share in at] == pytest.approx([0.972, 0.847, 0.494, 0.144], rel=2e-3)
    assert 1 - at[0.1][1] < 0.1 < 1 - at[0.1][0]
    assert at[0.75][0] < at[0.75][1] < 0.25


@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 2, 2), (4, 3, 2, 2, 2)])
def test_x_t_and_v_are_x_0_and_epsilon_turned_by_one_angle_per_image(shape):
    scheduler, t = CosineDDPMScheduler(), torch.tensor([0, 1984, 3998, 3999])
    x_0, epsilon = randn(0, *shape), randn(1, *shape)

    x_t, v = scheduler.add_noise(x_0, epsilon, t), scheduler.get_velocity(x_0, epsilon, t)

    a = torch.tensor(alpha_bar(4000)[t + 1], dtype=torch.float32).view(-1, *[1] * (len(shape) - 1))
    assert_close(a**0.5 * x_t - (1 - a) ** 0.5 * v, x_0, rtol=0, atol=1e-5)
    assert_close((1 - a) ** 0.5 * x_t + a**0.5 * v, epsilon, rtol=0, atol=1e-5)


def test_snr_is_alpha_bar_over_its_complement():
    scheduler, t = CosineDDPMScheduler(), torch.arange(4000).view(40, 100)

    snr = scheduler.snr(t)

    np.testing.assert_allclose(snr.flatten(), 1 / (1 / alpha_bar(4000)[1:] - 1), rtol=1e-2)  # 1 - alpha_bar from 1e-5
    assert_close(snr, compute_snr(scheduler, t))
    assert scheduler.snr(torch.tensor(1983)) > 1 > scheduler.snr(torch.tensor(1984))  # the reference: at t = 1985


@pytest.mark.parametrize("t", [1, 2, 1000, 3998, 3999, 4000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_an_unclipped_step_with_fixed_large_is_equation_17_8_in_every_dtype_even_at_T(dtype, t):
    scheduler = CosineDDPMScheduler(variance_type="fixed_large", clip_sample=False)
    x_t, epsilon, z = randn(1, dtype=dtype), randn(2, dtype=dtype), randn(3)

    output = scheduler.step(epsilon, t - 1, x_t, generator=torch.Generator().manual_seed(3))

    a, x_t, epsilon, z = alpha_bar(4000), x_t.double(), epsilon.double(), z.double() * (t > 1)
    alpha, beta = a[t] / a[t - 1], 1 - a[t] / a[t - 1]
    by_hand = (x_t - beta / (1 - a[t]) ** 0.5 * epsilon) / alpha**0.5 + beta**0.5 * z
    assert output.prev_sample.dtype == output.pred_original_sample.dtype == dtype
    assert_close(output.prev_sample.double(), by_hand, rtol=max(torch.finfo(dtype).eps / 2, 2e-5), atol=1e-4)


@pytest.mark.parametrize("clip_sample_range", [1.0, 3.0])
def test_clipping_leaves_the_network_next_to_no_say_in_the_step_from_T(clip_sample_range):
    scheduler = CosineDDPMScheduler(clip_sample_range=clip_sample_range)

    one, other = (scheduler.step(x, 3999, randn(1), torch.Generator().manual_seed(0)) for x in (randn(2), randn(3)))

    say = (one.prev_sample - other.prev_sample).abs().max().item()
    assert_close(say, 2 * clip_sample_range * alpha_bar(4000)[3999] ** 0.5, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("variance_type", VARIANCES)
@pytest.mark.parametrize("steps", [[99, 98], [99, 60], [60, 7], [7, 1], [1, 0], [0]])
def test_a_step_draws_from_the_posterior_that_the_rule_of_bayes_gives(steps, variance_type):
    scheduler = CosineDDPMScheduler(100, prediction_type="sample", variance_type=variance_type, clip_sample=False)
    scheduler.set_timesteps(timesteps=steps)
    x_0, x_t, z = (randn(seed).double() for seed in (1, 2, 3))

    output = scheduler.step(x_0.float(), steps[0], x_t.float(), generator=torch.Generator().manual_seed(3))

    a, a_previous = alpha_bar(100)[[steps[0] + 1, steps[1] + 1 if len(steps) > 1 else 0]]
    alpha, beta, prior = a / a_previous, 1 - a / a_previous, max(1 - a_previous, 1e-30)  # Eq. 17-5; 17-6 at t - 1
    variance = 1 / (1 / prior + alpha / beta)
    mean = variance * (a_previous**0.5 * x_0 / prior + alpha**0.5 * x_t / beta)
    std = (variance if variance_type == "fixed_small" else beta) ** 0.5 * (steps[0] > 0)
    assert_close(output.prev_sample.double(), mean + std * z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("clip_sample_range", [0.5, 1.0])
@pytest.mark.parametrize("t", [0, 50, 99])
def test_a_clipped_step_is_the_unclipped_step_to_the_clipped_image(t, clip_sample_range, prediction_type):
    free, to_image = (
        CosineDDPMScheduler(100, prediction_type=p, clip_sample=False) for p in (prediction_type, "sample")
    )
    clipping = CosineDDPMScheduler(100, prediction_type=prediction_type, clip_sample_range=clip_sample_range)
    implied = free.step(randn(1), t, randn(2)).pred_original_sample
    image = implied.clamp(-clip_sample_range, clip_sample_range)

    clipped = clipping.step(randn(1), t, randn(2), generator=torch.Generator().manual_seed(0))
    expected = to_image.step(image, t, randn(2), generator=torch.Generator().manual_seed(0))

    assert (image != implied).any()
    assert torch.equal(clipped.pred_original_sample, image)
    assert torch.equal(clipped.prev_sample, expected.prev_sample)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("timestep_spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_a_network_that_knows_the_image_leads_to_it(steps, timestep_spacing, prediction_type):
    spaced = {"timestep_spacing": timestep_spacing, "clip_sample": False}
    scheduler, x_0 = CosineDDPMScheduler(100, prediction_type=prediction_type, **spaced), randn(1)
    scheduler.set_timesteps(steps)

    image = walk(scheduler, exact_model(scheduler, x_0, 0), randn(2))[-1][0]

    assert_close(image, x_0, rtol=0, atol=5e-3 if steps == 1 else 1e-5)  # float32 times 1 / sqrt(alpha_bar_T) = 2e3


@pytest.mark.parametrize("timestep_spacing", SPACINGS)
@pytest.mark.parametrize(("variance_type", "mean", "std"), [("fixed_small", 0.3, 0), ("fixed_large", 0, 1)])
def test_each_variance_is_exact_for_its_own_data_in_any_number_of_steps(variance_type, mean, std, timestep_spacing):
    """One point, and N(0, 1): the extremes between which the choice lies (Ho et al. 2020, Sec. 3.2)."""
    scheduler = CosineDDPMScheduler(variance_type=variance_type, timestep_spacing=timestep_spacing, clip_sample=False)
    scheduler.set_timesteps(8)
    x_T = scheduler.add_noise(mean + std * randn(2, 20000, 1), randn(1, 20000, 1), scheduler.timesteps[:1])

    outputs = walk(scheduler, exact_model(scheduler, mean, std), x_T)

    for (x_t, _), t in zip(outputs, scheduler.timesteps, strict=False):  # all but the last: as on the way forward
        a = alpha_bar(4000)[t + 1]
        whitened = (x_t - a**0.5 * mean) / (a * std**2 + 1 - a) ** 0.5
        assert_close([whitened.mean().item(), whitened.std().item()], [0.0, 1.0], rtol=0, atol=0.025)


@pytest.mark.parametrize("variance_type", VARIANCES)
def test_all_4000_steps_with_the_exact_score_give_the_gaussian_of_the_data(variance_type):
    scheduler = CosineDDPMScheduler(variance_type=variance_type)

    images = walk(scheduler, exact_model(scheduler, 0.3, 0.2), randn(1, 5000, 1))[-1][0]

    assert_close([images.mean().item(), images.std().item()], [0.3, 0.2], rtol=0, atol=0.008)


@pytest.mark.parametrize("sibling", [CosineDDPMScheduler, *SIBLINGS])
@pytest.mark.parametrize("kwargs", [{}, {"s": 0.05, "beta_max": 0.9, "prediction_type": "v_prediction"}])
def test_every_sibling_samples_the_data_from_our_config_and_the_exact_score(kwargs, sibling):
    ours = CosineDDPMScheduler(1000, **kwargs)
    model, scheduler = exact_model(ours, 0.3, 0.2), sibling.from_config(ours.config)
    scheduler.set_timesteps(100)
    torch.manual_seed(0)

    x_t = torch.randn(4000, 1) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x_t = scheduler.step(model(scheduler.scale_model_input(x_t, t), t), t, x_t).prev_sample

    assert_close([x_t.mean().item(), x_t.std().item()], [0.3, 0.2], rtol=0, atol=0.02)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("variance_type", VARIANCES)
@pytest.mark.parametrize("clip", [{"clip_sample": False}, {}, {"clip_sample_range": 0.3}])
@pytest.mark.parametrize("timestep_spacing", SPACINGS)
def test_every_shared_option_samples_bit_for_bit_as_ddpm_does(timestep_spacing, clip, variance_type, prediction_type):
    shared = {"variance_type": variance_type, "prediction_type": prediction_type, **clip}
    shared |= {"num_train_timesteps": 100, "timestep_spacing": timestep_spacing}
    chosen = [(0, None), (0, {"timesteps": [98, 50, 49, 2]})]
    chosen += [(offset, {"num_inference_steps": count}) for offset, count in [(0, 100), (1, 30), (5, 3), (99, 1)]]

    for steps_offset, steps in chosen:
        schedulers = [c(**shared, steps_offset=steps_offset, **COSINE) for c in (CosineDDPMScheduler, DDPMScheduler)]
        for scheduler in schedulers:
            scheduler.set_timesteps(**steps) if steps else None
        ours, theirs = (walk(s, lambda x_t, t: torch.sin(3 * x_t + t), randn(1)) for s in schedulers)
        pairs = zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_all_defaults_and_constants_but_the_number_of_timesteps_are_those_of_ddpm():
    ours, theirs = CosineDDPMScheduler(), DDPMScheduler(4000, **COSINE)

    for name in ("betas", "alphas", "alphas_cumprod", "timesteps"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    for method, t in itertools.product(("add_noise", "get_velocity"), ([0, 3999], [17], 17)):
        pair = [getattr(scheduler, method)(randn(1), randn(2), torch.tensor(t)) for scheduler in (ours, theirs)]
        assert torch.equal(*pair)
    assert torch.equal(ours.scale_model_input(randn(1), 7), randn(1))
    assert len(ours) == len(theirs) == 4000
    assert (ours.init_noise_sigma, ours.order) == (theirs.init_noise_sigma, theirs.order)
    assert {name: theirs.config[name] for name in OPTIONS if name in theirs.config}.items() <= ours.config.items()


@pytest.mark.parametrize(
    ("timestep_spacing", "in_ten"),
    [("leading", range(900, -1, -100)), ("trailing", range(999, 0, -100)), ("linspace", range(999, -1, -111))],
)
def test_timesteps_are_those_of_the_paper_and_always_as_many_as_asked(timestep_spacing, in_ten):
    ours, theirs = (c(1000, timestep_spacing=timestep_spacing, **COSINE) for c in (CosineDDPMScheduler, DDPMScheduler))

    for count in range(1, 1001):
        ours.set_timesteps(count)
        theirs.set_timesteps(count)
        steps = ours.timesteps
        assert len(steps) == ours.num_inference_steps == count
        assert ((steps >= 0) & (steps < 1000)).all()
        assert (steps.diff() < 0).all()
        assert torch.equal(steps, theirs.timesteps[:count])  # in 98 cases rounding makes ddpm's trailing one too long
        assert count != 10 or steps.tolist() == list(in_ten)  # Lin et al. 2023, Table 2, minus 1


def test_the_promised_schedulers_are_among_the_siblings():
    promised = {"DDPM", "DDIM", "DPMSolverMultistep", "HeunDiscrete", "UniPCMultistep"}

    assert promised <= {sibling.__name__.removesuffix("Scheduler") for sibling in SIBLINGS}


@pytest.mark.parametrize("sibling", SIBLINGS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_sibling_understands_our_config_and_gives_it_back_even_from_a_file(schedule, sibling, tmp_path):
    schedule = {"num_train_timesteps": 50, **schedule}
    ours = CosineDDPMScheduler(**schedule, prediction_type="v_prediction", variance_type="fixed_large", steps_offset=1)
    ours.save_pretrained(tmp_path / "ours")
    sibling.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    understood = [name for name in OPTIONS if name in inspect.signature(sibling).parameters]

    for theirs in (sibling.from_config(ours.config), sibling.from_pretrained(tmp_path / "theirs")):
        back = CosineDDPMScheduler.from_config(theirs.config)

        assert {name: theirs.config[name] for name in understood} == {name: ours.config[name] for name in understood}
        assert options(back) == options(ours)
        assert torch.equal(theirs.alphas_cumprod, ours.alphas_cumprod)
        assert torch.equal(back.alphas_cumprod, ours.alphas_cumprod)


@pytest.mark.parametrize("sibling", SIBLINGS)
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("trained_betas", [None, cosine_betas(50, s=0.05, beta_max=0.9).tolist()])
@pytest.mark.parametrize("said", [{}, {"prediction_type": "v_prediction", "steps_offset": 1}])
def test_we_understand_a_siblings_config_its_defaults_included(said, trained_betas, saved, sibling, tmp_path):
    said = {name: value for name, value in said.items() if name in inspect.signature(sibling).parameters}
    said |= {"num_train_timesteps": 50, "trained_betas": trained_betas} if trained_betas or said else {}
    theirs = sibling(**said, **COSINE)
    if saved:
        theirs.save_pretrained(tmp_path)
        theirs = sibling.from_pretrained(tmp_path)

    ours = CosineDDPMScheduler.from_config(theirs.config)

    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    assert options(theirs).items() <= options(ours).items()


def test_a_list_of_generators_gives_each_image_what_it_gets_alone_as_a_tuple_or_not():
    scheduler, generators = CosineDDPMScheduler(), [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    inputs = zip(randn(1).split(1), randn(2).split(1), (5, 6), strict=True)
    alone = [scheduler.step(x, 99, y, torch.Generator().manual_seed(seed), False) for x, y, seed in inputs]

    together = scheduler.step(randn(1), torch.tensor(99), randn(2), generators)

    assert {type(one) for one in alone} == {tuple}
    assert torch.equal(together.prev_sample, torch.cat([x_previous for x_previous, _ in alone]))
    assert torch.equal(together.pred_original_sample, torch.cat([x_0 for _, x_0 in alone]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", ["add_noise", "get_velocity"])
def test_noising_keeps_the_dtype_and_loses_only_its_rounding(method, dtype):
    noise = getattr(CosineDDPMScheduler(), method)
    x_0, epsilon, t = randn(1).to(dtype), randn(2).to(dtype), torch.tensor([5, 3999])

    noisy = noise(x_0, epsilon, t)

    assert noisy.dtype == dtype
    assert_close(noisy.double(), noise(x_0.double(), epsilon.double(), t), rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("device", ["meta"] + ["cuda"] * torch.cuda.is_available())
def test_all_results_lie_where_the_images_do(device):
    scheduler, image, t = CosineDDPMScheduler(), randn(1).to(device), torch.tensor([5, 3999])

    results = [*scheduler.step(image, 3999, image, return_dict=False), scheduler.step(image, 0, image).prev_sample]
    results += [scheduler.add_noise(image, image, t), scheduler.get_velocity(image, image, t)]
    scheduler.set_timesteps(10, device=device)

    assert {result.device.type for result in [*results, scheduler.timesteps]} == {device}


def cosine(**kwargs):
    return CosineDDPMScheduler(**{"num_train_timesteps": 100, **kwargs})


def read(**config):
    return CosineDDPMScheduler.from_config(DDPMScheduler(**{**COSINE, **config}).config)


@pytest.mark.parametrize(
    ("message", "mistake"),
    [
        ("`num_train_timesteps` must be at least 1, got 0", lambda: cosine(num_train_timesteps=0)),
        *[(f"`s` must be at least 0, got {s}", lambda s=s: cosine(s=s)) for s in (-0.1, np.nan, np.inf)],
        *[("`beta_max` must lie between 0 and 1", lambda b=b: cosine(beta_max=b)) for b in (0.0, 1.0, np.nan)],
        ("`clip_sample_range` must be above 0, got 0.0", lambda: cosine(clip_sample_range=0.0)),
        ("`prediction_type` must be .*, got 'score'", lambda: cosine(prediction_type="score")),
        ("`variance_type` must be .*, got 'learned'", lambda: cosine(variance_type="learned")),
        ("`timestep_spacing` must be .*, got 'karras'", lambda: cosine(timestep_spacing="karras")),
        ("`beta_schedule` must be .*, got 'linear'", lambda: cosine(beta_schedule="linear")),
        *[
            ("`trained_betas` must be .* of s=0.05", lambda b=b: cosine(s=0.05, trained_betas=b))
            for b in (cosine_betas(100).numpy(), np.full(100, 0.5), [0.1, 0.2])
        ],
        *[("steps` must lie between 1 and 100", lambda n=n: cosine().set_timesteps(n)) for n in (-1, 0, 101)],
        *[
            ("`timesteps` must fall strictly within 99..0", lambda t=t: cosine().set_timesteps(timesteps=t))
            for t in ([5, 6], [5, 5], [5, -1], [100], [])
        ],
        ("Pass exactly one of", lambda: cosine().set_timesteps(2, timesteps=[50, 0])),
        ("Pass exactly one of", lambda: cosine().set_timesteps()),
        *[("`steps_offset` must", lambda n=n: cosine(steps_offset=n).set_timesteps(10)) for n in (10, -1)],
        ("`timestep` must be one of", lambda: [c := cosine(), c.set_timesteps(9), c.step(randn(1), 9, randn(2))]),
        ("`beta_schedule` must be .*, got 'linear'", lambda: read(beta_schedule="linear")),
        ("`variance_type` must be .*, got 'learned_range'", lambda: read(variance_type="learned_range")),
        ("`thresholding` must be off", lambda: read(thresholding=True, sample_max_value=2.0)),
        ("`thresholding` must be off", lambda: cosine(thresholding=True, clip_sample=False)),
        ("`sigma_min` must lie between 0 and `sigma_max`, got 9 and 2", lambda: cosine(sigma_min=9, sigma_max=2)),
        ("`rescale_betas_zero_snr` must be off", lambda: read(rescale_betas_zero_snr=True)),
        ("`use_flow_sigmas` must be off", lambda: CosineDDPMScheduler.from_config({"use_flow_sigmas": True})),
    ],
)
def test_a_mistake_is_answered_by_the_rule_it_breaks(message, mistake):
    with pytest.raises(ValueError, match=message):
        mistake()


def test_the_previous_timestep_is_that_of_ddpm_in_value_and_type():
    ours, theirs = CosineDDPMScheduler(50), DDPMScheduler(50, beta_schedule="squaredcos_cap_v2")

    for count in (None, 5):
        for scheduler in (ours, theirs) if count else ():
            scheduler.set_timesteps(count)
        for t in ours.timesteps:
            before, expected = (scheduler.previous_timestep(t) for scheduler in (ours, theirs))
            assert type(before) is type(expected)
            assert before == expected
