"""The repository that samples as the book does, from a run that averages its weights."""

import pytest
import torch
from book_sampling import write_repository

from genhub import AutoPipeline, train


def test_it_holds_the_weights_that_were_trained_and_takes_all_steps_without_clipping(tiny, tmp_path):
    run = train("ddpm-quick", tmp_path / "run", overrides=tiny | {"training.ema": {"unet": 0.9}})

    pipe = AutoPipeline.from_pretrained(write_repository(run, tmp_path / "book"))

    state = torch.load(sorted(run.glob("training/checkpoints/*/state.pt"))[-1], weights_only=True)
    averaged, trained = AutoPipeline.from_pretrained(run).unet.state_dict(), state["modules"]["unet"]
    assert all(torch.equal(value, trained[name]) for name, value in pipe.unet.state_dict().items())
    assert not all(torch.equal(value, trained[name]) for name, value in averaged.items())
    assert (pipe.config.num_inference_steps, pipe.scheduler.config.clip_sample) == (20, False)


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be the folder of a run with a checkpoint"):
        write_repository(tmp_path, tmp_path / "book")
