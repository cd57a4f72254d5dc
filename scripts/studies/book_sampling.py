"""The book samples its diffusion model in another way than we do: from the weights themselves in place of their
average, without clipping x_0, in all 4,000 steps. Writes a repository that does so, to be judged like any other.

    python scripts/studies/book_sampling.py runs/ddpm runs/ddpm-book
    genhub evaluate runs/ddpm-book --data FASHION_MNIST --count 1000
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from genhub.repository.load import AutoPipeline
from genhub.repository.save import save_repo
from genhub.training.checkpoint import list_checkpoints
from genhub.training.restore import STATE


def write_repository(run: Path, output: Path) -> Path:
    """Writes the repository of a finished `run` of `ddpm` into `output`, with the weights of its newest checkpoint.

    Raises:
        ValueError: the run has no checkpoint.
    """
    checkpoints = list_checkpoints(run / STATE / "checkpoints")
    if not checkpoints:
        raise ValueError(f"{run} must be the folder of a run with a checkpoint.")
    pipeline: Any = AutoPipeline.from_pretrained(run)
    state = torch.load(checkpoints[0] / "state.pt", map_location="cpu", weights_only=True)
    pipeline.unet.load_state_dict(state["modules"]["unet"])
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.register_modules(scheduler=scheduler)
    pipeline.register_to_config(num_inference_steps=len(scheduler))
    return save_repo(pipeline, output, {"recipe.yaml": (run / "recipe.yaml").read_text(encoding="utf-8")})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run of `ddpm`")
    parser.add_argument("output", type=Path, help="folder of the repository")
    options = parser.parse_args()
    print(write_repository(options.run, options.output))
