"""CPU time of an image by Gibbs sampling beside that of the decoder of `vae`: `python scripts/studies/gibbs.py`.

Networks have the sizes of the recipes and are not trained, which changes no time; one thread, batches of 250, medians.
"""

import statistics
import time

import torch

import genhub

BATCH, STEPS, TURNS = 250, 20, 5


def cpu_time(pipeline, **arguments) -> float:
    """Returns the seconds of CPU time of an image."""
    start = time.process_time()
    pipeline(BATCH, output_type="pt", **arguments)
    return (time.process_time() - start) / BATCH


if __name__ == "__main__":
    torch.set_num_threads(1)
    vae, rbm = genhub.VAEPipeline(genhub.DenseVAE().eval()), genhub.BoltzmannPipeline(genhub.DeepBeliefNet().eval())
    rbm.set_progress_bar_config(disable=True)
    turns = [(cpu_time(vae), cpu_time(rbm, num_inference_steps=STEPS)) for _ in range(TURNS + 1)][1:]
    decoder, chain = (1000 * statistics.median(column) for column in zip(*turns, strict=True))
    print(f"vae {decoder:.4f} ms an image, rbm {chain / STEPS:.4f} ms a step of Gibbs sampling")
