"""The games against closed forms, and what their two phases owe each other."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_model
from torch.testing import assert_close

from genhub.objectives import AdversarialGame, FreshFakesGame, GrowingGame, Step
from genhub.objectives.gan_growing import fade_resolution
from genhub.objectives.gan_losses import GAN_LOSSES
from genhub.utils.randomness import BatchRandom

DCGAN, DENSE = ("DCGANGenerator", "DCGANDiscriminator"), ("DenseGenerator", "DenseDiscriminator")
PROGRESSIVE = ("ProgressiveGenerator", "ProgressiveDiscriminator")
STYLEGAN = ("StyleGANGenerator", "ProgressiveDiscriminator")
REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])


def game_of(names=DCGAN, *args, variant="plain", **arguments):
    networks = (tiny_model(name, variant, seed).train() for seed, name in enumerate(names))
    return (GrowingGame if names in (PROGRESSIVE, STYLEGAN) else AdversarialGame)(*networks, *args, **arguments)


def batch_of(count=8, rows=None):
    pixels = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows = rows or range(count)
    return {
        "sample": pixels[rows.start : rows.stop],
        "labels": (torch.arange(count) % 4)[rows.start : rows.stop],
    }


def step_of(index=0, number=0, progress=0.0, parts=1, rows=range(8), total=8):
    return Step(index, progress, BatchRandom("test", index, number, rows=rows, total=total), parts)


def play(game, batch=None, index=0, numbers=(0, 1), **where):
    """What the loop does in a step, but for moving: each phase's terms, and the gradients (module, parameter) it
    leaves."""
    terms, gradients = {}, {}
    for number, phase in zip(numbers, game.phases, strict=True):
        if index % phase.every:
            continue
        for name, module in game.modules.items():
            module.requires_grad_(name == phase.trains)
            module.zero_grad()
        terms[phase.trains] = phase.loss(batch or batch_of(), step_of(index, number, **where))
        sum(terms[phase.trains].values()).backward()
        gradients[phase.trains] = {
            (name, key): parameter.grad.clone()
            for name, module in game.modules.items()
            for key, parameter in module.named_parameters()
            if parameter.grad is not None
        }
    return terms, gradients


def calls_of(module):
    """Returns a list that grows by the (keyword arguments, output) of each call of `module`."""
    calls = []
    module.register_forward_hook(lambda _, args, kwargs, out: calls.append((kwargs, out)), with_kwargs=True)
    return calls


@pytest.mark.parametrize(
    ("loss", "costs"),
    [
        ("binary_cross_entropy", (math.log(2) / 2, math.log(2) / 2, math.log(2))),
        ("non_saturating", (math.log(2), math.log(2), math.log(2))),
        ("least_squares", (0.5, 0.0, 0.5)),
        ("hinge", (1.0, 1.0, 0.0)),
        ("wasserstein", (0.0, 0.0, 0.0)),
    ],
)
def test_scores_of_zero_cost_what_they_do_on_paper(loss, costs):
    functions, zero = GAN_LOSSES[loss], torch.zeros(4)

    computed = (functions.real(zero, 1.0), functions.fake(zero), functions.generator(zero))

    assert [cost.item() for cost in computed] == pytest.approx(costs)


@pytest.mark.parametrize(
    ("loss", "costs"),
    [
        ("least_squares", (1.25, 2.3125, 4.0625)),  # (1 + 4) / 4, (1/4 + 9) / 4, (1/4 + 16) / 4
        ("hinge", (1.0, 0.75, 1.25)),  # (0 + 2) / 2, (3/2 + 0) / 2, -(1/2 - 3) / 2
        ("wasserstein", (-0.5, -1.25, 1.25)),
    ],
)
def test_scores_cost_what_a_hand_computes(loss, costs):
    functions = GAN_LOSSES[loss]

    assert (functions.real(REAL, 1.0), functions.fake(FAKE), functions.generator(FAKE)) == costs


def test_the_books_loss_is_the_cross_entropy_of_one_batch_of_reals_and_fakes():
    loss, labels = GAN_LOSSES["binary_cross_entropy"], torch.tensor([1.0, 1.0, 0.0, 0.0])

    cost = loss.real(REAL, 1.0) + loss.fake(FAKE)

    assert_close(cost, F.binary_cross_entropy_with_logits(torch.cat([REAL, FAKE]), labels))
    assert_close(loss.generator(FAKE), F.binary_cross_entropy_with_logits(FAKE, torch.ones(2)))


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "non_saturating", "least_squares"])
def test_the_probability_of_the_best_score_is_the_share_of_real_images(loss):
    functions, p, q = (
        GAN_LOSSES[loss],
        0.6,
        0.2,
    )  # densities of reals and fakes at an image (Goodfellow, Prop. 1)
    best = torch.tensor([p / (p + q)]) if loss == "least_squares" else torch.tensor([math.log(p / q)])
    best.requires_grad_()

    (slope,) = torch.autograd.grad(p * functions.real(best, 1.0) + q * functions.fake(best), best)

    assert slope.abs() < 1e-6
    assert functions.probability(best).item() == pytest.approx(p / (p + q))


@pytest.mark.parametrize(("loss", "unsure"), [("hinge", 0.0), ("least_squares", 0.5), ("non_saturating", 0.0)])
def test_the_probability_is_one_half_where_real_and_fake_cost_the_same(loss, unsure):
    probability = GAN_LOSSES[loss].probability(torch.tensor([-9.0, -1.0, unsure, 1.0, 9.0]))

    assert probability[2] == 0.5
    assert_close(probability + probability.flip(0), torch.ones(5))
    assert_close(probability[[0, 4]], torch.tensor([0.0, 1.0]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("loss", "share"), [("binary_cross_entropy", 0.5), ("non_saturating", 1.0)])
def test_smoothing_is_the_cross_entropy_against_a_lower_label_of_real_images_alone(loss, share):
    game = game_of(DENSE, loss, label_smoothing=0.1)
    logits = game.modules["discriminator"](batch_of()["sample"]).logits

    smooth, plain = (play(one)[0]["discriminator"] for one in (game, game_of(DENSE, loss)))

    label = torch.full_like(logits, 0.9)
    assert_close(smooth["real"], share * F.binary_cross_entropy_with_logits(logits, label))
    assert_close(smooth["fake"], plain["fake"])


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("names", [DENSE, DCGAN, PROGRESSIVE, STYLEGAN])
def test_a_phase_leaves_gradients_on_all_that_it_moves_and_on_nothing_else(names, parts):
    game = game_of(names, **({"level": 1} if names in (PROGRESSIVE, STYLEGAN) else {}))

    _, gradients = play(game, progress=0.2, parts=parts)

    for phase in game.phases:
        assert {name for name, _ in gradients[phase.trains]} == {phase.trains}
        moved = {key for key, _ in game.modules[phase.trains].named_parameters()}
        assert {key for _, key in gradients[phase.trains]} == moved


@pytest.mark.parametrize("names", [DCGAN, DENSE])
def test_the_generator_learns_the_same_whatever_the_real_images_are(names):
    learnt = []
    for real in (batch_of(), {"sample": torch.ones(8, 1, 8, 8), "labels": torch.zeros(8, dtype=torch.long)}):
        game = game_of(names)
        (phase,) = (phase for phase in game.phases if phase.trains == "generator")
        game.modules["discriminator"].requires_grad_(False)
        sum(phase.loss(real, step_of(number=1)).values()).backward()
        learnt.append([parameter.grad for parameter in game.modules["generator"].parameters()])

    assert_close(*learnt, rtol=0, atol=0)
    assert all(gradient.any() for gradient in learnt[0])


@pytest.mark.parametrize("parts", [1, 2])
def test_the_generator_is_frozen_again_when_its_fakes_are_made(parts):
    game = game_of()
    game.modules["generator"].requires_grad_(False)

    game.discriminator_loss(batch_of(), step_of(parts=parts))

    assert not any(parameter.requires_grad for parameter in game.modules["generator"].parameters())


@pytest.mark.parametrize(("parts", "calls"), [(1, 1), (2, 2)])
def test_the_fakes_of_a_step_are_made_once_unless_the_batch_comes_in_parts(parts, calls):
    game = game_of()
    made, met = (calls_of(module) for module in game.modules.values())

    play(game, parts=parts)

    assert len(made) == calls
    latents = [kwargs["latents"] for kwargs, _ in made]
    assert not torch.equal(latents[0], latents[-1]) or calls == 1
    assert torch.equal(met[-1][0]["sample"], made[-1][1].sample)
    assert game.cached_fakes is None


def test_as_in_the_book_the_discriminator_meets_fakes_of_running_statistics_and_the_generator_draws_its_own():
    game = FreshFakesGame(*(tiny_model(name).train() for name in DCGAN))
    modes = []
    game.modules["generator"].register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    made = calls_of(game.modules["generator"])

    play(game)

    assert modes == [False, True]
    assert game.modules["generator"].training
    assert not torch.equal(made[0][0]["latents"], made[1][0]["latents"])
    assert [out.sample.requires_grad for _, out in made] == [False, True]


@pytest.mark.parametrize("names", [DENSE, DCGAN])
def test_shared_fakes_lead_the_generator_as_the_same_latents_anew_would(names):
    variant = "no dropout" if names == DCGAN else "plain"
    networks = tiny_model(names[0]).train(), tiny_model(names[1], variant).train()

    shared, anew = (play(AdversarialGame(*networks), numbers=(0, 0), parts=parts)[1]["generator"] for parts in (1, 2))

    assert_close(shared, anew)


def test_where_the_generator_rests_fakes_have_no_graph():
    game = game_of(generator_every=2)
    made = calls_of(game.modules["generator"])

    played = [play(game, index=index)[0].keys() for index in range(4)]

    both, alone = {"discriminator", "generator"}, {"discriminator"}
    assert played == [both, alone, both, alone]
    assert [out.sample.requires_grad for _, out in made] == [True, False, True, False]
    assert game.cached_fakes is None


@pytest.mark.parametrize("loss", GAN_LOSSES)
def test_the_game_of_a_batch_is_the_mean_of_those_of_its_parts(loss):
    options = {
        "gradient_penalty_weight": 1.0,
        "r1_weight": 1.0,
        "replay_steps": 2,
        "augmentations": ("colour", "translation", "cutout"),
        "augmentation_probability": 0.5,
    }
    games = [game_of(DENSE, loss, **options) for _ in range(3)]

    for index in (0, 1):
        whole, *parts = (
            play(game, batch_of(rows=rows), index, rows=rows)[0]
            for game, rows in zip(games, (range(8), range(4), range(4, 8)), strict=True)
        )

        for name, terms in whole.items():
            for term, value in terms.items():
                assert_close((parts[0][name][term] + parts[1][name][term]) / 2, value)


def test_old_fakes_are_shown_to_the_discriminator_and_never_to_the_generator():
    game = game_of(DENSE, replay_steps=1, replay_share=1.0)
    made, met = (calls_of(module) for module in game.modules.values())

    for index in (0, 1):
        play(game, index=index)

    seen = [kwargs["sample"] for kwargs, _ in met]  # reals and fakes, then the generator's, in both steps
    assert_close(seen[2][8:], made[0][1].sample, rtol=1e-3, atol=1e-3)
    assert torch.equal(seen[3], made[1][1].sample)


def test_old_fakes_are_shown_with_the_classes_that_they_were_made_of():
    game = game_of(variant="conditional", replay_steps=1, replay_share=1.0)
    before, now = batch_of(), batch_of() | {"labels": batch_of()["labels"].flip(0)}
    met = calls_of(game.modules["discriminator"])

    for index, batch in enumerate((before, now)):
        game.discriminator_loss(batch, step_of(index))

    assert torch.equal(met[1][0]["class_labels"], torch.cat([now["labels"], before["labels"]]))


@pytest.mark.parametrize(("variant", "sizes"), [("plain", [16]), ("minibatch", [8, 8])])
def test_a_discriminator_that_looks_at_its_batch_meets_reals_and_fakes_apart(variant, sizes):
    changes = {"num_minibatch_kernels": 3} if variant == "minibatch" else {}
    game = AdversarialGame(tiny_model("DCGANGenerator"), tiny_model("DCGANDiscriminator", **changes))
    met = calls_of(game.modules["discriminator"])

    game.discriminator_loss(batch_of(), step_of())

    assert [len(kwargs["sample"]) for kwargs, _ in met] == sizes


def test_both_networks_are_told_the_classes_of_the_batch():
    game, labels = game_of(variant="conditional"), batch_of()["labels"]
    made, met = (calls_of(module) for module in game.modules.values())

    play(game)

    assert torch.equal(made[0][0]["class_labels"], labels)
    assert [kwargs["class_labels"].tolist() for kwargs, _ in met] == [[*labels, *labels], [*labels]]


@pytest.mark.parametrize("loss", GAN_LOSSES)
def test_metrics_are_the_mean_outputs_of_the_discriminator_and_the_spread_of_images(loss):
    game, step, batch = game_of(DENSE, loss), step_of(), batch_of()
    batch["sample"] = torch.ones(8, 1, 8, 8) * torch.tensor([1.0, -1.0] * 4).view(-1, 1, 1, 1)

    game.discriminator_loss(batch, step)

    logits = game.modules["discriminator"](batch["sample"]).logits
    undecided = {"least_squares": 0.5, "wasserstein": None}.get(loss, 0.0)
    assert step.metrics.keys() - {"sign"} == {"D(real)", "D(fake)", "spread", "real_spread"}
    assert ("sign" in step.metrics) == (undecided is not None)
    assert_close(step.metrics["real_spread"], torch.tensor(0.5))  # pixels are 0 or 1, as often
    if undecided is not None:
        assert_close(step.metrics["sign"], (logits - undecided).sign().mean())
    assert_close(step.metrics["D(real)"], (game.loss.probability or torch.nn.Identity())(logits).mean())
    assert not any(value.requires_grad for value in step.metrics.values())


def test_validation_tells_the_losses_of_both():
    game = game_of(DENSE)

    losses = game.validate(batch_of(), step_of())

    terms, _ = play(game, numbers=(0, 0))
    assert_close(losses["discriminator_loss"], sum(terms["discriminator"].values()))
    assert_close(losses["generator_loss"], terms["generator"]["fool"])
    assert losses.keys() - {"discriminator_loss", "generator_loss"} == {"D(real)", "D(fake)", "spread", "real_spread"}


@pytest.mark.parametrize("loss", GAN_LOSSES)
def test_a_discriminator_learns_to_tell_eight_images_from_fakes(loss):
    game = game_of(DENSE, loss)
    optimizer = torch.optim.Adam(game.modules["discriminator"].parameters(), lr=1e-2)

    before = game.validate(batch_of(), step_of(99))["discriminator_loss"]
    for index in range(40):
        sum(game.discriminator_loss(batch_of(), step_of(index)).values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    assert game.validate(batch_of(), step_of(99))["discriminator_loss"] < before - 0.1


@pytest.mark.parametrize(("level", "layers"), [(0, 2), (1, 4)])
@pytest.mark.parametrize("mixing", [0.3, 0.9])
def test_the_share_of_mixed_fakes_is_the_one_asked_for_from_any_layer_but_the_first(mixing, level, layers):
    game = game_of(STYLEGAN, level, mixing=mixing)

    layer = game.mix_styles(step_of(rows=range(4000), total=4000))["mixing_layer"]

    assert (layer < layers).float().mean().item() == pytest.approx(mixing, abs=0.035)
    assert layer.unique().tolist() == list(range(1, layers + 1))


@pytest.mark.parametrize("names", [PROGRESSIVE, STYLEGAN])
@pytest.mark.parametrize("level", [0, 1])
def test_a_growing_game_sets_both_networks_to_its_level_and_moves_what_that_has(names, level):
    game = game_of(names, level)

    _, gradients = play(game, progress=0.2)

    for phase in game.phases:
        module = game.modules[phase.trains]
        assert (module.level, module.config["level"]) == (level, level)
        assert phase.submodules == module.trainable_submodules
        parts = tuple(f"{part}." for part in phase.submodules)
        in_use = {key for key, _ in module.named_parameters() if f"{key}.".startswith(parts)}
        assert {key for _, key in gradients[phase.trains]} == in_use


@pytest.mark.parametrize(
    ("level", "fade_in", "progress", "alpha"),
    [
        (1, 0.5, 0.0, 0.0),
        (1, 0.5, 0.1, 0.2),
        (1, 0.5, 0.5, 1.0),
        (1, 0.5, 0.9, 1.0),
        (1, 0.0, 0.0, 1.0),
        (0, 0.5, 0, 1.0),
    ],
)
def test_the_newest_level_rises_in_a_straight_line_in_both_networks(level, fade_in, progress, alpha):
    game = game_of(PROGRESSIVE, level, fade_in)

    play(game, progress=progress)

    assert game.alpha(step_of(progress=progress)) == pytest.approx(alpha)
    for module in game.modules.values():
        assert module.alpha.item() == pytest.approx(alpha)


@pytest.mark.parametrize("cell", [1, 2])
def test_before_the_fade_real_images_have_half_the_resolution(cell):
    sample = batch_of()["sample"]

    coarse = fade_resolution(sample, 8, cell, 0.0)

    assert_close(coarse, F.interpolate(F.avg_pool2d(sample, 2 * cell), scale_factor=2.0 * cell))


@pytest.mark.parametrize("level", [0, 1])
def test_after_the_fade_real_images_have_the_resolution_of_the_level_to_which_the_discriminator_is_blind(level):
    game = game_of(PROGRESSIVE, level, variant="margin")
    discriminator, sample = game.modules["discriminator"].eval(), torch.rand(8, 1, 6, 8) * 2 - 1

    real = game.prepare_real({"sample": sample}, step_of(progress=1.0))

    assert_close(discriminator(real).logits, discriminator(sample).logits)
    assert torch.equal(real, sample) == (level == 1)
    assert real.std(0).mean() <= sample.std(0).mean()


def test_in_validation_real_images_are_as_sharp_as_the_network_last_met_them():
    game = game_of(PROGRESSIVE, 1)
    for module in game.modules.values():
        module.eval().alpha.fill_(0.25)

    real = game.prepare_real(batch_of(), step_of(progress=0.0))

    assert_close(real, fade_resolution(batch_of()["sample"], 8, 1, 0.25))


def test_a_margin_shifts_the_cells_and_repeats_the_edge():
    sample = torch.arange(36.0).view(1, 1, 6, 6).square()

    coarse = fade_resolution(sample, 8, 1, 0.0)

    assert_close(coarse[0, 0, 1:3, 1:3], sample[0, 0, 1:3, 1:3].mean().expand(2, 2))
    assert_close(coarse[0, 0, 0, 0], sample[0, 0, 0, 0])
    assert_close(coarse[0, 0, 0, 1:3], sample[0, 0, 0, 1:3].mean().expand(2))


def test_real_images_come_into_focus_in_a_straight_line():
    sample = batch_of()["sample"]
    start, middle, end = (fade_resolution(sample, 8, 1, alpha) for alpha in (0.0, 0.25, 1.0))

    assert_close(middle, 0.75 * start + 0.25 * sample)
    assert torch.equal(end, sample)


def test_the_discriminator_meets_real_images_as_far_as_the_fade_has_come():
    game = game_of(PROGRESSIVE, 1, 0.5)
    met = calls_of(game.modules["discriminator"])

    game.discriminator_loss(batch_of(), step_of(progress=0.1))

    assert_close(met[0][0]["sample"], fade_resolution(batch_of()["sample"], 8, 1, 0.2))


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (DCGAN, {"loss": "saturating"}, "`loss` must be one of binary_cross_entropy, .*, got 'saturating'"),
        (DCGAN, {"label_smoothing": 1.0}, r"`label_smoothing` must lie in \[0, 1\), .*, got 1.0"),
        (DCGAN, {"loss": "hinge", "label_smoothing": 0.1}, "`label_smoothing` must .* be 0 for hinge, got 0.1"),
        (DCGAN, {"loss": "wasserstein", "label_smoothing": 0.1}, "`label_smoothing` must .* be 0 for wasserstein"),
        (DCGAN, {"generator_every": 0}, "`generator_every` must be at least 1, got 0"),
        (DCGAN, {"r1_every": 0}, "`r1_every` must be at least 1, got 0"),
        (DCGAN, {"mixing": 0.5}, "`mixing` must .* be 0 for DCGANGenerator without styles, got 0.5"),
        (
            DENSE,
            {"loss": "wasserstein", "augmentations": ("colour",), "augmentation_target": 0.5},
            "`augmentation_target` must be unset for wasserstein, whose scores say nothing by their sign",
        ),
        (PROGRESSIVE, {"level": 0, "mixing": 0.5}, "`mixing` must .* be 0 for ProgressiveGenerator .*, got 0.5"),
        (STYLEGAN, {"level": 1, "mixing": 1.5}, r"`mixing` must lie in \[0, 1\], .*, got 1.5"),
        (STYLEGAN, {"level": 2}, r"`level` must lie in 0..1, got 2"),
        (STYLEGAN, {"level": 1, "fade_in": 1.5}, r"`fade_in` must lie in \[0, 1\], got 1.5"),
        (STYLEGAN, {"level": 1, "fade_in": -0.5}, r"`fade_in` must lie in \[0, 1\], got -0.5"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(names, arguments, message):
    with pytest.raises(ValueError, match=message):
        game_of(names, **arguments)


def test_networks_that_know_other_classes_are_refused():
    with pytest.raises(ValueError, match="`num_class_embeds` must be the same in both networks, got 4 and None"):
        AdversarialGame(tiny_model("DCGANGenerator", "conditional"), tiny_model("DCGANDiscriminator"))
