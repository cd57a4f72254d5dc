"""Games of two networks under the loop: exact to resume at every moment, alike on any number of processes, watched."""

import json
import shutil

import pytest
import torch
from torch.testing import assert_close
from worlds import run

import genhub
from genhub import train
from genhub.training.callbacks import Validate
from genhub.training.checkpoint import list_checkpoints

STEPS = 8
QUIET = {
    **{"training.batch_size": 8, "training.max_steps": STEPS, "training.log_every": 1, "training.checkpoint_every": 1},
    **{"training.keep_checkpoints": 99, "training.validate_every": 0, "training.sample_every": 0},
    **{"training.num_samples": 4, "evaluation.every": 0, "training.mixed_precision": "no"},
}
NETWORKS = {
    "components.generator.block_out_channels": [8, 4],
    "components.generator.latent_channels": 4,
    "components.discriminator.block_out_channels": [4, 8],
}
GAN_LOSSES = {
    "replay": (
        "dcgan-replay",
        NETWORKS
        | {"components.discriminator.num_minibatch_kernels": 3, "objective.replay_steps": 3}
        | {"objective.augmentations": ["translation", "colour"], "objective.augmentation_probability": 0.3}
        | {"objective.augmentation_target": 0.1, "objective.r1_weight": 1.0, "objective.r1_every": 3},
    ),
    "conditional": (
        "conditional-dcgan",
        NETWORKS | {"objective.replay_steps": 2, "objective.r1_every": 2, "objective.generator_every": 2},
    ),
    "growing": (
        "stylegan",
        {
            **{f"components.{part}.block_out_channels": [4, 4, 4, 4] for part in ("generator", "discriminator")},
            **{"components.generator.latent_channels": 4, "components.generator.num_mapping_layers": 2},
            **{f"stages.{n}.training": {"max_steps": 2} for n in range(4)},
        },
    ),
}


def game(name: str, data: dict, **more) -> tuple[str, dict]:
    """Returns a recipe and the overrides that make it small."""
    recipe, own = GAN_LOSSES[name]
    quiet = {key: value for key, value in QUIET.items() if name != "growing" or key != "training.max_steps"}
    return recipe, data | quiet | own | more


@pytest.fixture
def data(tiny) -> dict:
    return {key: value for key, value in tiny.items() if key.startswith("data.")}


def state(folder) -> dict:
    return torch.load(list_checkpoints(folder / "training/checkpoints")[0] / "state.pt", weights_only=True)


def same(one, two) -> bool:
    """Whether two states hold the same bits, but for the seconds that a run took."""
    if isinstance(one, dict):
        keys = one.keys() - {"seconds"}
        return keys == two.keys() - {"seconds"} and all(same(one[key], two[key]) for key in keys)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_a_game_resumed_at_any_step_ends_in_the_same_bits(tmp_path, data, name):
    recipe, overrides = game(name, data)
    whole = train(recipe, tmp_path / "whole", overrides=overrides)

    for step in (1, 3, 4, 6):
        stopped = tmp_path / f"stopped-{step}"
        shutil.copytree(whole, stopped)
        for path in list_checkpoints(stopped / "training/checkpoints")[: STEPS - step]:
            shutil.rmtree(path)
        train(stopped, resume=True)

        assert same(state(whole), state(stopped)), f"resumed after step {step}"


def train_on(folder, recipe, overrides, processes, log):
    codes = run(lambda: train(recipe, folder, overrides=overrides), processes, log)
    assert codes == [0] * processes, log.read_text()


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=() if x == "growing" else pytest.mark.slow) for x in GAN_LOSSES]
)
def test_two_processes_resume_in_the_same_bits(tmp_path, data, name):
    recipe, overrides = game(name, data)
    train_on(tmp_path / "whole", recipe, overrides, 2, tmp_path / "log")
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    for path in list_checkpoints(tmp_path / "stopped/training/checkpoints")[: STEPS - 5]:
        shutil.rmtree(path)

    codes = run(lambda: train(tmp_path / "stopped", resume=True), 2, tmp_path / "log")

    assert codes == [0, 0], (tmp_path / "log").read_text()
    assert same(state(tmp_path / "whole"), state(tmp_path / "stopped"))


SGD = {f"optimizers.{part}": {"class": "torch.optim.SGD", "lr": 0.01} for part in ("generator", "discriminator")}
MEANS = {  # games without statistics of a batch, whose losses are means over images
    "dense": (
        "gan",
        SGD
        | {"objective.replay_steps": 3, "objective.augmentations": ["translation", "cutout"]}
        | {"objective.augmentation_target": 0.1, "objective.augmentation_probability": 0.5}
        | {"objective.r1_weight": 0.1, "objective.r1_every": 2, "objective.gradient_penalty_weight": 0.1},
    ),
    "resting": ("gan", SGD | {"objective.loss": "wasserstein", "objective.generator_every": 3}),
}


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize(("processes", "parts"), [(2, 1), (1, 4), (2, 2)])
def test_shares_of_a_batch_give_the_weights_and_the_memory_of_the_whole(tmp_path, data, name, processes, parts):
    recipe, own = MEANS[name]
    overrides = data | QUIET | own | {"training.checkpoint_every": 0}
    # In parts, each phase draws its own fakes: compare with a whole batch that does
    whole = overrides | {"training.gradient_accumulation": min(parts, 2)}
    split = overrides | {"training.gradient_accumulation": parts}

    train_on(tmp_path / "whole", recipe, whole, 1, tmp_path / "log")
    train_on(tmp_path / "shared", recipe, split, processes, tmp_path / "log")

    whole, shared = state(tmp_path / "whole"), state(tmp_path / "shared")
    assert_close(shared["modules"], whole["modules"], rtol=0, atol=1e-5)
    assert_close(shared["objective"], whole["objective"], rtol=0, atol=2e-3)  # fakes are kept in half precision


@pytest.mark.slow
def test_two_processes_share_the_running_mean_of_styles(tmp_path, data):
    recipe, overrides = game("growing", data)
    for processes in (1, 2):
        train_on(tmp_path / str(processes), recipe, overrides | SGD, processes, tmp_path / "log")

    means = [state(tmp_path / folder)["modules"]["generator"]["mean_style"] for folder in ("1", "2")]
    assert means[0].abs().max() > 0
    assert_close(*means, rtol=0, atol=1e-3)  # minibatch deviation makes the games differ


def test_what_a_game_reads_is_logged_and_is_no_part_of_the_loss(tmp_path, data):
    recipe, overrides = game("conditional", data)

    folder = train(recipe, tmp_path / "run", overrides=overrides)

    record = json.loads((folder / "training/metrics.jsonl").read_text().splitlines()[0])
    assert {f"discriminator/{name}" for name in ("D(real)", "D(fake)", "spread", "real_spread")} <= record.keys()
    terms = ("discriminator/real", "discriminator/fake", "discriminator/r1", "generator/fool")
    assert record["loss"] == pytest.approx(sum(record[name] for name in terms))


def test_the_state_before_the_first_sign_of_trouble_is_kept_and_training_goes_on_from_there(
    tmp_path, data, monkeypatch, capsys
):
    def ill_from_step_4(records, has_probabilities, window):
        ill = [record for record in records if record["step"] >= 4 and "val_kid_pix" in record]
        return {"mode collapse": "Try."} if len(ill) >= window else {}

    monkeypatch.setattr("genhub.objectives.gan.diagnose", ill_from_step_4)
    recipe, overrides = game("replay", data)
    watched = {"evaluation.every": 1, "evaluation.count": 8, "training.checkpoint_every": 2}

    folder = train(recipe, tmp_path / "run", overrides=overrides | watched)

    healthy = folder / "training/healthy"
    assert [path.name for path in list_checkpoints(healthy / "training/checkpoints")] == ["step-00000003"]
    assert genhub.AutoPipeline.from_pretrained(healthy)(batch_size=1).images[0].size == (28, 28)
    logged = [json.loads(line) for line in (folder / "training/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in logged if "warning" in record] == [6]
    assert f"genhub train --resume {healthy}" in capsys.readouterr().err
    train(healthy, resume=True)
    assert same(state(healthy), state(folder))


def test_a_moving_average_takes_the_fade_as_it_is(tmp_path, data):
    recipe, overrides = game("growing", data)
    overrides |= {"stages.3.training": {"max_steps": 4}, "training.max_minutes": None}

    folder = train(recipe, tmp_path / "run", overrides=overrides | {"stages.3.objective.fade_in": 1.0})

    assert state(folder)["modules"]["generator"]["alpha"] == 0.75  # of the last of four steps
    assert genhub.AutoPipeline.from_pretrained(folder).generator.alpha == 0.75


def test_a_network_is_saved_at_the_level_that_it_has_reached(tmp_path, data):
    recipe, overrides = game("growing", data)

    folder = train(recipe, tmp_path / "run", overrides=overrides | {"training.max_minutes": 1e-9})

    pipe = genhub.AutoPipeline.from_pretrained(folder)
    assert pipe.generator.level == json.loads((folder / "generator/config.json").read_text())["level"] == 0
    assert pipe(batch_size=1).images[0].size == (28, 28)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("conditional", {"training.batch_size": 1}, "at least 2 images at a time: the component generator .* got 1"),
        ("growing", {"training.batch_size": 2, "training.gradient_accumulation": 2}, "component discriminator"),
        ("replay", {"objective.replay_steps": 10**9}, "`replay_steps` must be at most .* half of the memory"),
        ("replay", {"objective.loss": "bce"}, "`loss` must be one of binary_cross_entropy, .*got 'bce'"),
        ("replay", {"objective.mixing": 0.9}, "`mixing` must lie in .* be 0 for DCGANGenerator without styles"),
        ("replay", {"components.generator.num_class_embeds": 10}, "`num_class_embeds` must be the same in both"),
        ("growing", {"stages.3.objective.level": 4}, "`level` must lie in 0..3, got 4"),
        ("growing", {"components.generator.base_size": 8}, "`sample_size` must be even, above 32 .*got 28"),
    ],
)
def test_a_mistake_in_a_game_is_one_clear_error_and_nothing_is_written(tmp_path, data, name, change, message):
    recipe, overrides = game(name, data)

    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run", overrides=overrides | change)

    assert not (tmp_path / "run").exists()


def test_both_rates_fall_to_their_end_although_one_player_moves_more_rarely(tmp_path, data):
    decay = {"class": "torch.optim.lr_scheduler.CosineAnnealingLR", "eta_min": 1.0e-5}
    recipe, overrides = game("conditional", data, **{"training.log_every": 1, "objective.generator_every": 4})
    overrides |= {f"optimizers.{player}.schedule": decay for player in ("generator", "discriminator")}

    run = train(recipe, tmp_path / "run", overrides=overrides)

    records = [json.loads(line) for line in (run / "training/metrics.jsonl").read_text().splitlines()]
    for player in ("generator", "discriminator"):
        assert [r[f"{player}/lr"] for r in records if f"{player}/lr" in r][-1] == pytest.approx(1e-5)


@pytest.mark.parametrize(("kernels", "size"), [(3, 8), (0, 250)])
def test_networks_that_look_at_their_batch_are_validated_in_batches_as_in_training(
    tmp_path, data, monkeypatch, kernels, size
):
    sizes, measure = [], Validate.measure
    monkeypatch.setattr(Validate, "measure", lambda self: sizes.append(self.batch_size) or measure(self))
    recipe, overrides = game("replay", data, **{"components.discriminator.num_minibatch_kernels": kernels})

    train(recipe, tmp_path / "run", overrides=overrides | {"training.batch_size": 8})

    assert set(sizes) == {size}


def test_what_is_compiled_cannot_be_differentiated_twice(tmp_path, data):
    recipe, overrides = game("conditional", data, **{"training.compile": True})

    with pytest.raises(ValueError, match="`training.compile` must be off with a gradient penalty"):
        train(recipe, tmp_path / "run", overrides=overrides)

    assert not (tmp_path / "run").exists()
