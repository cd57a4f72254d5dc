"""How a run went: curves of quality and of the game, pictures drawn while training."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from genhub import AutoPipeline, figure, plotting, train
from genhub.data.splits import FASHION_MNIST
from genhub.figures.game import MAX_POINTS, game_panels
from genhub.figures.training import MAX_FRAMES, choose_evenly, choose_geometrically, minutes, quality_panels


def records(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_minutes_lie_on_straight_lines_from_zero_through_the_clock_and_beyond():
    clock = {10: 60.0, 20: 180.0}

    assert [minutes(step, clock) for step in (0, 5, 10, 15, 20, 25)] == [0, 0.5, 1, 2, 3, 4]
    assert minutes(15, {10: 60.0}) == 1.5


def test_quality_stands_above_the_loss_each_against_minutes():
    log = records(
        {"step": 10, "seconds": 60.0, "loss": 1.0},
        {"step": 10, "val_kid_pix": 30.0},
        {"step": 15, "val_loss": 0.5},
        {"step": 20, "seconds": 120.0, "loss": 0.9},
        {"step": 20, "val_kid_pix": 20.0},
        {"step": 20, "val_loss": 0.75},
        {"step": 20, "val_loss": 0.75},
    )

    (quality, loss), _ = quality_panels({"REPO": log})

    assert (quality.lines[0].x, quality.lines[0].y, quality.lines[0].labels) == ([1, 2], [30, 20], ["", "20"])
    assert (loss.lines[0].x, loss.lines[0].y, loss.lines[0].labels) == ([1.5, 2], [0.5, 0.75], ["0.5", ""])
    assert (quality.log_y, loss.log_y) == (True, False)
    assert "pix" in quality.y_label


def test_near_copies_stand_below_beside_the_share_of_new_real_images():
    log = records({"step": 1, "seconds": 60.0}, {"step": 1, "val_kid_pix": 3.0, "val_near_pix": 0.02})

    (_, near), _ = quality_panels({"REPO": log})

    assert (near.lines[0].x, near.lines[0].y, near.lines[0].labels) == ([1], [0.02], [""])
    assert near.levels == {"new real images": 0.01}


def test_two_runs_stand_in_one_panel_by_their_names():
    one, other = (records({"step": 1, "seconds": 60.0}, {"step": 1, "val_kid_clf": value}) for value in (5.0, -1.0))

    ((panel,), _) = quality_panels({"runs/one": one, "user/other": other})

    assert [(line.name, line.x, line.y) for line in panel.lines] == [("one", [1], [5.0]), ("other", [1], [-1.0])]
    assert not panel.log_y
    with pytest.raises(ValueError, match="user/other has no training/metrics.jsonl"):
        quality_panels({"runs/one": one, "user/other": None})


def test_another_run_is_drawn_beside_the_first(tiny_repo, tmp_path, drawing):
    other = shutil.copytree(tiny_repo, tmp_path / "other")

    figure("training-time", str(tiny_repo), str(tmp_path / "x.png"), against=str(other))

    assert [line.name for line in drawing["chart"]["panels"][0].lines] == ["tiny", "other"]


def test_a_kernel_distance_below_zero_stands_on_a_linear_axis():
    log = records({"step": 1, "seconds": 1.0}, {"step": 1, "val_kid_clf": 5.0}, {"step": 2, "val_kid_clf": -0.1})

    assert not quality_panels({"REPO": log})[0][0].log_y


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (None, "REPO has no training/metrics.jsonl"),
        ("", "no record of val_kid_clf, val_kid_pix or val_loss"),
        (records({"step": 1, "seconds": 1.0, "loss": 1.0}), "no record of val_kid_clf, val_kid_pix or val_loss"),
        (records({"step": 1, "val_loss": 1.0}), "no record with `seconds`"),
    ],
    ids=str,
)
def test_a_run_without_quality_or_time_has_no_curve(log, message):
    with pytest.raises(ValueError, match=message):
        quality_panels({"REPO": log})


def test_a_repository_without_its_training_folder_has_no_curve(tiny_repo, tmp_path):
    repo = shutil.copytree(tiny_repo, tmp_path / "repo", ignore=shutil.ignore_patterns("training"))

    with pytest.raises(ValueError, match="has no training/metrics.jsonl: it stays where the model was trained"):
        figure("training-time", str(repo))


def test_the_game_is_drawn_as_it_was_logged(game_log):
    panels, title, warnings = game_panels("repo", game_log(4, [(15, "mode collapse"), (99, "mode collapse")]))

    assert [[line.name for line in panel.lines] for panel in panels] == [
        ["real images", "fakes"],
        ["real images", "fakes"],
        ["discriminator", "generator"],
    ]
    assert panels[0].lines[0].x == [1, 2, 3, 4]
    assert [[line.y[0] for line in panel.lines] for panel in panels] == [[1, 2], [4, 3], [5, 6]]
    assert [panel.log_y for panel in panels] == [False, False, True]
    assert warnings == {"mode collapse": [1.5, 4]}  # between two records, and after the last one
    assert title == "Discriminator and generator during training; dashed lines: warnings"


def test_a_long_game_is_drawn_in_means(game_log):
    panels, title, warnings = game_panels("repo", game_log(2 * MAX_POINTS + 1))

    line = panels[0].lines[0]
    assert len(line.x) <= MAX_POINTS
    assert (line.x[:2], line.y[:2]) == ([2, 5], [2, 5])
    assert title == "Discriminator and generator during training; each point is the mean of 3 records"
    assert warnings == {}


def test_the_classes_of_the_fakes_stand_one_upon_the_other_below_the_game(game_log):
    shares = {f"val_share/{label}": 0.1 for label in range(10)}
    collapsed = shares | {"val_share/0": 0.0, "val_share/9": 0.2}
    log = game_log(4) + records({"step": 20, **shares}, {"step": 40, **collapsed})

    *_, panel = game_panels("repo", log)[0]
    figure = plotting.chart(game_panels("repo", log)[0], "")

    assert panel.is_stacked
    assert [line.name for line in panel.lines] == [*FASHION_MNIST]
    assert {tuple(line.x) for line in panel.lines} == {(2, 4)}
    assert [line.y for line in panel.lines][:: len(panel.lines) - 1] == [[0.1, 0.0], [0.1, 0.2]]
    areas = [area.get_paths()[0].vertices[:, 1].max() for area in figure.axes[-1].collections]
    assert areas == pytest.approx([0.1, *(n / 10 for n in range(2, 10)), 1.0])
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == [*reversed(FASHION_MNIST)]


def test_steps_at_which_the_generator_rests_are_left_out(game_log):
    logged = [json.loads(line) for line in game_log(4).splitlines()]
    del logged[1]["generator/grad_norm"]

    panels, _, _ = game_panels("repo", records(*logged))

    assert panels[2].lines[1].x == [1, 3, 4]


def test_warnings_stand_in_all_panels_and_in_one_legend(repos, tmp_path, drawing):
    figure("game", str(repos("gan")), str(tmp_path / "x.png"))

    axes = drawing["chart_png"]["figure"].axes
    for panel in axes:
        assert [line.get_xdata()[0] for line in panel.get_lines() if line.get_linestyle() == "--"] == [3.5, 3.5]
    legends = [[text.get_text() for text in panel.get_legend().get_texts()] for panel in axes]
    assert legends == [
        ["real images", "fakes", "mode collapse", "oscillation"],
        ["real images", "fakes"],
        ["discriminator", "generator"],
    ]


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (None, "repo has no training/metrics.jsonl: it stays where the model was trained"),
        ('{"step": 1, "loss": 2.0}\n', r"repo has no record of discriminator/D\(real\) in .*: only GANs log it"),
    ],
)
def test_without_a_log_of_a_game_it_is_said(log, message):
    with pytest.raises(ValueError, match=message):
        game_panels("repo", log)


@pytest.mark.parametrize(
    ("recipe", "subject"), [("vae", "samples of the same latents"), ("stacked-ae", "and their reconstructions")]
)
def test_each_picture_of_training_is_a_frame_with_its_step_and_the_last_one_stays(
    recipe, subject, repos, tmp_path, monkeypatch
):
    titles, add_title = [], plotting.add_title
    monkeypatch.setattr(plotting, "add_title", lambda body, title: titles.append(title) or add_title(body, title))

    animation = Image.open(figure("progress", str(repos(recipe)), str(tmp_path / "x.gif")))

    assert [title.splitlines()[1] for title in titles] == [f"after step {step} of 3" for step in range(4)]
    assert subject in titles[0]
    durations = []
    for frame in range(animation.n_frames):
        animation.seek(frame)
        durations.append(animation.info["duration"])
    assert durations == [250, 250, 250, 2500]
    drawn = np.asarray(Image.open(repos(recipe) / "training/samples/step-00000003.png"))
    height, width = drawn.shape
    np.testing.assert_array_equal(np.asarray(animation.convert("L"))[-12 - height : -12, 12 : 12 + width], drawn)


@pytest.mark.parametrize("count", [1, 2, MAX_FRAMES, MAX_FRAMES + 1, 1000])
def test_a_long_run_is_thinned_to_equal_steps_with_both_ends(count):
    kept = choose_evenly(list(range(count)), MAX_FRAMES)

    assert len(kept) == min(count, MAX_FRAMES)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert len({int(b - a) for a, b in zip(kept, kept[1:], strict=False)}) <= 2


@pytest.mark.parametrize("name", ["progress", "milestones"])
def test_without_pictures_of_training_the_remedy_is_named(name, tiny_repo, tmp_path):
    suffix = "gif" if name == "progress" else "png"

    with pytest.raises(ValueError, match=r"no pictures in training/samples.*`--training.sample_every N`"):
        figure(name, str(tiny_repo), str(tmp_path / f"x.{suffix}"))


@pytest.mark.parametrize(("count", "most"), [(1, 8), (5, 8), (50, 8), (50, 1), (1000, 4)])
def test_milestones_lie_ever_farther_apart_between_both_ends(count, most):
    indices = choose_geometrically(list(range(count)), most)

    assert indices[-1] == count - 1
    assert len(indices) == 1 or indices[0] == 0
    assert len(indices) <= most
    assert all(b > a for a, b in zip(indices, indices[1:], strict=False))
    assert (count, most) != (1000, 4) or indices == [0, 9, 99, 999]


def test_milestones_are_what_the_run_drew_and_when(repos, tmp_path, drawing):
    repo = shutil.copytree(repos("dcgan"), tmp_path / "repo")
    (repo / "training/samples").mkdir()
    drawn = torch.randint(256, (3, 64, 3, 5, 5), generator=torch.Generator().manual_seed(0)) / 255
    for step, images in zip((10, 25, 80), drawn, strict=True):
        plotting.grid(images, columns=8).save(repo / f"training/samples/step-{step:08d}.png")

    figure("milestones", str(repo), str(tmp_path / "x.png"))

    assert drawing["image_rows"]["names"] == ["1,000 images", "2,500 images", "8,000 images"]
    torch.testing.assert_close(torch.stack(drawing["image_rows"]["rows"]), drawn[:, :8])


def test_milestones_of_a_run_are_the_first_row_of_its_pictures(repos, tmp_path, drawing):
    figure("milestones", str(repos("vae")), str(tmp_path / "x.png"))

    rows = drawing["image_rows"]["rows"]
    assert [row.shape for row in rows] == [(4, 1, 28, 28)] * 4
    picture = Image.open(repos("vae") / "training/samples/step-00000003.png")
    np.testing.assert_array_equal(np.asarray(plotting.grid(rows[-1], columns=8)), np.asarray(picture))


def test_one_epoch_is_the_picture_nearest_to_it(repos, tmp_path, drawing):
    repo = shutil.copytree(repos("dcgan"), tmp_path / "repo")
    (repo / "training/samples").mkdir()
    drawn = torch.randint(256, (3, 64, 3, 5, 5), generator=torch.Generator().manual_seed(0)) / 255
    for step, images in zip((0, 25, 80), drawn, strict=True):
        plotting.grid(images, columns=8).save(repo / f"training/samples/step-{step:08d}.png")
    with pytest.raises(ValueError, match=r"has no metrics.json, which tells the images of an epoch: its run is not"):
        figure("one-epoch", str(repo), str(tmp_path / "x.png"))
    (repo / "metrics.json").write_text(json.dumps({"training": {"train_images": 2000}}))

    figure("one-epoch", str(repo), str(tmp_path / "x.png"))

    torch.testing.assert_close(torch.cat([*drawing["image_rows"]["rows"]]), drawn[1, :32])
    assert "after 2,500 images, 1.25 epochs, and 25 steps" in drawing["image_rows"]["title"]
    figure("milestones", str(repo), str(tmp_path / "x.png"), count=9)
    assert drawing["image_rows"]["names"] == [
        *("0 images, epoch 0.0", "2,500 images, epoch 1.2", "8,000 images, epoch 4.0")
    ]


def test_a_run_records_codes_and_reconstructions_of_held_out_images_from_the_untrained_model_on(repos, held_out):
    folder, images = repos("vae") / "training", held_out.images / 255
    pipeline = AutoPipeline.from_pretrained(repos("vae"))

    codes = [np.load(file) for file in sorted((folder / "codes").iterdir())]
    pictures = sorted((folder / "reconstructions").iterdir())

    assert [file.name for file in pictures] == [f"step-{step:08d}.png" for step in range(4)]
    assert [(part.shape, part.dtype) for part in codes] == [((16, 10), np.float16)] * 4
    np.testing.assert_allclose(codes[-1], pipeline.encode(images).half())
    assert (codes[0] != codes[-1]).any()
    pairs = plotting.pairs(images, pipeline.reconstruct(images, output_type="pt").images)
    np.testing.assert_array_equal(np.asarray(Image.open(pictures[-1])), np.asarray(plotting.grid(pairs, columns=8)))


@pytest.mark.parametrize(("recipe", "is_binary"), [("conditional-vae", False), ("conv-vae", True)])
def test_without_held_out_images_test_images_are_watched_as_training_sees_them(recipe, is_binary, tmp_path, tiny):
    overrides = {"data.source": tiny["data.source"], "data.val_size": 0}
    overrides |= {"training.batch_size": 8, "training.max_steps": 1, "training.sample_every": 1}

    folder = train(recipe, tmp_path / "run", overrides=overrides)

    assert len(np.load(folder / "training/codes/step-00000001.npy")) == 20  # all of them
    assert Image.open(figure("reconstruction-progress", str(folder))).n_frames == 2
    (picture,) = (folder / "training/reconstructions").glob("step-00000001.png")
    originals = plotting.cut_grid(Image.open(picture), 32)[:8]
    assert bool(((originals == 0) | (originals == 1)).all()) == is_binary


def test_codes_are_drawn_in_the_plane_of_the_two_that_vary_most_at_the_end(repos, tmp_path, drawing, held_out):
    files = sorted((repos("vae") / "training/codes").iterdir())
    first, last = (torch.from_numpy(np.load(file)).float() for file in (files[0], files[-1]))
    axes = sorted(last.std(0).argsort()[-2:].tolist())

    figure("code-drift", str(repos("vae")), str(tmp_path / "x.png"), count=2)

    drawn = drawing["point_maps"]
    assert [name.splitlines()[0] for name in drawn["panels"]] == ["after step 0", "after step 3"]
    for points, codes in zip(drawn["panels"].values(), (first, last), strict=True):
        assert torch.equal(points, codes[:, axes])
    assert torch.equal(drawn["labels"], held_out.labels)
    assert f"latents {axes[0]} and {axes[1]}, the most used of 10" in drawn["title"]
    assert drawn["radii"] == (1, 2)
    figure("code-drift", str(repos("stacked-ae")), str(tmp_path / "x.png"))
    assert drawing["point_maps"]["radii"] == ()  # which has no prior
