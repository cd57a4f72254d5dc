"""The networks of a repository, as one image passes through them: `network`."""

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from genhub import plotting
from genhub.data import Shape
from genhub.evaluation.sampling import sample
from genhub.figures.subject import Subject, load_any, pixels

MAX_BLOCKS = 16  # of a network; of a larger one, whole parts are blocks
ACTIVATIONS = {  # name of a function -> what a block is called
    "gelu": "GELU",
    "leaky_relu": "leaky ReLU",
    "mish": "Mish",
    "relu": "ReLU",
    "selu": "SELU",
    "sigmoid": "sigmoid",
    "silu": "SiLU",
    "softmax": "softmax",
    "softplus": "softplus",
    "tanh": "tanh",
}


@dataclass
class Call:
    """A call of a module, or of an activation function.

    Args:
        depth: number of calls of modules within which it happens.
        inputs, outputs: shapes without the batch; () of what is no tensor.
        parameters: number of those that no earlier call has used.
        has_parameters: whether it uses any.
        has_parts: whether other modules are called within it.
    """

    name: str
    depth: int
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    parameters: int = 0
    has_parameters: bool = False
    has_parts: bool = False


def network(repo: str) -> bytes:
    """Draws the layers of each network, with their parameters and the shapes they hand on.

    They are traced in one call, and stand in its order; skip connections, and parts that it does not use, are not
    drawn. Activation functions join the layer before them. Of a large network, whole parts are drawn. A network that
    the repository does not hold, such as a discriminator, is built from the recipe.
    """
    subject = load_any(repo)
    networks = {name: part for name, part in subject.pipeline.components.items() if isinstance(part, nn.Module)}
    with Recorder(networks) as recorder:
        images = run_once(subject)
    others = dict(build_others(subject, images))
    with Recorder(others) as further:
        for part in others.values():
            call_with_image(part, 2 * images - 1)
    networks |= others
    columns = {}
    for name, made in (recorder.calls | further.calls).items():
        total = sum(parameter.numel() for parameter in networks[name].parameters())
        columns[f"{name}: {type(networks[name]).__name__}\n{total:,} parameters"] = blocks_of(made)
    title = (
        f"{subject.name}: layers in the order of their calls, what they hand on for one image, and their parameters"
    )
    return plotting.chart_png(plotting.diagram(columns, title))


def run_once(subject: Subject) -> torch.Tensor:
    """Passes one image through all networks: a black one that is encoded and decoded, a held-out one that is
    classified, or one that is generated in one step; returns it, (1, C, H, W) in [0, 1]."""
    pipeline: Any = subject.pipeline
    capabilities = subject.capabilities
    if capabilities.can("classify"):
        image = subject.images(subject.held_out, 1).images / 255
        pipeline(image)
        return image
    if not capabilities.can("encode"):
        steps = {"num_inference_steps": 1} if "num_inference_steps" in capabilities.sampling_arguments else {}
        return sample(pipeline, 1, 0, arguments=steps)
    config = pipeline.network.config
    size = config["sample_size"]
    image = torch.zeros(1, config["in_channels"], *((size, size) if isinstance(size, int) else size))
    labels = {"class_labels": 0} if capabilities.num_classes is not None else {}
    return pixels(pipeline.reconstruct(image, output_type="pt", **labels))


def build_others(subject: Subject, images: torch.Tensor) -> Iterator[tuple[str, nn.Module]]:
    """Yields the networks of the recipe that are not in the pipeline, with random weights."""
    channels, height, width = images.shape[1:]
    shape = Shape(channels, height, width)
    for name, spec in subject.recipe.components.items():
        if name not in subject.pipeline.components and issubclass(spec.cls, nn.Module):
            with torch.random.fork_rng():
                part = cast(nn.Module, subject.recipe.build_component(name, shape))
            yield name, part.to(subject.pipeline.device).eval()


@torch.no_grad()
def call_with_image(part: nn.Module, image: torch.Tensor):
    """Calls a network that takes an image (1, C, H, W), and a class if it knows any."""
    takes_class = "class_labels" in inspect.signature(part.forward).parameters
    is_conditional = takes_class and getattr(part, "config", {}).get("num_class_embeds")
    device = next(part.parameters()).device
    part(image.to(device), **({"class_labels": torch.zeros(1, dtype=torch.long).to(device)} if is_conditional else {}))


class Recorder(TorchFunctionMode):
    """Records what is called within networks for as long as its block lasts: of each network its first call, or the
    calls that its methods make.

    Attributes:
        calls: name of a network -> calls of its modules and of activation functions, in order.
    """

    def __init__(self, networks: dict[str, nn.Module]):
        super().__init__()
        self.networks, self.calls = networks, {}
        self.pending: list[Call] = []  # calls of modules that have not returned, the innermost last
        self.name: str | None = None  # of the network that is called, or was called last
        self.done: set[str] = set()  # whose own call has returned
        self.counted: set[int] = set()  # parameters

    def __enter__(self):
        self.hooks = []
        for name, part in self.networks.items():
            for module in part.modules():
                self.hooks.append(module.register_forward_pre_hook(partial(self.enter, name), with_kwargs=True))
                self.hooks.append(module.register_forward_hook(partial(self.leave, name)))
        return super().__enter__()

    def __exit__(self, *error):
        for hook in self.hooks:
            hook.remove()
        super().__exit__(*error)

    def enter(self, name: str, module: nn.Module, inputs: tuple, options: dict[str, Any]):
        """Opens a call."""
        self.name = name
        if name in self.done:
            return
        values = [*inputs, *options.values()]
        used = [*module.parameters(), *(value for value in values if isinstance(value, nn.Parameter))]
        call = Call(type(module).__name__, len(self.pending), shape_in(values))
        call.parameters = sum(parameter.numel() for parameter in used if id(parameter) not in self.counted)
        call.has_parameters = bool(used)
        if self.pending:
            self.pending[-1].has_parts = True
        self.calls.setdefault(name, []).append(call)
        self.pending.append(call)

    def leave(self, name: str, module: nn.Module, inputs: tuple, output: Any):
        """Closes a call."""
        if name in self.done:
            return
        self.pending.pop().outputs = shape_in([output])
        self.counted.update(map(id, module.parameters()))
        if module is self.networks[name]:
            self.done.add(name)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        word = ACTIVATIONS.get(getattr(func, "__name__", "").rstrip("_"))
        is_named = self.pending and not self.pending[-1].has_parameters  # by the module that calls it
        if word and not is_named and self.name is not None and self.name not in self.done:
            self.calls[self.name].append(Call(word, len(self.pending)))
        return func(*args, **(kwargs or {}))


def shape_in(values: Sequence[Any]) -> tuple[int, ...]:
    """Returns the shape, without the batch, of the first tensor in `values`, or in what they hold; () without one."""
    for value in values:
        if isinstance(value, torch.Tensor):
            return tuple(value.shape[1:])
        if isinstance(value, dict | list | tuple):
            found = shape_in([*value.values()] if isinstance(value, dict) else value)
            if found:
                return found
    return ()


def blocks_of(calls: list[Call]) -> list[plotting.Block]:
    """Returns the input and the blocks of a network, of its smallest parts if there are at most `MAX_BLOCKS`."""
    first, *finer = (count_alike(merge_calls(calls, depth)) for depth in range(1 + max(call.depth for call in calls)))
    few = [blocks for blocks in finer if len(blocks) <= MAX_BLOCKS]
    return [plotting.Block("input", calls[0].inputs), *(few[-1] if few else first)]


def merge_calls(calls: list[Call], depth: int) -> list[Call]:
    """Returns the calls at `depth`, and those above it without parts. What has no parameters, or only normalises,
    joins the call before if it hands on as many values; what has none and gives them another shape is left out."""
    merged: list[Call] = []
    for call in calls:
        if call.depth > depth or (call.depth < depth and call.has_parts):
            continue
        before = merged[-1] if merged else None
        shape = call.outputs or (before.outputs if before else ())
        is_small = not call.has_parameters or "Norm" in call.name
        if before is None or not is_small or math.prod(shape) != math.prod(before.outputs):
            merged += [call] * bool(call.outputs)
        elif call.has_parameters or shape == before.outputs:
            name, parameters = f"{before.name}, {call.name}", before.parameters + call.parameters
            merged[-1] = replace(before, name=name, outputs=shape, parameters=parameters)
    return merged


def count_alike(calls: list[Call]) -> list[plotting.Block]:
    """Returns a block for each call, one for several that follow one another and are alike."""
    blocks = []
    for call, group in groupby(calls, lambda call: replace(call, inputs=(), has_parts=False)):
        count, name, note = len([*group]), call.name, ""
        if call.has_parameters:
            note = f"{call.parameters:,} parameters" if call.parameters else "shared parameters"
        if count > 1:
            name, note = f"{count} x {name}", f"{note} each" if call.parameters else note
        blocks.append(plotting.Block(name, call.outputs, note))
    return blocks
