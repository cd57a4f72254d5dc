"""What every test shares: folders for caches, one thread, no GPU (unless for `-m gpu`), no Hub but the loopback's."""

import gc
import os
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent
if "PYTEST_XDIST_WORKER" not in os.environ:  # all workers use the caches of the process that started them
    (TESTS.parent / ".cache").mkdir(exist_ok=True)
    _FOLDER = tempfile.TemporaryDirectory(prefix="tests-", dir=TESTS.parent / ".cache")
    os.environ["GENHUB_TESTS_HOME"] = _FOLDER.name
HOME = Path(os.environ["GENHUB_TESTS_HOME"])
os.environ |= {
    "HF_HOME": f"{HOME}/hf",
    "HF_HUB_OFFLINE": "1",
    "GENHUB_CACHE": f"{HOME}/genhub",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": os.pathsep.join([str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
}
for name in ("GENHUB_MODELS", "HF_TOKEN", "HF_ENDPOINT", "HF_DATASETS_CACHE", "WORLD_SIZE", "RANK", "LOCAL_RANK"):
    os.environ.pop(name, None)
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS.parent / "scripts"), str(TESTS.parent / "scripts/studies")]

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


def pytest_configure(config):
    if not config.option.markexpr.startswith("gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # laws to the last bit, and processes that are forked


def pytest_collection_finish(session):
    gc.collect()
    gc.freeze()  # each training collects garbage, and need not search all of PyTorch for it


def _few_images(folder: Path) -> str:
    """Writes the first images of each class of the sample as a data set of its own, in the order of the sample."""
    from pyarrow import parquet

    if folder.exists():  # by the process that started this worker
        return str(folder)
    folder.mkdir()
    for split, count in (("train", 8), ("test", 2)):
        (source,) = (TESTS.parent / "genhub/sample").glob(f"{split}*.parquet")
        table = parquet.read_table(source)
        labels = table["label"].to_numpy()
        rows = np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(10)]))
        parquet.write_table(table.take(rows[:80]), folder / source.name)
    return str(folder)


TINY = {
    "data.source": _few_images(HOME / "few"),
    "data.val_size": 16,
    "components.unet.block_out_channels": [8, 8],
    "components.unet.layers_per_block": [1, 1],
    "components.unet.embedding_channels": 8,
    "components.unet.num_class_embeds": None,
    "components.unet.num_train_timesteps": 20,
    "components.scheduler": {
        "class": "genhub.CosineDDPMScheduler",
        "num_train_timesteps": 20,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    },
    "objective.label_dropout": 0.0,
    "pipeline.guidance_scale": 1.0,
    "pipeline.num_inference_steps": 2,
    "training.batch_size": 8,
    "training.max_steps": 4,
    "training.max_minutes": None,
    "training.mixed_precision": "no",
    "training.channels_last": False,
    "training.num_samples": 4,
    "training.validate_every": 0,
    "training.sample_every": 0,
    "training.checkpoint_every": 1,
    "training.log_every": 1,
    "training.keep_checkpoints": 2,
}


@pytest.fixture(scope="session")
def tiny_always() -> dict:
    """The overrides of `tiny`, for what lives as long as the session. Not to be changed."""
    return TINY


@pytest.fixture
def tiny() -> dict:
    """Overrides that make `ddpm-quick` train in a second: 64 training images, four steps."""
    return dict(TINY)


@pytest.fixture(scope="session")
def tiny_repo(tmp_path_factory) -> Path:
    """A saved repository of a tiny trained model whose parts are genhub's own. Read only."""
    from genhub import train

    return train("ddpm-quick", tmp_path_factory.mktemp("repo") / "tiny", overrides=TINY)
