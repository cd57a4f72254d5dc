"""What the loop promises besides exactness: what it moves, what it writes down, and how it leaves."""

import json
import resource
import shutil
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tiny import PATCH_UNET
from tiny_recipes import tiny_text_recipe
from worlds import run, weights

import genhub
from genhub.recipes.recipe import load
from genhub.recipes.sections import as_overrides
from genhub.training import run_folder
from genhub.training.arithmetic import flush_denormals
from genhub.training.checkpoint import CheckpointError, list_checkpoints
from genhub.training.distributed import TrainingStopped
from genhub.training.state import ObjectiveState
from genhub.training.window import Window

trusted_train = partial(genhub.train, trust_code=True)  # objectives of tests/games.py


def records(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "training/metrics.jsonl").read_text().splitlines()]


def newest_state(folder) -> dict:
    return torch.load(list_checkpoints(folder / "training/checkpoints")[0] / "state.pt", weights_only=True)


@pytest.mark.parametrize("moved", ["unet.conv_in", "unet.time_embedding", "unet.conv_out"])
def test_a_phase_moves_only_the_part_it_names(tmp_path, tiny, moved):
    tiny |= {"components.unet": PATCH_UNET, "objective": {"class": "games.PartOnly", "part": moved}}
    tiny |= {"training.keep_checkpoints": 9}
    tiny |= {"optimizers": {f"unet.{moved}": {"class": "torch.optim.Adam", "lr": 0.01}}}

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    last, *_, first = list_checkpoints(folder / "training/checkpoints")
    first, last = (torch.load(path / "state.pt", weights_only=True)["modules"]["unet"] for path in (first, last))
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert changed == {name for name in first if name.startswith(moved)}


def test_two_processes_train_a_part_too(tmp_path, tiny):
    tiny |= {"components.unet": PATCH_UNET, "objective": {"class": "games.PartOnly"}, "training.max_steps": 5}
    tiny |= {"optimizers": {"unet.unet.conv_in": {"class": "torch.optim.SGD", "lr": 0.1}}}

    for processes in (1, 2):
        train = partial(trusted_train, "ddpm-quick", tmp_path / str(processes), overrides=tiny)
        codes = run(train, processes, tmp_path / "log")
        assert codes == [0] * processes, (tmp_path / "log").read_text()

    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


def test_stages_follow_one_another_with_optimizers_of_their_own(tmp_path, tiny):
    tiny |= {
        "stages": [
            {"training": {"max_steps": 3}, "optimizers": {"unet": {"lr": 0.01}}},
            {
                "training": {"max_steps": 2, "batch_size": 4},
                "optimizers": {"unet": {"class": "torch.optim.SGD", "lr": 0.5}},
            },
        ]
    }

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    log = [record for record in records(folder) if "lr" in record]
    assert [(record["stage"], record["step"], record["images"]) for record in log] == [
        *[(0, 1, 8), (0, 2, 16), (0, 3, 24)],
        *[(1, 4, 28), (1, 5, 32)],
    ]
    assert [record["lr"] for record in log[3:]] == [0.5, 0.5]


def test_training_lowers_the_validation_loss(tmp_path, tiny):
    tiny |= {"training.max_steps": 60, "training.validate_every": 1, "training.checkpoint_every": 0}
    tiny |= {"optimizers.unet.schedule": None, "optimizers.unet.adamw_lr": 0.01}

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    losses = [record["val_loss"] for record in records(folder) if "val_loss" in record]
    assert losses[-1] < 0.75 * losses[0]


def test_validation_uses_the_same_noise_every_time_and_on_any_number_of_processes(tmp_path, tiny):
    tiny |= {"training.validate_every": 1, "optimizers.unet.adamw_lr": 1e-12, "optimizers.unet.weight_decay": 0.0}

    for processes in (1, 2):
        train = partial(trusted_train, "ddpm-quick", tmp_path / str(processes), overrides=tiny)
        codes = run(train, processes, tmp_path / "log")
        assert codes == [0] * processes, (tmp_path / "log").read_text()

    losses = [r["val_loss"] for n in (1, 2) for r in records(tmp_path / str(n)) if "val_loss" in r]
    assert len(losses) == 10
    assert max(losses) - min(losses) < 1e-5


@pytest.mark.parametrize("every", [0, 1])
def test_an_infinite_loss_stops_training_and_keeps_the_last_healthy_state(tmp_path, tiny, every):
    tiny |= {"objective": {"class": "games.Exploding"}, "training.checkpoint_every": every}

    with pytest.raises(TrainingStopped, match=r"loss of unet is not finite at step 3 .*learning rate"):
        trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    if every:
        state = newest_state(tmp_path / "run")
        assert state["progress"]["total_steps"] == 2
        assert all(torch.isfinite(tensor).all() for tensor in state["modules"]["unet"].values())
    else:
        assert not list_checkpoints(tmp_path / "run/training/checkpoints")


def test_a_loss_that_is_read_later_never_reaches_a_checkpoint(tmp_path, tiny):
    tiny |= {"objective": {"class": "games.Exploding"}, "training.log_every": 100, "training.checkpoint_every": 2}

    with pytest.raises(TrainingStopped, match=r"loss of unet is not finite in the steps 1 to 4"):
        trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    assert newest_state(tmp_path / "run")["progress"]["total_steps"] == 2


@pytest.mark.parametrize("change", [{"training.max_minutes": 1e-9}, {"training.checkpoint_every": 1}])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, tiny, change):
    tiny |= {"objective": {"class": "games.Exploding", "spoils": "gradient"}, "training.log_every": 100}
    tiny |= {"training.checkpoint_every": 0, "training.max_grad_norm": None, "training.ema": {}, **change}

    with pytest.raises(TrainingStopped, match="The (weights|loss) of unet (are|is) not finite"):
        trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    for path in list_checkpoints(tmp_path / "run/training/checkpoints"):
        state = torch.load(path / "state.pt", weights_only=True)["modules"]["unet"]
        assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert not (tmp_path / "run/model_index.json").exists()


def test_an_objective_sees_the_moving_average_of_a_module(tmp_path, tiny):
    tiny |= {"objective": {"class": "games.AverageTarget"}, "training.ema": {"unet": 0.5}}

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    distances = [record["distance"] for record in records(folder) if "distance" in record]
    assert distances[0] == 0  # an average starts at the weights themselves
    assert all(distance > 0 for distance in distances[2:])


def test_the_time_limit_ends_training_with_a_saved_repository(tmp_path, tiny):
    tiny |= {"training.max_steps": 100_000, "training.max_minutes": 0.02, "training.checkpoint_every": 0}

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    metrics = json.loads((folder / "metrics.json").read_text())
    assert 1 <= metrics["training"]["steps"] < 100_000
    again = trusted_train("ddpm-quick", folder, resume=True, overrides=tiny)
    assert json.loads((again / "metrics.json").read_text())["training"]["steps"] == metrics["training"]["steps"]


def test_only_the_newest_checkpoints_stay(tmp_path, tiny):
    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    names = [path.name for path in list_checkpoints(folder / "training/checkpoints")]
    assert names == ["step-00000004", "step-00000003"]
    assert len(list((folder / "training/checkpoints").iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "no manifest"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(tmp_path, tiny, damage, caplog):
    whole = trusted_train("ddpm-quick", tmp_path / "whole", overrides=tiny)
    shutil.copytree(whole, tmp_path / "run")
    newest = list_checkpoints(tmp_path / "run/training/checkpoints")[0]
    state = newest / "state.pt"
    content = bytearray(state.read_bytes())
    if damage == "truncated":
        state.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    else:
        (state if damage == "missing" else newest / "manifest.json").unlink()

    trusted_train(tmp_path / "run", resume=True)

    assert "step-00000004 is damaged" in caplog.text
    assert (tmp_path / "run/training/checkpoints/damaged-step-00000004").is_dir()
    one, two = weights(whole), weights(tmp_path / "run")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_afresh(tmp_path, tiny):
    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)
    log = (folder / "training/metrics.jsonl").read_text()
    for path in list_checkpoints(folder / "training/checkpoints"):
        (path / "state.pt").unlink()

    with pytest.raises(CheckpointError, match="Every checkpoint .* is damaged"):
        trusted_train(folder, resume=True)

    assert (folder / "training/metrics.jsonl").read_text() == log


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(tmp_path, tiny):
    whole = trusted_train("ddpm-quick", tmp_path / "whole", overrides=tiny)
    (tmp_path / "run/training").mkdir(parents=True)
    for name in ("recipe.yaml", "training/recipe.yaml"):
        shutil.copy(whole / name, tmp_path / "run" / name)

    trusted_train(tmp_path / "run", resume=True)

    one, two = weights(whole), weights(tmp_path / "run")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_time_that_is_up_in_the_first_stage_does_not_skip_it(tmp_path, tiny):
    stages = [{"training": {"max_steps": 100_000}}, {"training": {"max_steps": 1}}]
    tiny |= {"stages": stages, "training.max_minutes": 0.01, "training.checkpoint_every": 0}

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    assert newest_state(folder)["progress"]["stage"] == 0


def test_a_phase_may_rest(tmp_path, tiny):
    tiny |= {"objective": {"class": "games.Resting"}}

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    assert newest_state(folder)["progress"]["total_steps"] == 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("name", ["stacked-ae", "text-to-image"])  # the latter trains networks within a module
def test_a_compiled_model_learns_the_same_and_is_saved_the_same(name, tmp_path, tiny, tiny_always):
    tiny = {key: value for key, value in tiny.items() if key.split(".")[0] in ("data", "training")}
    if name == "text-to-image":
        name, tiny = str(tiny_text_recipe(tiny_always, tmp_path / "text.yaml")), {}
    plain = trusted_train(name, tmp_path / "plain", overrides=tiny)

    compiled = trusted_train(name, tmp_path / "compiled", overrides=tiny | {"training.compile": True})

    one, two = weights(plain), weights(compiled)
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-3) for name in one)


def test_a_full_disk_in_the_middle_of_a_checkpoint_leaves_the_one_before_whole(tmp_path, tiny):
    def train_on_a_disk_that_fills_up():
        save = run_folder.save_checkpoint

        def limited(folder, step, *arguments):
            if step == 3:  # the system refuses to write more than this into one file, as a full disk does
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
            return save(folder, step, *arguments)

        run_folder.save_checkpoint = limited
        try:
            trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)
        except CheckpointError as error:
            print(error)
            sys.exit(7)

    assert run(train_on_a_disk_that_fills_up, 1, tmp_path / "log") == [7], (tmp_path / "log").read_text()

    assert "checkpoint of step 3 could not be written" in (tmp_path / "log").read_text()
    names = [path.name for path in (tmp_path / "run/training/checkpoints").iterdir()]
    assert sorted(names) == ["step-00000001", "step-00000002"]
    trusted_train(tmp_path / "run", resume=True)


def test_trackers_get_what_the_log_gets(tmp_path, tiny):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny | {"training.trackers": ["tensorboard"]})

    (events,) = {
        path.parent for path in (folder / "training").rglob("events.out.tfevents*") if path.stat().st_size > 500
    }
    tracked = EventAccumulator(str(events)).Reload().Scalars("loss")
    assert [event.value for event in tracked] == pytest.approx([r["loss"] for r in records(folder) if "loss" in r])


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        ("wandb", r'got wandb: `pip install -e "\.\[wandb\]"` in the clone'),
        ("comet_ml", "got comet_ml: `pip install comet_ml`"),
        ("all", "`all` finds none"),
    ],
)
def test_a_tracker_that_is_not_installed_is_refused(tmp_path, tiny, monkeypatch, tracker, message):
    monkeypatch.setattr("genhub.training.distributed.get_available_trackers", list)

    with pytest.raises(ValueError, match=f"`training.trackers` must be installed.*{message}"):
        trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny | {"training.trackers": [tracker]})

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("limit", "factor"), [(None, 1.0), (1e9, 1.0), (0.01, None)])
def test_gradients_are_scaled_down_to_the_norm_that_the_recipe_allows(tmp_path, tiny, limit, factor):
    rate = 0.5
    tiny |= {"optimizers.unet": {"class": "torch.optim.SGD", "lr": rate}, "training.max_steps": 2}
    tiny |= {"training.max_grad_norm": limit, "training.ema": {}}

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    after, before = (
        torch.load(path / "state.pt", weights_only=True)["modules"]["unet"]
        for path in list_checkpoints(folder / "training/checkpoints")
    )
    moved = torch.cat([(after[name] - before[name]).flatten() for name in after]).norm().item()
    norm = records(folder)[1]["grad_norm"]
    assert moved / rate == pytest.approx(norm * factor if factor else limit, rel=1e-3)
    assert norm > 0.02


def test_the_card_names_each_machine_that_a_run_was_made_on(tmp_path, tiny, monkeypatch):
    for name, steps in (("Abacus", 3), ("Brain", 4)):
        monkeypatch.setattr(genhub.training.loop, "device_name", lambda device, name=name: name)
        folder = trusted_train(
            "ddpm-quick", tmp_path / "run", resume=name == "Brain", overrides=tiny | {"training.max_steps": steps}
        )

    assert json.loads((folder / "metrics.json").read_text())["training"]["steps_on"] == {"Abacus": 3, "Brain": 1}
    assert "| hardware | Abacus (3 steps) and Brain (1 steps), 1 process(es)" in (folder / "README.md").read_text()


@pytest.mark.parametrize("change", [{"training.mixed_precision": "bf16"}, {"training.channels_last": True}])
def test_other_arithmetic_trains_the_same_model_within_its_precision(tmp_path, tiny, change):
    tiny |= {"training.max_steps": 10, "training.checkpoint_every": 0}
    plain = trusted_train("ddpm-quick", tmp_path / "plain", overrides=tiny)

    changed = trusted_train("ddpm-quick", tmp_path / "changed", overrides=tiny | change)

    losses = [records(folder)[9]["loss"] for folder in (plain, changed)]
    assert "training.channels_last" in change or losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert all(tensor.dtype == torch.float32 for tensor in weights(changed).values())


def test_samples_of_fixed_seeds_are_drawn_while_training(tmp_path, tiny):
    tiny |= {"training.sample_every": 2, "optimizers.unet.adamw_lr": 1e-12, "optimizers.unet.weight_decay": 0.0}

    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)

    pictures = sorted((folder / "training/samples").iterdir())
    assert [path.name for path in pictures] == ["step-00000000.png", "step-00000002.png", "step-00000004.png"]
    assert pictures[1].read_bytes() == pictures[2].read_bytes()


def test_sampling_and_validation_do_not_change_the_weights(tmp_path, tiny):
    plain = trusted_train("ddpm-quick", tmp_path / "plain", overrides=tiny)

    watched = trusted_train(
        "ddpm-quick",
        tmp_path / "watched",
        overrides=tiny | {"training.sample_every": 1, "training.validate_every": 1},
    )

    one, two = weights(plain), weights(watched)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training.batch_size": 100}, "at most the 64 training images, got 100"),
        ({"training.batch_size": 9, "training.gradient_accumulation": 2}, "must be divisible by 2 .*, got 9"),
        ({"training.mixed_precision": "fp16"}, "bf16 or no on a CPU"),
        ({"training.trackers": ["no-such-tracker"]}, "trackers"),
        ({"training.ema": {"unett": 0.9}}, "did you mean 'unet'"),
        ({"training.ema": {"scheduler": 0.9}}, "`training.ema.scheduler` must be left out"),
        ({"optimizers": {}}, "optimizers"),
        ({"optimizers": {"critic": {"class": "torch.optim.Adam"}}}, "must be for unet, .*got critic"),
        ({"data.source": "/no/such/folder"}, "must be an existing folder or a Hub id"),
        ({"data.source": "nobody/nothing"}, "Could not load the data set nobody/nothing.*sample"),
        ({"components.unet.sample_size": 30}, "sample_size"),
        ({"components.unet.patch_size": 3}, "divisible"),
        ({"components.unet.num_class_embeds": 4}, "num_class_embeds` is 4, the data set has 10 classes"),
        ({"data.val_size": 80}, "val_size"),
    ],
)
def test_a_mistake_is_one_clear_error_and_nothing_is_written(tmp_path, tiny, change, message):
    with pytest.raises(ValueError, match=message):
        trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny | change)

    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_or_out_of_reach_is_refused(tmp_path, tiny):
    trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)
    (tmp_path / "file").write_text("")

    with pytest.raises(ValueError, match="is not empty. Add --resume"):
        trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)
    with pytest.raises(ValueError, match="cannot be written|not empty"):
        trusted_train("ddpm-quick", tmp_path / "file" / "run", overrides=tiny)
    with pytest.raises(ValueError, match="holds no run to resume"):
        trusted_train("ddpm-quick", tmp_path / "other", resume=True, overrides=tiny)
    with pytest.raises(ValueError, match=r"`training.batch_size` differs from the run"):
        trusted_train(tmp_path / "run", resume=True, overrides={"training.batch_size": 4})


def test_a_run_whose_recipe_was_filled_in_from_the_data_is_resumed_by_the_name_of_the_recipe(tmp_path, tiny):
    tiny |= {"components.unet.num_class_embeds": "auto"}
    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)
    pipeline = load(folder).sections["pipeline"]
    assert pipeline["num_classes"] == len(pipeline["id2label"]) == 10

    trusted_train("ddpm-quick", folder, resume=True, overrides=tiny | {"training.max_steps": 6})

    assert json.loads((folder / "metrics.json").read_text())["training"]["steps"] == 6


def test_a_finished_run_can_be_trained_further(tmp_path, tiny):
    tiny |= {"optimizers.unet.schedule": None}  # one that ends with the run would end elsewhere
    folder = trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)
    whole = trusted_train("ddpm-quick", tmp_path / "whole", overrides=tiny | {"training.max_steps": 7})

    trusted_train(folder, resume=True, overrides={"training.max_steps": 7})

    one, two = weights(whole), weights(folder)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("variable", "name"),
    [("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM"), ("PARALLELISM_CONFIG", "a parall")],
)
def test_another_parallelism_than_of_data_is_refused_by_its_name(tmp_path, tiny, monkeypatch, variable, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{variable}", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")

    with pytest.raises(ValueError, match=f"genhub trains by data parallelism, not by {name}"):
        trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_number_of_processes_is_said(tmp_path, tiny, processes):
    train = partial(trusted_train, "ddpm-quick", tmp_path / "run", overrides=tiny | {"training.max_steps": 1})

    assert run(train, processes, tmp_path / "log") == [0] * processes

    line = f"Training on {processes} process(es), {8 // processes} images of a step on each."
    assert (tmp_path / "log").read_text().count(line) == 1


def test_processes_that_do_not_know_of_each_other_are_refused(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(ValueError, match="2 processes were launched, but each sees only itself"):
        trusted_train("ddpm-quick", tmp_path / "run", overrides=tiny)


def test_a_loss_that_is_due_in_some_steps_counts_by_its_share():
    window = Window()
    for step in range(4):
        due = ["real", "grad_norm", "r1"] if step == 0 else ["real", "grad_norm"]
        window.add(due, torch.tensor([1.0, 9.0, 2.0])[: len(due)])
        window.close_step(images=8)

    record = window.close(seconds=2.0)

    assert (record["loss"], record["real"], record["r1"]) == (1.5, 1.0, 2.0)
    assert record["images_per_second"] == 16


def test_numbers_below_the_normal_ones_are_0_while_a_thread_trains():
    small = torch.full((100,), 1e-38)

    with flush_denormals():
        with flush_denormals():
            within = small / 10
        still_within = small / 10

    assert not torch.cat([within, still_within]).any()
    assert (small / 10).all()


def test_threads_that_training_starts_take_them_for_0_too():
    code = """
import torch
from genhub.training.arithmetic import flush_denormals
torch.set_num_threads(2)
with flush_denormals():
    print(bool((torch.full((400_000,), 1e-38) / 10).any()))
print(bool((torch.full((100,), 1e-38) / 10).all()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_rows_of_samples_are_gathered_in_one_order_on_all_processes():
    names = tuple(f"memory-{number}" for number in range(12))  # a set of words has another order in each process
    gathered = []
    accelerator = SimpleNamespace(num_processes=2, reduce=lambda value, how: gathered.append(value))
    objective = SimpleNamespace(per_sample=names, state_dict=lambda: {name: name for name in reversed(names)})

    ObjectiveState(objective, accelerator, 8, 4).state_dict()

    assert tuple(gathered) == names


def test_values_of_sections_are_those_of_their_dotted_keys(tmp_path, tiny):
    nested = {"data": {"label_draw": 3}, "training": {"max_steps": 2}}
    two_steps = tiny | {"training.max_steps": 2}

    by_section = genhub.train("ddpm-quick", tmp_path / "a", overrides=two_steps, data={"label_draw": 3})
    by_key = genhub.train("ddpm-quick", tmp_path / "b", overrides=tiny | as_overrides(nested))

    assert weights(by_section).keys() == weights(by_key).keys()
    assert load(by_section / "recipe.yaml").sections == load(by_key / "recipe.yaml").sections
    with pytest.raises(ValueError, match=r"There is no section 'dat' \(did you mean 'data'\?\)"):
        genhub.train("ddpm-quick", tmp_path / "c", dat={"source": "sample"})
    with pytest.raises(ValueError, match=r"There is no `data.sorce` \(did you mean 'source'\?\)"):
        genhub.train("ddpm-quick", tmp_path / "c", data={"sorce": "sample"})


def test_a_batch_of_more_images_than_there_are_is_refused_with_one_that_fits(tmp_path, tiny):
    with pytest.raises(
        ValueError, match="must be at most the 64 training images, got 65; `training.batch_size: 64` fits"
    ):
        genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny, training={"batch_size": 65})
