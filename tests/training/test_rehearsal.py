"""What does not fit is one error before any work, so that the corrected command finds an empty folder."""

import pytest
from tiny import PATCH_UNET

import genhub

SGD = {"class": "torch.optim.SGD", "lr": 0.1}
SCHEDULES = "torch.optim.lr_scheduler"


def unet(levels: int) -> dict:
    """A U-Net of diffusers, whose constructor takes any size, though its skips need sides that halve."""
    blocks = {"down_block_types": ["DownBlock2D"] * levels, "up_block_types": ["UpBlock2D"] * levels}
    channels = {
        "block_out_channels": [4] * levels,
        "norm_num_groups": 2,
        "attention_head_dim": 2,
        "layers_per_block": 1,
    }
    return {"class": "diffusers.UNet2DModel", **blocks, **channels}


def optimizer(**schedule) -> dict:
    return {"optimizers.unet": SGD | {"schedule": schedule}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"components.unet": unet(4)}, "computed on 1 x 28 x 28: .* `--data.padding 2` makes 32 x 32, which fits"),
        ({"components.unet": unet(3), "data.size": 30}, "computed on 1 x 30 x 30: .* `--data.padding 1` makes 32"),
        (
            {"components.unet": unet(3), "data.size": 27, "data.padding": 1},
            "29 x 29: .* `--data.size 30` makes 32 x 32",
        ),
        ({"components.unet.down_block_types": ["DownBlock2D", "NoBlock"]}, "NoBlock"),
        ({"optimizers.unet.lr": -1.0}, "`optimizers.unet`: .*-1"),
        ({"optimizers.unet": {"class": "torch.optim.LBFGS"}}, "`optimizers.unet` cannot be torch.optim.LBFGS"),
        ({"optimizers.unet": {"class": "torch.optim.SparseAdam"}}, "cannot be torch.optim.SparseAdam: .*dense"),
        (optimizer(**{"class": f"{SCHEDULES}.ReduceLROnPlateau"}), "`optimizers.unet.schedule` cannot be"),
        (
            optimizer(**{"class": f"{SCHEDULES}.OneCycleLR", "max_lr": 0.1, "total_steps": 3}),
            "`optimizers.unet.schedule.total_steps` must be at least the 4 updates of the stage, got 3",
        ),
        (optimizer(**{"class": f"{SCHEDULES}.OneCycleLR", "max_lr": -0.1}), "must give finite rates of at least 0"),
        (
            {"pipeline.num_inference_steps": 21},
            "`pipeline` cannot make images of 28 x 28, .* between 1 and 20, got 21",
        ),
        ({"objective": {"class": "games.PartOnly", "part": "nothing"}}, "trains 'unet.nothing', which is not one"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_corrected_command_starts(tmp_path, tiny, change, message):
    plain = tiny | {"components.unet": PATCH_UNET, "training.max_steps": 4, "training.checkpoint_every": 0}

    with pytest.raises(ValueError, match=message):
        genhub.train("ddpm-quick", tmp_path / "run", overrides=plain | change, trust_code=True)

    assert not (tmp_path / "run").exists()


def test_the_second_stage_is_tried_before_the_first_is_trained(tmp_path, tiny):
    tiny |= {"stages": [{}, {"optimizers": {"unet": {"class": "torch.optim.SparseAdam"}}}]}

    with pytest.raises(ValueError, match="cannot be torch.optim.SparseAdam"):
        genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny)

    assert not (tmp_path / "run").exists()


def test_the_padding_that_is_advised_fits(tmp_path, tiny):
    change = {"components.unet": unet(4), "data.padding": 2, "training.max_steps": 1}

    assert genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny | change).is_dir()
