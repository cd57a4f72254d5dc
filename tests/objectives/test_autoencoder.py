"""The objectives of autoencoders: the network's inputs, its targets, and the penalties on its code."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from tiny import tiny_model
from torch import nn
from torch.testing import assert_close

import genhub
from genhub import recipes
from genhub.data.points import points
from genhub.models.autoencoder_conv import ConvAutoencoderOutput
from genhub.objectives import LayerwiseReconstruction, Reconstruction, SparseReconstruction, Step
from genhub.objectives.autoencoder import bernoulli_kl, squared_difference
from genhub.utils.randomness import BatchRandom

AUTOENCODERS = ("DenseAutoencoder", "ConvAutoencoder", "RecurrentAutoencoder")
every_autoencoder = pytest.mark.parametrize("name", AUTOENCODERS)


class Network(nn.Module):
    """Returns `answer(sample)`, black by default, and `latents`; remembers its inputs."""

    def __init__(self, answer=lambda sample: torch.full_like(sample, -1), latents=None, **config):
        super().__init__()
        self.answer, self.latents = answer, latents
        self.config = {"hidden_sizes": [5], "latent_activation": "sigmoid"} | config

    def forward(self, sample, **inputs):
        self.inputs = {"sample": sample, **inputs}
        return ConvAutoencoderOutput(self.answer(sample), self.latents)


def step_of(index, rows, total):
    return Step(index, 0.0, BatchRandom("test", index, rows=rows, total=total))


def losses_of(objective, batch, index=0, rows=None, validating=False):
    """Returns the losses of `rows`, all by default, of a global batch at step `index`."""
    total = len(batch["sample"])
    rows = range(total) if rows is None else rows
    own = {key: value[rows.start : rows.stop] for key, value in batch.items()}
    (phase,) = objective.phases
    return (objective.validate if validating else phase.loss)(own, step_of(index, rows, total))


def images(count, *shape):
    return torch.rand(count, *shape or (1, 8, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1


def batch_of(count, *shape):
    return {"sample": images(count, *shape)}


def shown(count=20_000, value=0.5, **arguments):
    """What a network is shown of images of one grey value in [0, 1]; in the same unit."""
    network = Network()
    batch = {"sample": torch.full((count, 1, 2, 2), 2 * value - 1)}
    losses_of(Reconstruction(network, **arguments), batch)
    return (network.inputs["sample"] + 1) / 2


def codes(count, units=6, seed=0):
    return torch.rand(count, units, generator=torch.Generator().manual_seed(seed))


def charged(latents, batch=None, validating=False, **arguments):
    objective = SparseReconstruction(Network(latents=latents), **arguments)
    return losses_of(objective, batch_of(len(latents)), validating=validating)


def trained(network, objective, batch, steps=60, lr=1e-2):
    """Trains all of `network`; returns the sums of the terms of all steps."""
    optimizer, sums = torch.optim.Adam(network.parameters(), lr=lr), []
    for index in range(steps):
        loss = sum(losses_of(objective, batch, index).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        sums.append(loss.item())
    return sums


def test_the_error_is_the_mean_square_of_pixels_between_zero_and_one():
    batch = batch_of(16, 3, 4, 5)
    network = Network(lambda sample: sample.flip(0))

    losses = losses_of(Reconstruction(network), batch)

    pixels = (batch["sample"].double().numpy() + 1) / 2
    assert losses.keys() == {"mse"}
    assert losses["mse"].item() == pytest.approx(((pixels - pixels[::-1]) ** 2).mean(), rel=1e-5)
    assert torch.equal(network.inputs["sample"], batch["sample"])


def test_black_for_white_costs_one_and_a_perfect_copy_nothing():
    white = {"sample": torch.ones(4, 1, 8, 8)}

    assert losses_of(Reconstruction(Network()), white)["mse"] == 1
    assert losses_of(Reconstruction(Network(lambda sample: sample)), white)["mse"] == 0


@pytest.mark.parametrize("mask", [0.1, 0.5, 0.9])
def test_masked_pixels_are_black_and_the_others_as_much_brighter_that_the_mean_stays(mask):
    seen, value = shown(mask=mask, value=0.6), 0.6

    lost = seen == 0
    share, count = lost.float().mean().item(), seen.numel()
    assert abs(share - mask) < 5 * (mask * (1 - mask) / count) ** 0.5
    assert_close(seen[~lost], torch.full_like(seen[~lost], value / (1 - mask)))
    assert abs(seen.mean().item() - value) < 5 * value * (mask / (1 - mask) / count) ** 0.5


def test_pixels_are_lost_one_by_one():
    lost = (shown(mask=0.5) == 0).flatten(1).float()  # (N, 4)

    correlation = np.corrcoef(lost.T.numpy())
    assert np.abs(correlation - np.eye(4)).max() < 0.05


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_noise_has_the_promised_deviation_in_units_of_pixels_and_is_not_cut_off(sigma):
    noise = shown(noise=sigma) - 0.5

    scaled = noise.double() / sigma
    assert abs(scaled.mean()) < 0.02
    assert abs(scaled.std() - 1) < 0.02
    assert abs((scaled**4).mean() - 3) < 0.15
    assert scaled.abs().max() > 3.5


def test_noise_comes_on_top_of_what_was_masked():
    network, batch = Network(), batch_of(8)

    losses_of(Reconstruction(network, mask=0.5, noise=0.2), batch)

    draws = step_of(0, range(8), 8).random
    kept, noise = draws.rand(1, 8, 8) >= 0.5, draws.randn(1, 8, 8)
    pixels = (batch["sample"] + 1) / 2
    assert_close((network.inputs["sample"] + 1) / 2, kept * pixels * 2 + 0.2 * noise)


def test_the_error_is_that_against_the_images_as_they_were():
    batch, network = batch_of(16), Network(lambda sample: sample)

    lost = losses_of(Reconstruction(network, mask=0.3, noise=0.1), batch)["mse"]

    change = (network.inputs["sample"] - batch["sample"]) / 2
    assert_close(lost, change.square().mean())
    assert lost > 0.01


def test_code_noise_has_the_promised_deviation_and_one_number_for_each_hidden_unit():
    network = Network(hidden_sizes=[9, 7])

    losses_of(Reconstruction(network, code_noise=15.0), batch_of(5_000))

    noise = network.inputs["noise"]
    assert noise.shape == (5_000, 7)
    assert abs(noise.mean() / 15) < 0.03
    assert abs(noise.std() / 15 - 1) < 0.03


def test_validation_shows_images_as_they_are_and_corrupted_ones_too_where_training_does():
    batch, network = batch_of(16), Network(lambda sample: sample)

    plain = losses_of(Reconstruction(network), batch, validating=True)
    masked = losses_of(Reconstruction(network, mask=0.5), batch, validating=True)
    noisy = losses_of(Reconstruction(network, noise=0.1), batch, validating=True)
    hashing = losses_of(Reconstruction(network, code_noise=15.0), batch, validating=True)

    assert plain == hashing == {"loss": 0}
    assert masked.keys() == noisy.keys() == {"loss", "mse_corrupted"}
    assert masked["loss"] == noisy["loss"] == 0
    pixels = (batch["sample"] + 1) / 2
    assert masked["mse_corrupted"].item() == pytest.approx(pixels.square().mean().item(), rel=0.1)  # lost or doubled
    assert noisy["mse_corrupted"].item() == pytest.approx(0.1**2, rel=0.2)
    assert network.inputs.keys() == {"sample"}  # no noise on the code


@pytest.mark.parametrize(
    "make",
    [
        lambda network: Reconstruction(network, mask=0.5),
        lambda network: Reconstruction(network, noise=0.2),
        lambda network: Reconstruction(network, code_noise=2.0),
        lambda network: SparseReconstruction(network, l1_weight=0.1),
        lambda network: SparseReconstruction(network, kl_weight=0.1, part_size=8),
        lambda network: LayerwiseReconstruction(network, 1),
        lambda network: LayerwiseReconstruction(network, 1, mask=0.5),
    ],
    ids=["mask", "noise", "code noise", "l1", "kl", "layerwise", "layerwise mask"],
)
def test_the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_parts(make):
    objective, batch = make(tiny_model("DenseAutoencoder", "sigmoid code")), batch_of(16)

    whole, *parts = (losses_of(objective, batch, rows=rows) for rows in (range(16), range(8), range(8, 16)))

    for name, term in whole.items():
        assert_close((parts[0][name] + parts[1][name]) / 2, term)


def test_two_processes_show_the_same_images_as_one():
    network, batch, seen = Network(), batch_of(16), []

    for rows in (range(16), range(8), range(8, 16)):
        losses_of(Reconstruction(network, mask=0.5, noise=0.1, code_noise=1.0), batch, rows=rows)
        seen.append(network.inputs)

    for name in ("sample", "noise"):
        assert torch.equal(torch.cat([part[name] for part in seen[1:]]), seen[0][name])


def test_every_step_corrupts_otherwise_and_leaves_the_batch_alone():
    network, batch, seen = Network(), batch_of(16), []
    before, state = batch["sample"].clone(), torch.get_rng_state()

    for index in (0, 1, 0):
        losses_of(Reconstruction(network, mask=0.5, noise=0.1, code_noise=1.0), batch, index)
        seen.append(network.inputs)

    for name in ("sample", "noise"):
        assert torch.equal(seen[0][name], seen[2][name])
        assert not torch.equal(seen[0][name], seen[1][name])
    assert torch.equal(batch["sample"], before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_divergence_of_two_coins_is_that_of_their_distributions(p):
    q = torch.linspace(0.001, 0.999, 500)

    divergence = bernoulli_kl(p, q)

    p_coin = torch.distributions.Bernoulli(torch.full_like(q, p))
    assert_close(
        divergence, torch.distributions.kl_divergence(p_coin, torch.distributions.Bernoulli(q)), atol=1e-5, rtol=1e-4
    )
    assert abs(q[divergence.argmin()] - p) < 0.002
    assert_close(bernoulli_kl(1 - p, 1 - q), divergence, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("q", [0.0, 1.0])
def test_a_unit_that_never_or_always_fires_costs_much_and_no_infinity(q):
    mean = torch.full((1,), q, requires_grad=True)

    cost = bernoulli_kl(0.1, mean)
    cost.sum().backward()

    assert 1 < cost.item() < 20
    assert mean.grad.isfinite().all()


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_divergence_is_steeper_than_the_squared_difference_by_one_over_twice_the_variance_of_the_coin(p):
    q = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, requires_grad=True)
    (kl,) = torch.autograd.grad(bernoulli_kl(p, q).sum(), q)
    (squared,) = torch.autograd.grad(squared_difference(p, q).sum(), q)

    moved = (q - p).abs() > 1e-3  # at the target both are flat
    ratio = (kl / squared)[moved]

    assert_close(ratio, (1 / (2 * q * (1 - q)))[moved])
    assert ratio.min() >= 2


def test_the_divergence_is_flatter_than_the_absolute_difference_near_a_target_of_a_tenth():
    q = torch.linspace(0.001, 0.999, 999, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(bernoulli_kl(0.1, q).sum(), q)

    flatter = q[slope.abs() < 1]

    assert [round(end.item(), 3) for end in (flatter[0], flatter[-1])] == [0.052, 0.316]
    assert len(flatter) == 265  # without a gap


@pytest.mark.parametrize("weight", [1e-4, 0.5])
@pytest.mark.parametrize("power", [1, 2])
def test_each_image_is_charged_for_the_sum_of_its_code_or_of_its_squares(power, weight):
    latents, name = codes(16) - 0.5, f"l{power}"

    losses = charged(latents, **{f"{name}_weight": weight})

    assert losses.keys() == {"mse", name}
    assert_close(losses[name], weight * latents.abs().pow(power).sum() / 16)


def test_the_squared_penalty_is_that_of_the_source():
    latents = torch.full((32, 5), 0.3)  # "the mean is 0.3, the target 0.1: (0.3 - 0.1)^2 = 0.04"

    losses = charged(latents, squared_weight=2.0, target=0.1)

    assert losses.keys() == {"mse", "squared"}
    assert_close(losses["squared"], torch.tensor(2.0 * 5 * 0.04))


def test_the_recipe_charges_what_the_notebook_and_keras_do():
    recipe = recipes.load("sparse-kl-ae")
    latents = codes(32, 300)

    ((objective,),) = ([stage.objective.build(autoencoder=Network(latents=latents))] for stage in recipe.stages)
    loss = losses_of(objective, batch_of(32))["sparsity"]

    p, q = 0.1, latents.double().mean(0)  # the notebook's regulariser, whose sum Keras divides by the batch
    keras = 5e-3 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum() / 32
    assert recipe.training.batch_size == 32
    assert loss.item() == pytest.approx(keras.item(), rel=1e-5)


def test_a_penalty_on_the_mean_vanishes_where_the_mean_is_the_target_whatever_the_codes():
    latents = codes(32)
    latents = latents * 0.2 / latents.mean(0)

    assert charged(latents, kl_weight=1.0, target=0.2)["sparsity"] < 1e-6
    assert charged(latents, kl_weight=1.0, target=0.3)["sparsity"] > 0.1


@pytest.mark.parametrize("count", [8, 20, 24])
def test_the_mean_activation_is_that_of_a_part_of_the_batch(count):
    latents = codes(count)

    loss = charged(latents, kl_weight=0.5, part_size=8)["sparsity"]

    parts = latents.split(8)
    each = torch.stack([charged(part, kl_weight=0.5, part_size=8)["sparsity"] for part in parts])
    sizes = torch.tensor([float(len(part)) for part in parts])
    assert_close(loss, (each * sizes).sum() / count)
    if count > 8:
        assert loss > charged(latents, kl_weight=0.5, part_size=count)["sparsity"]  # convex in the mean


@pytest.mark.parametrize(
    "weights",
    [
        {"l1_weight": 0.1},
        {"kl_weight": 0.1},
        {"l1_weight": 0.1, "kl_weight": 0.2},
        {"l2_weight": 1, "squared_weight": 1},
    ],
)
def test_validation_adds_the_penalties_to_the_error_and_tells_each(weights):
    latents = codes(16)

    training = charged(latents, **weights)
    losses = charged(latents, validating=True, **weights)

    assert losses.keys() == {"loss", "activation", *training}
    assert_close({name: losses[name] for name in training}, training)
    assert_close(losses["loss"], sum(training.values()))
    assert_close(losses["activation"], latents.mean())


def test_without_weights_a_sparse_objective_is_a_plain_one():
    network, batch = tiny_model("DenseAutoencoder"), batch_of(16)

    assert losses_of(SparseReconstruction(network), batch) == losses_of(Reconstruction(network), batch)


@pytest.mark.parametrize("target", [0.1, 0.4])
def test_a_large_weight_pulls_the_mean_activation_of_every_unit_to_the_target(target):
    network, batch = tiny_model("DenseAutoencoder", "sigmoid code"), batch_of(32)
    objective = SparseReconstruction(network, kl_weight=1.0, target=target)

    trained(network, objective, batch, steps=150, lr=3e-2)

    assert_close(network.encode(batch["sample"]).mean(0), torch.full((4,), target), rtol=0, atol=0.03)


def test_l1_makes_a_code_sparser():
    batch, sums = batch_of(32), []

    for weight in (0.0, 0.1):
        network = tiny_model("DenseAutoencoder", "sigmoid code")
        trained(network, SparseReconstruction(network, l1_weight=weight), batch, steps=100, lr=3e-2)
        sums.append(network.encode(batch["sample"]).sum(1).mean())

    assert sums[1] < 0.2 * sums[0]


def test_noise_on_the_code_drives_it_to_zero_and_one():
    batch = batch_of(8)
    batch["sample"] = batch["sample"].sign()
    distances = []

    for sigma in (0.0, 5.0):
        network = tiny_model("DenseAutoencoder", "sigmoid code")
        trained(network, Reconstruction(network, code_noise=sigma), batch, steps=400, lr=3e-2)
        code = network.encode(batch["sample"])
        distances.append((code - code.round()).abs().mean())

    assert distances[1] < 0.5 * distances[0]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layers_error_is_that_against_what_it_was_given(layer):
    network, batch = tiny_model("DenseAutoencoder", hidden_sizes=[16, 12]), batch_of(8)

    losses = losses_of(LayerwiseReconstruction(network, layer), batch)

    output = network(batch["sample"], layer=layer)
    assert_close(losses["layer_mse"], (output.sample - output.target).square().mean())
    assert losses.keys() == {"layer_mse"}


def test_a_layer_mends_an_input_that_lost_some_of_its_numbers():
    network, batch = tiny_model("DenseAutoencoder", hidden_sizes=[16, 12]), batch_of(400)
    seen = []
    hook = network.layers[1].encoder.register_forward_pre_hook(lambda part, inputs: seen.append(inputs[0]))

    losses = losses_of(LayerwiseReconstruction(network, 1, mask=0.25), batch)

    hook.remove()
    target = network(batch["sample"], layer=1).target
    is_lost = (seen[0] == 0) & (target != 0)
    assert_close(is_lost.sum() / (target != 0).sum(), torch.tensor(0.25), rtol=0, atol=0.03)
    assert_close(seen[0][~is_lost], target[~is_lost] / 0.75)
    mended = network.layers[1].decode(network._activate(network.layers[1].encoder(seen[0]), 2))
    assert_close(losses["layer_mse"], (network._activate(mended, 1) - target).square().mean())


def test_the_first_layers_error_is_in_the_unit_of_the_whole():
    network = tiny_model("DenseAutoencoder", hidden_sizes=[], latent_activation="relu")
    batch = batch_of(8)

    layer, whole = (
        losses_of(objective, batch) for objective in (LayerwiseReconstruction(network, 0), Reconstruction(network))
    )

    assert_close(layer["layer_mse"], whole["mse"])


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layers_phase_gives_gradients_to_all_of_that_layer_and_to_nothing_else(layer, is_tied):
    network = tiny_model("DenseAutoencoder", hidden_sizes=[16, 12], is_tied=is_tied)
    objective = LayerwiseReconstruction(network, layer)
    ((phase,),) = (objective.phases,)

    root, _, path = phase.trains.partition(".")  # as the loop does
    objective.modules[root].requires_grad_(False).get_submodule(path).requires_grad_(True)
    losses_of(objective, batch_of(8))["layer_mse"].backward()

    moved = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert moved == {name for name, _ in network.named_parameters() if name.startswith(f"layers.{layer}.")}


def test_layerwise_training_leaves_other_layers_alone(tmp_path, tiny):
    kept = {key: value for key, value in tiny.items() if key.startswith(("data.", "training."))}
    (stage,) = recipes.load("greedy-ae").sections["stages"][1:2]
    stage |= {"training": {}}

    weights = []
    for steps in (1, 4):
        overrides = kept | {
            "stages": [stage],
            "components.autoencoder.hidden_sizes": [16],
            "training.max_steps": steps,
        }
        repo = genhub.train("greedy-ae", tmp_path / str(steps), overrides=overrides)
        weights.append(load_file(repo / "autoencoder/diffusion_pytorch_model.safetensors"))

    same = {name for name in weights[0] if torch.equal(weights[0][name], weights[1][name])}
    assert same == {name for name in weights[0] if name.startswith("layers.0.")}
    assert len(weights[0]) == 2 * len(same) == 8


@every_autoencoder
@pytest.mark.parametrize("arguments", [{}, {"mask": 0.3}, {"noise": 0.1}], ids=["plain", "mask", "noise"])
def test_a_few_steps_on_eight_images_lower_the_error(name, arguments):
    network, batch = tiny_model(name), batch_of(8)
    batch["sample"] = batch["sample"].mean(3, keepdim=True).expand(-1, -1, -1, 8)

    sums = trained(network, Reconstruction(network, **arguments), batch, steps=100)

    assert sum(sums[-10:]) < 0.8 * sum(sums[:10])


@pytest.mark.parametrize("layer", [0, 1])
def test_a_few_steps_on_eight_images_lower_the_error_of_a_layer(layer):
    network, batch = tiny_model("DenseAutoencoder"), batch_of(8)

    sums = trained(network, LayerwiseReconstruction(network, layer), batch)

    assert sum(sums[-5:]) < 0.7 * sum(sums[:5])


def test_a_linear_autoencoder_finds_the_plane_of_the_principal_components(tmp_path):
    repo = genhub.train("linear-ae-pca", tmp_path / "pca")

    autoencoder = genhub.AutoPipeline.from_pretrained(repo).autoencoder
    rows = points("train").view(60, 3).numpy()
    pca = PCA(2).fit(rows)
    with torch.no_grad():
        copies = (autoencoder(2 * points("train") - 1).sample.view(60, 3) + 1) / 2
    best = ((pca.inverse_transform(pca.transform(rows)) - rows) ** 2).mean()
    error = ((copies.numpy() - rows) ** 2).mean()
    assert best <= error * (1 + 1e-6)  # no plane is better
    assert error < 1.001 * best
    plane = autoencoder.layers[0].decoder.weight.detach().numpy()  # (3, 2)
    assert np.degrees(subspace_angles(plane, pca.components_.T)).max() < 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n: Reconstruction(n, mask=1.0), r"`mask` must lie in \[0, 1\), got 1.0"),
        (lambda n: Reconstruction(n, mask=-0.1), r"`mask` must lie in \[0, 1\), got -0.1"),
        (lambda n: Reconstruction(n, mask=float("nan")), r"`mask` must lie in \[0, 1\), got nan"),
        (lambda n: Reconstruction(n, patch_size=0), "`patch_size` must be at least 1, got 0"),
        (lambda n: Reconstruction(n, noise=-0.1), "`noise` must be at least 0 and finite, got -0.1"),
        (lambda n: Reconstruction(n, noise=float("inf")), "`noise` must be at least 0 and finite, got inf"),
        (lambda n: Reconstruction(n, code_noise=-1.0), "`code_noise` must be at least 0 and finite, got -1.0"),
        (lambda n: Reconstruction(n, code_noise=float("nan")), "`code_noise` must be at least 0 and finite, got nan"),
        (lambda n: SparseReconstruction(n, l1_weight=-1.0), "`l1_weight` must be at least 0 and finite, got -1.0"),
        (lambda n: SparseReconstruction(n, kl_weight=-1.0), "`kl_weight` must be at least 0 and finite, got -1.0"),
        (lambda n: SparseReconstruction(n, kl_weight=float("inf")), "`kl_weight` must be .* finite, got inf"),
        (lambda n: SparseReconstruction(n, target=0.0), r"`target` must lie in \(0, 1\), got 0.0"),
        (lambda n: SparseReconstruction(n, target=1.0), r"`target` must lie in \(0, 1\), got 1.0"),
        (lambda n: SparseReconstruction(n, part_size=0), "`part_size` must be at least 1, got 0"),
        (lambda n: LayerwiseReconstruction(n, -1), r"`layer` must lie in 0\.\.1, got -1"),
        (lambda n: LayerwiseReconstruction(n, 2), r"`layer` must lie in 0\.\.1, got 2"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(make, message):
    with pytest.raises(ValueError, match=message):
        make(tiny_model("DenseAutoencoder"))


@pytest.mark.parametrize("name", ["linear", "ConvAutoencoder", "RecurrentAutoencoder"])
def test_noise_on_the_code_needs_a_layer_before_it_to_be_added_to(name):
    network = tiny_model("DenseAutoencoder", name) if name == "linear" else tiny_model(name)

    with pytest.raises(ValueError, match="`code_noise` must be 0 unless the model has `hidden_sizes`"):
        Reconstruction(network, code_noise=1.0)


@every_autoencoder
def test_a_mean_activation_needs_a_sigmoid_code(name):
    with pytest.raises(ValueError, match="`kl_weight` must be 0 unless the model's `latent_activation` is sigmoid"):
        SparseReconstruction(tiny_model(name), kl_weight=0.1)


def test_a_model_that_is_no_stack_cannot_be_trained_layer_by_layer():
    with pytest.raises(ValueError, match="`autoencoder` must be a stack of `layers`, got ConvAutoencoder"):
        LayerwiseReconstruction(tiny_model("ConvAutoencoder"), 0)
