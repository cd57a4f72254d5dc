"""How fast the book's autoencoders and GANs train here and in Keras, in turns in one run, with the same batch on the
same cores: `pip install -e ".[keras]" && python scripts/benchmark_keras.py --data FASHION_MNIST`.

Keras computes in float32; genhub too, unless the line says bf16. Beside both, what an autoencoder's layers take
without all else: each layer with weights forwards and backwards by itself, and a fused pass of Adam - no activations,
loss, batches or log."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import torch
from benchmarks.turns import in_turns
from torch import nn

import genhub
from genhub import recipes
from genhub.data import DataConfig, load
from genhub.data.images import Images, Shape
from genhub.training.arithmetic import flush_denormals
from genhub.utils.environment import device_name

BATCH_SIZE = 32


def stacked(keras):
    """The notebook's stacked autoencoder."""
    layers = keras.layers
    return keras.Sequential(
        [
            *(layers.Flatten(), layers.Dense(100, activation="relu"), layers.Dense(30, activation="relu")),
            *(layers.Dense(100, activation="relu"), layers.Dense(28 * 28), layers.Reshape([28, 28])),
        ]
    )


def convolutional(keras):
    """The notebook's convolutional autoencoder."""
    layers = keras.layers
    encoder = [layers.Reshape([28, 28, 1])]
    for channels in (16, 32, 64):
        encoder += [layers.Conv2D(channels, 3, padding="same", activation="relu"), layers.MaxPool2D(pool_size=2)]
    encoder += [layers.Conv2D(30, 3, padding="same", activation="relu"), layers.GlobalAvgPool2D()]
    return keras.Sequential(
        [
            *encoder,
            *(layers.Dense(3 * 3 * 16), layers.Reshape((3, 3, 16))),
            layers.Conv2DTranspose(32, 3, strides=2, activation="relu"),
            layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu"),
            *(layers.Conv2DTranspose(1, 3, strides=2, padding="same"), layers.Reshape([28, 28])),
        ]
    )


def recurrent(keras):
    """The notebook's recurrent autoencoder."""
    layers = keras.layers
    return keras.Sequential(
        [
            *(layers.LSTM(100, return_sequences=True), layers.LSTM(30)),
            *(layers.RepeatVector(28), layers.LSTM(100, return_sequences=True), layers.Dense(28)),
        ]
    )


def dense_game(keras):
    """The book's dense generator and discriminator."""
    dense, he = keras.layers.Dense, {"activation": "relu", "kernel_initializer": "he_normal"}
    generator = [dense(100, input_shape=[30], **he), dense(150, **he), dense(28 * 28, activation="sigmoid")]
    discriminator = [keras.layers.Flatten(), dense(150, **he), dense(100, **he), dense(1, activation="sigmoid")]
    return keras.Sequential([*generator, keras.layers.Reshape([28, 28])]), keras.Sequential(discriminator)


def convolutional_game(keras):
    """The book's DCGAN."""
    layers, leaky = keras.layers, keras.layers.LeakyReLU
    generator = [
        *(layers.Dense(7 * 7 * 128, input_shape=[100]), layers.Reshape([7, 7, 128]), layers.BatchNormalization()),
        layers.Conv2DTranspose(64, kernel_size=5, strides=2, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.Conv2DTranspose(1, kernel_size=5, strides=2, padding="same", activation="tanh"),
    ]
    discriminator = [
        *(layers.Conv2D(64, kernel_size=5, strides=2, padding="same", activation=leaky(0.2)), layers.Dropout(0.4)),
        *(layers.Conv2D(128, kernel_size=5, strides=2, padding="same", activation=leaky(0.2)), layers.Dropout(0.4)),
        *(layers.Flatten(), layers.Dense(1, activation="sigmoid")),
    ]
    return keras.Sequential(generator), keras.Sequential(discriminator)


PAIRS = {
    "stacked-ae": (stacked, 3000),
    "conv-ae": (convolutional, 300),
    "recurrent-ae": (recurrent, 150),
    "gan": (dense_game, 1000),
    "dcgan": (convolutional_game, 100),
}


def by_keras(build: Callable, steps: int, pixels) -> Callable[[], float]:
    """Returns what trains the Keras model for `steps` steps, and returns images per second."""
    import tf_keras as keras  # pyright: ignore[reportMissingImports]  # of the extra `keras`

    model = build(keras)
    model.compile(loss="mse", optimizer=keras.optimizers.Nadam(learning_rate=1e-3))
    model.fit(pixels[:320], pixels[:320], batch_size=BATCH_SIZE, verbose=0)

    def run() -> float:
        count = min(steps * BATCH_SIZE, len(pixels))
        start = time.perf_counter()
        model.fit(pixels[:count], pixels[:count], batch_size=BATCH_SIZE, verbose=0)
        return count / (time.perf_counter() - start)

    return run


def game_by_keras(build: Callable, steps: int, pixels) -> Callable[[], float]:
    """Returns what plays the book's game for `steps` steps, by the book's loop, and returns images per second."""
    import tensorflow as tf
    import tf_keras as keras  # pyright: ignore[reportMissingImports]  # of the extra `keras`

    generator, discriminator = build(keras)
    gan = keras.Sequential([generator, discriminator])
    discriminator.compile(loss="binary_crossentropy", optimizer="rmsprop")
    discriminator.trainable = False
    gan.compile(loss="binary_crossentropy", optimizer="rmsprop")
    images = pixels if build is dense_game else 2 * pixels.reshape(-1, 28, 28, 1) - 1
    batches = tf.data.Dataset.from_tensor_slices(images[:10_000]).shuffle(1000)
    batches = batches.batch(BATCH_SIZE, drop_remainder=True).prefetch(1).repeat()

    def run(steps: int = steps) -> float:
        start = time.perf_counter()
        for real in batches.take(steps):
            noise = tf.random.normal(shape=[BATCH_SIZE, generator.input_shape[1]])
            both = tf.concat([generator(noise), real], axis=0)
            discriminator.train_on_batch(both, tf.constant([[0.0]] * BATCH_SIZE + [[1.0]] * BATCH_SIZE))
            noise = tf.random.normal(shape=[BATCH_SIZE, generator.input_shape[1]])
            gan.train_on_batch(noise, tf.constant([[1.0]] * BATCH_SIZE))
        return steps * BATCH_SIZE / (time.perf_counter() - start)

    run(10)
    return run


def by_genhub(recipe: str, steps: int, source: str, changes: dict) -> Callable[[], float]:
    """Returns what trains the recipe for `steps` steps, and returns images per second of its loop."""
    overrides = {"data.source": source, "training.max_steps": steps, "training.batch_size": BATCH_SIZE}
    overrides |= {"training.validate_every": 0, "training.checkpoint_every": 0, **changes}
    overrides |= {"training.sample_every": 0, "evaluation.every": 0}

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            made = genhub.train(recipe, Path(folder) / "run", overrides=overrides)
            return json.loads((made / "metrics.json").read_text(encoding="utf-8"))["training"]["images_per_second"]

    return run


def by_layers_alone(recipe: str, steps: int, changes: dict) -> Callable[[], float]:
    """Returns what runs only the layers with weights of the recipe's model, and a fused Adam, for `steps` steps, and
    returns images per second."""
    model = recipes.load(recipe).build_components(Shape(1, 28, 28))["autoencoder"]
    layout = torch.channels_last if changes.get("training.channels_last") else torch.preserve_format
    in_bf16 = torch.autocast("cpu", torch.bfloat16, enabled=changes.get("training.mixed_precision") == "bf16")
    work: list[tuple] = []  # of each layer: itself, what it is given, and a gradient of what it gives

    def remember(layer: nn.Module, inputs: tuple, output: torch.Tensor | tuple):
        output = output[0] if isinstance(output, tuple) else output
        given = inputs[0].detach().requires_grad_(len(work) > 0)  # images need no gradient
        work.append((layer, given, torch.randn_like(output)))

    layers = [layer for layer in model.to(memory_format=layout).modules() if [*layer.parameters(recurse=False)]]
    hooks = [layer.register_forward_hook(remember) for layer in layers]
    with in_bf16:
        model(torch.rand(BATCH_SIZE, 1, 28, 28).to(memory_format=layout))
    for hook in hooks:
        hook.remove()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def run(steps: int = steps) -> float:
        start = time.perf_counter()
        with flush_denormals():  # as training does
            for _ in range(steps):
                for layer, given, slope in work:
                    with in_bf16:
                        output = layer(given)
                    (output[0] if isinstance(output, tuple) else output).backward(slope)
                    given.grad = None
                optimizer.step()
                optimizer.zero_grad()
        return steps * BATCH_SIZE / (time.perf_counter() - start)

    run(10)
    return run


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sample", help="data set to train on")
    parser.add_argument("--only", nargs="*", default=list(PAIRS), choices=list(PAIRS), help="recipes to compare")
    parser.add_argument("--rounds", type=int, default=3, help="how often each runs (medians are printed)")
    options = parser.parse_args()
    print(f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    images = load(DataConfig(source=options.data, val_size=500))
    assert isinstance(images, Images)  # a set that fits into memory
    pixels = (images.images[:, 0].float() / 255).numpy()
    for recipe in options.only:
        build, steps = PAIRS[recipe]
        changes = {"training.channels_last": True, "training.mixed_precision": "bf16"} if recipe == "conv-ae" else {}
        in_keras = game_by_keras if "gan" in recipe else by_keras
        runs = {"Keras": in_keras(build, steps, pixels), "genhub": by_genhub(recipe, steps, options.data, changes)}
        if "gan" not in recipe:
            runs["layers"] = by_layers_alone(recipe, steps, changes)
        rates = in_turns(runs, options.rounds)
        config = recipes.load(recipe, changes).training
        how = " (bf16)" * (config.mixed_precision == "bf16") + " (channels last)" * config.channels_last
        line = f"  {recipe:14} Keras {rates['Keras']:8,.0f} images/s, genhub{how} {rates['genhub']:8,.0f} images/s, "
        line += f"{rates.times('genhub', 'Keras'):.2f} x"
        if "layers" in runs:
            line += f"; layers alone {rates['layers']:8,.0f} images/s, {rates.times('layers', 'Keras'):.2f} x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
