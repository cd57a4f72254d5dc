"""A data set that is decoded while training gives what one in memory gives, in an order that nothing else changes."""

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from loopback_hub import serve
from pictures import encode, noise, write_folder, write_parquet

from genhub.data import DataConfig, Images, Lazy, load

COUNT, VAL = 29, 5
PIXELS = noise(COUNT, 3, 4, 3)
WAYS = {"lazy": {"memory_limit_gb": 0}, "stream": {"streaming": True, "shuffle_buffer": 7}}
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images whose label is their index, in files of 10, 10 and 9."""
    from datasets import Value

    encoded = [encode(image) for image in PIXELS]
    folder = tmp_path_factory.mktemp("parquet")
    return str(write_parquet(folder, encoded, shards=3, label=(list(range(COUNT)), Value("int32"))))


def take(data, count: int, batch_size: int = 4, start: int = 0, stride: int | None = None, seed: int = 0):
    """Returns the labels and pixels of `count` batches."""
    batches = data.batches(batch_size, start, stride or batch_size, seed, "cpu")
    taken = list(itertools.islice(batches, count))
    batches.close()
    return torch.stack([batch["labels"] for batch in taken]), torch.stack([batch["sample"] for batch in taken])


def test_signals_to_a_group_of_processes_are_left_to_the_one_that_trains(folder):
    before = {*multiprocessing.active_children()}
    batches = load(DataConfig(folder, VAL, 0, memory_limit_gb=0, workers=1)).batches(4, 0, 4, 0, "cpu")
    next(batches)
    (worker,) = {*multiprocessing.active_children()} - before

    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGTERM)

    assert len([*itertools.islice(batches, 9)]) == 9  # more than were made ahead
    assert worker.is_alive()
    batches.close()


@way
def test_where_no_image_can_be_read_the_first_is_named(tmp_path, way):
    folder = str(write_parquet(tmp_path / "bad", [b"", b"no image", b""]))

    with pytest.raises(ValueError, match=r"An image \(Picture 0.PNG\) of .*bad is empty"):
        load(DataConfig(folder, 0, 0, **way))


@pytest.mark.parametrize("workers", [2, *(pytest.param(x, marks=pytest.mark.slow) for x in (1, 3))])
@pytest.mark.parametrize(("start", "stride"), [(0, 4), (13, 4), (70, 12)])
def test_out_of_memory_means_the_same_batches_as_in_memory(folder, workers, start, stride):
    whole = load(DataConfig(folder, VAL, 0))
    lazy = load(DataConfig(folder, VAL, 0, memory_limit_gb=0, workers=workers))

    assert isinstance(whole, Images)
    assert isinstance(lazy, Lazy)
    assert (lazy.shape, len(lazy)) == (whole.shape, len(whole))
    statistics = [(shape.mean, shape.std) for shape in (lazy.measure(), whole.measure())]
    assert statistics[0] == statistics[1]
    for ours, theirs in zip(take(lazy, 9, 4, start, stride), take(whole, 9, 4, start, stride), strict=True):
        assert torch.equal(ours, theirs)


@way
def test_every_epoch_visits_every_image_once_in_an_order_of_its_own(folder, way):
    data = load(DataConfig(folder, VAL, 0, **way))
    length = COUNT - VAL

    epochs = [take(data, 2 * length, batch_size=1, seed=seed) for seed in (0, 1)]

    orders = torch.cat([labels.view(2, length) for labels, _ in epochs])
    assert torch.equal(orders.sort(dim=1).values, orders[0].unique().expand(4, length))
    assert len(orders.unique(dim=0)) == 4
    seen = ((epochs[0][1][:, 0] + 1) * 127.5).round().byte()
    assert np.array_equal(seen, PIXELS[epochs[0][0][:, 0]].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("workers", [2, *(pytest.param(x, marks=pytest.mark.slow) for x in (1, 3))])
def test_a_stream_has_one_order_wherever_it_starts_and_whoever_decodes(folder, workers):
    stream, _ = take(load(DataConfig(folder, VAL, 0, workers=1, **WAYS["stream"])), 100, batch_size=1)
    data = load(DataConfig(folder, VAL, 0, workers=workers, **WAYS["stream"]))

    for start in (0, 11, 24, 53):
        assert torch.equal(take(data, 8, batch_size=5, start=start)[0].flatten(), stream[start : start + 40, 0])


@way
@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_batches_of_all_ranks_are_those_of_one_process(folder, ranks, way):
    data = load(DataConfig(folder, VAL, 0, **way))
    share = 8 // ranks

    parts = [take(data, 7, share, 3 + rank * share, 8) for rank in range(ranks)]

    for name, whole in enumerate(take(data, 7, 8, start=3)):
        assert torch.equal(torch.cat([part[name] for part in parts], dim=1), whole)


@way
def test_val_is_what_training_does_not_see_in_memory(folder, way):
    config = DataConfig(folder, VAL, 0, **way)
    val, seen = load(config, "val"), take(load(config), 1, batch_size=COUNT - VAL)[0]

    assert isinstance(val, Images)
    assert sorted(val.labels.tolist() + seen[0].tolist()) == list(range(COUNT))
    if "streaming" in way:
        assert val.labels.tolist() == list(range(COUNT - VAL, COUNT))
    else:
        assert torch.equal(val.images, load(DataConfig(folder, VAL, 0), "val").images)


@way
def test_the_global_random_numbers_are_left_alone(folder, way):
    data = load(DataConfig(folder, VAL, 0, **way))
    before = torch.get_rng_state()

    take(data, 2)

    assert torch.equal(before, torch.get_rng_state())


@way
def test_a_batch_may_hold_several_epochs(folder, way):
    labels, _ = take(load(DataConfig(folder, VAL, 0, **way)), 1, batch_size=3 * (COUNT - VAL))

    assert torch.equal(labels.unique(return_counts=True)[1], torch.full((COUNT - VAL,), 3))


@way
def test_an_image_of_another_shape_is_refused_also_alone_in_its_batch(tmp_path, way):
    write_parquet(tmp_path, [encode(image) for image in (noise(3, 4), noise(3, 4), noise(4, 4))])
    batches = load(DataConfig(str(tmp_path), 0, **way)).batches(1, 0, 1, 0, "cpu")

    with pytest.raises(ValueError, match=r"An image \(Picture 2.PNG\) .* is 4x4 .* the first one 4x3"):
        list(itertools.islice(batches, 3))


def test_a_stream_without_labels_from_a_folder_of_images(tmp_path):
    write_folder(tmp_path, {f"{i}.png": encode(image) for i, image in enumerate(noise(4, 5, 5))})

    batch = next(load(DataConfig(str(tmp_path), 0, streaming=True)).batches(4, 0, 4, 0, "cpu"))

    assert batch.keys() == {"sample"}
    assert len(batch["sample"].unique(dim=0)) == 4


def test_a_stream_that_holds_less_than_it_says_is_refused(folder):
    data = load(DataConfig(folder, 0, 0, streaming=True))
    data.length += 1

    with pytest.raises(ValueError, match=f"must hold the {COUNT + 1} images that it says it has, got {COUNT}"):
        take(data, COUNT // 4 + 1)


def test_the_hub_gives_the_same_images_in_every_way_and_says_what_it_lacks(tmp_path):
    images = [encode(image) for image in noise(6, 3, 4, 3)]
    write_parquet(tmp_path / "table", images, shards=2)
    card = "---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: 6\n---\n"
    write_folder(tmp_path / "files", {f"train/{i}.png": image for i, image in enumerate(images)})
    write_folder(tmp_path / "silent", {f"train/{i}.png": image for i, image in enumerate(images)})
    for name in ("table", "files"):
        (tmp_path / name / "README.md").write_text(card)
    code = f"""
        import json
        from huggingface_hub import HfApi
        from genhub.data import DataConfig, load

        def look(name, **way):
            try:
                batch = next(load(DataConfig("user/" + name, 0, **way)).batches(6, 0, 6, 0, "cpu"))
            except ValueError as error:
                return str(error)
            return sorted(batch["sample"].flatten(1).tolist())

        for name in ("table", "files", "silent"):
            HfApi().create_repo("user/" + name, repo_type="dataset")
            HfApi().upload_folder(repo_id="user/" + name, repo_type="dataset", folder_path="{tmp_path}/" + name)
        seen = [look(name, **way) for name in ("table", "files") for way in ({{"streaming": True}}, {{}})]
        print(json.dumps([seen, look("silent", streaming=True), look("missing")]))
    """

    with serve(tmp_path / "hub") as (_, env):
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
        env |= {"GENHUB_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seen, silent, missing = json.loads(done.stdout.splitlines()[-1])

    assert (
        seen
        == [sorted(load(DataConfig(str(tmp_path / "table"), 0)).batch(slice(None))["sample"].flatten(1).tolist())] * 4
    )
    assert "`data.streaming` must be off: user/silent does not say how many" in silent
    assert "user/missing" in missing
    assert "use `sample`" in missing
