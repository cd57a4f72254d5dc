"""The networks of a pipeline as ONNX graphs that a page calls, each with a dynamic batch, checked against PyTorch."""

import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import nn

from genhub.repository.format import RepositoryError
from genhub.utils.files import atomic_write
from genhub.utils.reading import one_line

TOLERANCE = 1e-4  # of a graph in float32, relative to the largest value of the network if that is above 1
OPSET = 18
BATCH = 3  # of the inputs that a graph is checked with; it is traced with 2


class Graph(NamedTuple):
    """One function of a pipeline's networks.

    Args:
        function: tensors -> one tensor, in the order of `inputs`.
        inputs: name -> a function that makes it for a batch.
        output: name of what it returns.
    """

    function: Callable[..., torch.Tensor]
    inputs: dict[str, Callable[[int], torch.Tensor]]
    output: str


class Traced(nn.Module):
    """A function of networks as a module, so that their weights are found."""

    def __init__(self, graph: Graph, networks: list[nn.Module]):
        super().__init__()
        self.graph, self.networks = graph, nn.ModuleList(networks)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.graph.function(*inputs)


def write_graph(path: Path, graph: Graph, pipeline: DiffusionPipeline) -> float:
    """Writes a graph to `path` and returns its largest difference from PyTorch.

    Raises:
        RepositoryError: a network has an operation that ONNX does not, or the graph differs from PyTorch.
    """
    networks = [part.eval() for part in pipeline.components.values() if isinstance(part, nn.Module)]
    module = Traced(graph, networks).eval()
    example = tuple(make(2) for make in graph.inputs.values())
    axes = tuple({0: torch.export.Dim("batch", min=1, max=4096)} for _ in example)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns about packages that no network needs
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                example,
                input_names=list(graph.inputs),
                output_names=[graph.output],
                dynamic_shapes={"inputs": axes},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise RepositoryError(f"{path.stem} cannot run on a page: {_reason(error)}.") from error
    content = program.model_proto.SerializeToString()  # pyright: ignore
    difference = _difference(content, graph)
    if not difference <= TOLERANCE:
        raise RepositoryError(f"{path.stem} cannot run on a page: its graph differs from PyTorch by {difference:.2g}.")
    atomic_write(path, content)
    return difference


def _reason(error: BaseException) -> str:
    """Returns what the first of the errors that led to this one says, or the operator that it names."""
    while error.__cause__ is not None:
        error = error.__cause__
    operator = re.search(r"op='([^']+)'", str(error))
    return f"ONNX has no {operator[1]}" if operator else one_line(error)


def _difference(content: bytes, graph: Graph) -> float:
    """Returns the largest difference between a graph and its function, relative to values above 1."""
    import onnxruntime  # pyright: ignore

    inputs = {name: make(BATCH) for name, make in graph.inputs.items()}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (got,) = session.run([graph.output], {name: value.numpy() for name, value in inputs.items()})
    with torch.no_grad():
        expected = graph.function(*inputs.values()).numpy()
    return float(np.abs(got - expected).max() / max(1.0, np.abs(expected).max()))
