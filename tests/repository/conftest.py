"""Repositories and a Hub for the tests of this room."""

from pathlib import Path

import pytest
from loopback_hub import serve

import genhub


@pytest.fixture(scope="session")
def plain_repo(tmp_path_factory, tiny_always) -> Path:
    """A saved repository whose parts are all diffusers' own, as those of the recipe `ddpm`. Read only."""
    overrides = {key: value for key, value in tiny_always.items() if not key.startswith("components.unet.")}
    overrides |= {
        "components.unet.block_out_channels": [8, 8, 8],
        "components.unet.norm_num_groups": 4,
        "components.unet.attention_head_dim": 8,
        "training.checkpoint_every": 0,
    }
    return genhub.train("ddpm", tmp_path_factory.mktemp("repo") / "plain", overrides=overrides)


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """A Hub on the loopback, a process of its own: its address and the environment of its clients."""
    with serve(tmp_path_factory.mktemp("home")) as (url, env):
        yield url, env
