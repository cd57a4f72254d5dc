"""How fast training, data and evaluation are, as ratios measured in turns (A/B/A/B) in one run:
`python scripts/benchmark.py --help`."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from genhub import data
from genhub.commands.doctor import measure_flops
from genhub.recipes.recipe import Recipe, load_recipe
from genhub.training.loop import Loop, attention_backend
from genhub.training.run import make_averages
from genhub.utils.cache import cache_folder
from genhub.utils.environment import device_name


class Turns(dict):
    """The median seconds (or rates) of each contestant, and how many times those of another one it takes: the median
    over rounds of the ratio within a round, which a noisy neighbour of some seconds does not move."""

    def __init__(self, results: dict[str, list[float]]):
        super().__init__({name: statistics.median(values) for name, values in results.items()})
        self.results = results

    def times(self, name: str, base: str) -> float:
        return statistics.median(a / b for a, b in zip(self.results[name], self.results[base], strict=True))


def in_turns(contestants: dict[str, Callable[[], float]], rounds: int) -> Turns:
    """Runs all contestants in turns; the first round warms up."""
    results = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, contestant in contestants.items():
            value = contestant()
            if turn:
                results[name].append(value)
    return Turns(results)


class Training:
    """One model in training, by the loop or bare; `step()` trains a few batches and returns seconds per step."""

    def __init__(self, recipe: Recipe, images: data.Images, precision: str, steps: int):
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        self.config, self.steps = recipe.training, steps
        self.accelerator = Accelerator(mixed_precision=precision)
        torch.manual_seed(0)
        components = recipe.build_components(images.shape)
        self.unet = components["unet"].to(self.accelerator.device)
        if self.config.channels_last:
            self.unet = self.unet.to(memory_format=torch.channels_last)
        self.objective = recipe.stages[0].objective.build(**components)
        optimizer = recipe.stages[0].optimizers["unet"][0].build(self.unet.parameters())
        self.objective.modules["unet"], self.optimizer = self.accelerator.prepare(self.unet, optimizer)
        self.images = images
        self.batches = images.batches(self.config.batch_size, 0, self.config.batch_size, 0, self.accelerator.device)
        self.averages = make_averages({"unet": self.unet}, self.config)
        self.loop = Loop(self.accelerator, {"unet": self.unet}, {}, lambda r: None, lambda loop: None, [])
        self.bar = tqdm(disable=True)
        self.scheduler = components["scheduler"]

    def with_average(self) -> float:
        """Trains by genhub's loop as the recipe says: with the moving average of the weights."""
        self.loop.averages = self.averages
        seconds = self.by_loop()
        self.loop.averages = {}
        return seconds

    def by_loop(self) -> float:
        """Trains by genhub's loop: batches, keyed noise, gradient norm, checks, records."""
        start, end = time.perf_counter(), self.loop.progress.step + self.steps
        optimizers = {"unet": self.optimizer}
        self.loop.run(self.objective, optimizers, {}, self.batches, self.config, end, self.bar)
        return (time.perf_counter() - start) / self.steps

    def bare(self) -> float:
        """Trains by nothing but forward, backward and step, on one batch and one draw of noise that are there
        already."""
        unet, optimizer, size = self.objective.modules["unet"], self.optimizer.optimizer, self.config.batch_size
        x_0 = self.images.batch(slice(0, size))["sample"].to(self.accelerator.device)
        eps, t = torch.randn_like(x_0), torch.randint(4000, (size,), device=x_0.device)
        x_t = self.scheduler.add_noise(x_0, eps, t)
        start = time.perf_counter()
        for _ in range(self.steps):
            with attention_backend(self.accelerator):
                loss = torch.nn.functional.mse_loss(unet(x_t, t).sample.float(), eps)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
        return (time.perf_counter() - start) / self.steps

    def own_work(self) -> float:
        """Returns what share of the loop's time passes outside forward, backward and step: its cost, measured without
        the noise between two turns."""
        inside = 0.0

        def timed(action: Callable) -> Callable:
            def run(*positional, **named):
                nonlocal inside
                start = time.perf_counter()
                result = action(*positional, **named)
                inside += time.perf_counter() - start
                return result

            return run

        unet = self.objective.modules["unet"]
        places = [
            (unet, "forward"),
            (self.accelerator, "backward"),
            (self.optimizer.optimizer, "step"),
        ]
        kept = [(place, name, getattr(place, name)) for place, name in places]
        for place, name, action in kept:
            setattr(place, name, timed(action))
        total = self.by_loop() * self.steps
        for place, name, action in kept:
            setattr(place, name, action)
        return (total - inside) / inside

    def flops(self) -> int:
        """Returns the floating-point operations of one training step, forward and backward."""
        size = self.config.batch_size
        x = self.images.batch(slice(0, size))["sample"].to(self.accelerator.device)
        with FlopCounterMode(display=False) as counter, attention_backend(self.accelerator):
            self.unet(x, torch.zeros(size, device=x.device)).sample.mean().backward()
        self.unet.zero_grad()
        return counter.get_total_flops()


class UnconditionalExample:
    """What diffusers' examples/unconditional_image_generation/train_unconditional.py does at its defaults: each image
    decoded by pillow when it is wanted, a `DataLoader`, float32, its noise schedule, AdamW, clipping."""

    def __init__(self, recipe: Recipe, images: data.Images, dataset, steps: int):
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator()
        unet = recipe.build_components(images.shape)["unet"]
        optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
        size = (images.shape.width, images.shape.height)

        def transform(examples):
            pictures = [image.resize(size) for image in examples["image"]]
            pixels = [
                torch.from_numpy(np.array(p)).float().div(255).sub(0.5).div(0.5).reshape(-1, *size) for p in pictures
            ]
            return {"input": pixels}

        loader = DataLoader(dataset.with_transform(transform), batch_size=recipe.training.batch_size, shuffle=True)
        self.unet, self.optimizer, self.loader = accelerator.prepare(unet, optimizer, loader)
        self.accelerator, self.scheduler, self.steps = accelerator, DDPMScheduler(1000), steps
        self.batches = iter(self.loader)

    def step(self) -> float:
        start = time.perf_counter()
        for _ in range(self.steps):
            batch = next(self.batches, None)
            if batch is None:
                self.batches = iter(self.loader)
                batch = next(self.batches)
            clean = batch["input"]
            noise = torch.randn(clean.shape)
            t = torch.randint(0, 1000, (len(clean),)).long()
            loss = torch.nn.functional.mse_loss(
                self.unet(self.scheduler.add_noise(clean, noise, t), t).sample.float(), noise
            )
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.unet.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            loss.item()
        return (time.perf_counter() - start) / self.steps


def benchmark_data(source: str, rounds: int):
    """Prints how long it takes to decode a data set by `datasets`, by us, and from our cache."""
    from genhub.data.sources import open_dataset

    config = data.DataConfig(source=source, val_size=0)
    folder = data.source_folder(config)
    dataset = open_dataset(folder, "train", config)

    def one_by_one() -> float:
        start = time.perf_counter()
        for row in dataset:
            np.asarray(row["image"])
        return time.perf_counter() - start

    def decoded() -> float:
        for path in (cache_folder() / "images").glob("*.safetensors"):
            path.unlink()
        start = time.perf_counter()
        data.load(config)
        return time.perf_counter() - start

    def cached() -> float:
        start = time.perf_counter()
        data.load(config)
        return time.perf_counter() - start

    seconds = in_turns({"one by one": one_by_one, "decoded": decoded, "cached": cached}, rounds)
    base = seconds["one by one"]
    print(f"\nData: {len(dataset):,} images of {source}")
    print(f"  `for row in datasets`   {base:6.2f} s")
    print(f"  load, first time        {seconds['decoded']:6.2f} s   {seconds.times('one by one', 'decoded'):5.1f} x")
    print(f"  load, from the cache    {seconds['cached']:6.2f} s   {seconds.times('one by one', 'cached'):5.1f} x")


def benchmark_evaluation(source: str, recipe: Recipe, rounds: int):
    """Prints how long the figures of 10,000 generated images take, and what a figure costs while training."""
    from genhub.evaluation.features import pinned_spaces
    from genhub.evaluation.generation import Evaluator
    from genhub.evaluation.monitor import QualityMonitor
    from genhub.evaluation.references import noisy
    from genhub.evaluation.sampling import Sampler

    config = data.DataConfig(source=source, val_size=500)
    train, held_out, test = (data.load(config, split) for split in ("train", "val", "test"))
    images = noisy(train.choose(10_000, 0).images, 5)
    spaces = list(pinned_spaces())
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        spaces[0](images)
        rates.append(len(images) / (time.perf_counter() - start))
    print(f"\nEvaluation: {len(images):,} images against {len(test):,} test and {len(train):,} training images")
    print(f"  features                {statistics.median(rates):8,.0f} images/s (best {max(rates):,.0f})")
    for turn in ("first time", "reference cached"):
        start = time.perf_counter()
        yardstick = Evaluator(train, test, spaces)
        yardstick.judge(images)
        yardstick.memorisation(images)
        print(f"  all figures but CAS     {time.perf_counter() - start:8.1f} s, {turn}")

    training = Training(recipe, held_out, recipe.training.mixed_precision, steps=4)
    training.with_average()
    step = training.with_average()
    pipeline = recipe.build_pipeline(recipe.build_components(train.shape))
    watch, watched = QualityMonitor(train, held_out), recipe.evaluation
    sampler = Sampler(pipeline, (1, 28, 28), 0, 64, arguments=watched.arguments, is_quiet=True)
    start = time.perf_counter()
    drawn, _ = sampler.draw(watched.count)
    watch(drawn)
    took = time.perf_counter() - start
    share = took / (watched.every * step)
    print(
        f"  while training          {took:8.1f} s for {watched.count} images every {watched.every} steps of "
        f"{step:.2f} s: {100 * share:.1f} % of `{recipe.name}`"
    )


def benchmark_generation(rounds: int, batch_size: int = 250):
    """Prints how many images a second GAN generators make, in batches."""
    from genhub.data import Shape

    print(f"\nGeneration in batches of {batch_size}, by `pipe(output_type='pt')`")
    for name in ("gan", "dcgan", "conditional-dcgan", "progressive-gan", "stylegan"):
        recipe = load_recipe(name)
        pipeline = recipe.build_pipeline(recipe.build_components(Shape(1, 28, 28, tuple("0123456789"))))
        pipeline.generator.eval()
        labels = {"class_labels": 3} if "conditional" in name else {}
        rates = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            for _ in range(4):
                pipeline(batch_size=batch_size, output_type="pt", **labels)
            rates.append(4 * batch_size / (time.perf_counter() - start))
        print(f"  {name:18} {statistics.median(rates[1:]):10,.0f} images/s")


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="ddpm-quick")
    parser.add_argument("--data", default="sample", help="data set to train on and to decode")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contestant runs (medians are printed)")
    parser.add_argument("--steps", type=int, default=4, help="training steps in a turn")
    parser.add_argument(
        "--only", choices=("data", "loop", "example", "evaluation", "generation"), help="measure one thing"
    )
    options = parser.parse_args()
    print(f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as cache:
        import os

        os.environ["GENHUB_CACHE"] = cache
        if options.only in (None, "data"):
            benchmark_data(options.data, options.rounds)
        if options.only in (None, "generation"):
            benchmark_generation(options.rounds)
        recipe = load_recipe(options.recipe)
        if options.only in (None, "evaluation"):
            benchmark_evaluation(options.data, recipe, options.rounds)
        images = data.load(data.DataConfig(source=options.data, val_size=0))
        size = recipe.training.batch_size
        if options.only in (None, "loop"):
            print(f"\nTraining `{options.recipe}`, batch {size}: the loop against a bare forward, backward, step")
            for precision in ("no", "bf16"):
                training = Training(recipe, images, precision, options.steps)
                contestants = {"bare": training.bare, "loop": training.by_loop, "average": training.with_average}
                seconds = in_turns(contestants, options.rounds)
                own = statistics.median(training.own_work() for _ in range(options.rounds))
                rate = training.flops() / seconds["loop"]
                dtype = torch.float32 if precision == "no" else torch.bfloat16
                peak = measure_flops(dtype, training.accelerator.device)
                bare, loop = size / seconds["bare"], size / seconds["loop"]
                print(
                    f"  {'float32' if precision == 'no' else precision:8} bare {bare:.1f} images/s, loop {loop:.1f}: "
                    f"the loop costs {100 * (seconds.times('loop', 'bare') - 1):+.1f} %, "
                    f"with its moving average {100 * (seconds.times('average', 'bare') - 1):+.1f} %, "
                    f"by the clock within it {100 * own:.1f} %; "
                    f"{rate / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s in matrix products, {100 * rate / peak:.0f} %"
                )
        if options.only in (None, "example"):
            from genhub.data.sources import open_dataset

            config = data.DataConfig(source=options.data)
            dataset = open_dataset(data.source_folder(config), "train", config)
            ours = Training(recipe, images, recipe.training.mixed_precision, options.steps)
            theirs = UnconditionalExample(recipe, images, dataset, options.steps)
            seconds = in_turns({"example": theirs.step, "genhub": ours.with_average}, options.rounds)
            print(
                f"\nAgainst the steps of diffusers' train_unconditional.py, same U-Net, batch {size}: "
                f"{size / seconds['example']:.1f} and {size / seconds['genhub']:.1f} images/s, "
                f"{seconds.times('example', 'genhub'):.2f} x"
            )


if __name__ == "__main__":
    main()
