"""Graphs as files of ONNX and of `torch.export`, each run beside PyTorch before anybody sees it."""

import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import nn
from torch.export import ExportedProgram

from genhub.graphs.graph import Graph
from genhub.repository.exported import FILES
from genhub.repository.format import RepositoryError
from genhub.utils.reading import one_line

TOLERANCE = 1e-4  # of float32, relative to the largest value of the network's output, or to 1 if that is less
OPSET = 18
MODEL, HALF, PROGRAM = FILES
BATCHES = (1, 3)  # of the inputs that a file is checked with; a graph is traced with 2
RECURRENT = ("GRU", "LSTM", "RNN")
LARGE = 1e4  # what is above it stays in float32, as float16 ends at 65504
Example = tuple[tuple[torch.Tensor, ...], np.ndarray]
OPERATOR = re.compile(r"OpOverload\(op='([\w.]+)'|\b(aten[.:]+\w+(?:\.\w+)?)")  # in an error of PyTorch's


class Traced(nn.Module):
    """A function of networks as a module, so that their weights are found."""

    def __init__(self, graph: Graph, networks: list[nn.Module]):
        super().__init__()
        self.graph, self.networks = graph, nn.ModuleList(networks)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.graph.function(*inputs)


def to_files(
    name: str, graph: Graph, pipeline: DiffusionPipeline, files: Sequence[str] = (MODEL,), opset: int = OPSET
) -> dict[str, tuple[bytes, float]]:
    """Returns the content of files of a graph, and its largest difference from PyTorch.

    Args:
        name: what an error calls it.
        files: among `MODEL`, of ONNX; `HALF`, the same with weights and arithmetic in float16, but for inputs,
            outputs and what would overflow; and `PROGRAM`, of `torch.export`. Any difference of `HALF` is returned.

    Raises:
        RepositoryError: an operator has no graph, or a file in float32 differs from PyTorch.
    """
    axes = [{i: n for i, n in enumerate(shape) if n == "batch"} for shape in graph.shapes().values()]
    networks = [pipeline.components[part].eval() for part in graph.parts]
    contents: dict[str, tuple[bytes, float]] = {}
    try:
        with torch.no_grad(), _unwarned():
            program, examples = _trace(graph, networks, axes), _reference(graph, networks)
            if PROGRAM in files:
                contents[PROGRAM] = _of_program(program, examples)
            if {MODEL, HALF} & {*files}:
                names: dict[str, Any] = {"input_names": list(graph.inputs), "output_names": [graph.output]}
                model = torch.onnx.export(
                    program, dynamic_shapes={"inputs": axes}, opset_version=opset, verbose=False, **names
                ).model_proto  # pyright: ignore
                contents |= {
                    file: _of_model(name, model, graph, examples, file) for file in (MODEL, HALF) if file in files
                }
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise _refused(name, error) from error
    for file, (_, difference) in contents.items():
        if not difference < (math.inf if file == HALF else TOLERANCE):
            raise RepositoryError(f"{name} cannot be exported: its {file} differs from PyTorch by {difference:.2g}.")
    return contents


def record(graph: Graph, contents: dict[str, tuple[bytes, float]], opset: int = OPSET) -> dict[str, Any]:
    """Returns what `onnx/export.json` says about a graph and its files."""
    files: dict[str, dict[str, Any]] = {
        file: {"bytes": len(content), "difference": difference} for file, (content, difference) in contents.items()
    }
    for file in files.keys() - {PROGRAM}:
        files[file]["opset"] = opset
    return {"inputs": graph.shapes(), "output": graph.output, "files": files}


@contextmanager
def _unwarned() -> Iterator[None]:
    """Keeps back PyTorch's warnings, which are about its own code and packages that no network needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _trace(graph: Graph, networks: list[nn.Module], axes: list[dict[int, Any]]) -> ExportedProgram:
    """Returns the program of a graph with dynamic axes."""
    shapes = tuple(dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC) for dynamic in axes)
    example = tuple(make(2) for make in graph.inputs.values())
    return torch.export.export(Traced(graph, networks).eval(), example, dynamic_shapes={"inputs": shapes})


def _of_program(program: ExportedProgram, examples: list[Example]) -> tuple[bytes, float]:
    """Returns a program as a file, and the largest difference of what it is when it is loaded."""
    content = io.BytesIO()
    torch.export.save(program, content)
    content.seek(0)
    loaded: Any = torch.export.load(content).module()
    return content.getvalue(), _largest_difference(examples, lambda *inputs: loaded(*inputs).numpy())


def _of_model(name: str, model: Any, graph: Graph, examples: list[Example], file: str) -> tuple[bytes, float]:
    """Returns a model of ONNX as a file, and its largest difference.

    Raises:
        RepositoryError: it has an operator that is not ONNX's own.
    """
    if custom := {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain}:
        raise RepositoryError(f"{name} cannot be exported: ONNX has no operator {', '.join(sorted(custom))}.")
    if file == HALF:
        model = _halved(model, _kept_nodes(model, graph, examples))
    content = model.SerializeToString()
    run = _runner(content, graph)
    return content, _largest_difference(examples, lambda *inputs: run([graph.output], inputs)[0])


def _kept_nodes(model: Any, graph: Graph, examples: list[Example]) -> list[str]:
    """Returns the nodes that take or give numbers near the largest of float16; beside a recurrent layer, transposes
    too, as onnxruntime 1.32 dies of a segmentation fault where it fuses one with a product of matrices in float16."""
    from onnx import ValueInfoProto  # pyright: ignore

    seen = type(model)()
    seen.CopyFrom(model)
    names = [output for node in model.graph.node for output in node.output if output]
    seen.graph.output.extend(ValueInfoProto(name=name) for name in names if name != graph.output)
    run, large = _runner(seen.SerializeToString(), graph), set()
    for inputs, _ in examples:
        values = zip(names, run(names, inputs), strict=True)
        large |= {name for name, value in values if value.dtype == np.float32 and not np.all(np.abs(value) < LARGE)}
    is_recurrent = any(node.op_type in RECURRENT for node in model.graph.node)
    kept = {"Transpose"} if is_recurrent else set()
    return [node.name for node in model.graph.node if node.op_type in kept or large & {*node.input, *node.output}]


def _halved(model: Any, kept: list[str]) -> Any:
    """Returns a model of ONNX in float16, but for its inputs and outputs and for the nodes `kept` in float32."""
    from onnx import TensorProto  # pyright: ignore
    from onnxruntime.transformers.float16 import convert_float_to_float16  # pyright: ignore

    model = convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast"}
    in_float32 = {output for node in model.graph.node if node.name in kept for output in node.output}
    for node in casts.values():  # float32 -> float16 -> float32 between two that are kept
        before = casts.get(node.input[0])
        if before and before.input[0] in in_float32 and node.attribute[0].i == TensorProto.FLOAT:
            node.op_type, node.input[0] = "Identity", before.input[0]
            del node.attribute[:]
    return model


def _runner(content: bytes, graph: Graph) -> Callable[[list[str], Sequence[torch.Tensor]], Any]:
    """Returns what runs a model of ONNX: names of outputs, and inputs -> outputs."""
    import onnxruntime  # pyright: ignore

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; a CPU lacks kernels of float16, which it warns about
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda outputs, inputs: session.run(
        outputs, {name: value.numpy() for name, value in zip(graph.inputs, inputs, strict=True)}
    )


def _refused(name: str, error: Exception) -> RepositoryError:
    """Returns the error of a network that cannot be exported: it names the operator, if PyTorch's does."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    for text in map(str, reversed(causes)):
        if found := OPERATOR.search(text):
            return RepositoryError(f"{name} cannot be exported: its operator {found[1] or found[2]} has no graph.")
    return RepositoryError(f"{name} cannot be exported: {one_line(causes[-1])}.")


def _reference(graph: Graph, networks: list[nn.Module]) -> list[Example]:
    """Returns inputs of a graph, and what PyTorch makes of them in float64, so that a difference is the file's."""
    examples = []
    for network in networks:
        network.double()
    try:
        for batch in BATCHES:
            inputs = tuple(make(batch) for make in graph.inputs.values())
            exact = (value.double() if value.is_floating_point() else value for value in inputs)
            examples.append((inputs, graph.function(*exact).numpy()))
    finally:
        for network in networks:
            network.float()
    return examples


def _largest_difference(examples: list[Example], run: Callable[..., np.ndarray]) -> float:
    """Returns the largest difference of a file's results, relative to the largest value, or to 1 if that is less."""
    return max(
        float(np.abs(run(*inputs) - expected).max() / max(1.0, np.abs(expected).max()))
        for inputs, expected in examples
    )
