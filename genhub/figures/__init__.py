"""Pictures of a repository, each a function of its own: `genhub figure NAME REPO`. They read and measure;
`genhub.plotting` draws.

A function takes the repository and any of `count`, `seed`, `steps` and `against`. It returns a PNG file, or a GIF file
if it is among `ANIMATED`; one of `CAN_ANIMATE` returns either, as `is_animated` says. The first sentence of its
docstring is its help line.
"""

FIGURES: dict[str, str] = {  # name -> module:function, imported on use
    "activations": "genhub.figures.autoencoders:activations",
    "arithmetic": "genhub.figures.gan:arithmetic",
    "classes": "genhub.figures.samples:classes",
    "code-drift": "genhub.figures.drift:code_drift",
    "codes": "genhub.figures.autoencoders:codes",
    "denoising": "genhub.figures.autoencoders:denoising",
    "embeddings": "genhub.figures.embeddings:embeddings",
    "forward-process": "genhub.figures.diffusion:forward_process",
    "game": "genhub.figures.game:game",
    "growth": "genhub.figures.gan:growth",
    "interpolation": "genhub.figures.vae:interpolation",
    "latent-interpolation": "genhub.figures.gan:latent_interpolation",
    "manifold": "genhub.figures.vae:manifold",
    "milestones": "genhub.figures.training:milestones",
    "neighbours": "genhub.figures.autoencoders:neighbours",
    "network": "genhub.figures.network:network",
    "noise-inputs": "genhub.figures.noise:noise_inputs",
    "noise-schedule": "genhub.figures.diffusion:noise_schedule",
    "one-epoch": "genhub.figures.training:one_epoch",
    "penalties": "genhub.figures.penalties:penalties",
    "plane": "genhub.figures.points:plane",
    "prior-samples": "genhub.figures.samples:prior_samples",
    "progress": "genhub.figures.training:progress",
    "reconstruction-progress": "genhub.figures.training:reconstruction_progress",
    "reconstructions": "genhub.figures.autoencoders:reconstructions",
    "samplers": "genhub.figures.evaluation:samplers",
    "sampling-time": "genhub.figures.evaluation:sampling_time",
    "style-mixing": "genhub.figures.gan:style_mixing",
    "training-time": "genhub.figures.training:training_time",
    "trajectory": "genhub.figures.diffusion:trajectory",
    "units": "genhub.figures.autoencoders:units",
}
ANIMATED = {"progress", "reconstruction-progress"}
CAN_ANIMATE = {"trajectory"}
