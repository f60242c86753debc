"""From an ONNX model to a network.

Weights are read exactly and all arithmetic on them is in float64, whatever the types in the model.
Only nodes that the output depends on are looked at. A node whose inputs are all constant is evaluated
by the reference implementation of ONNX, in the model's own types: float32 constants are rounded as a
runtime would round them.

The first axis of an input of rank 2 or more is the batch axis. A network is read for a batch of one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnx.helper
import onnx.inliner
from onnx.reference import ReferenceEvaluator
from typing_extensions import assert_never

from lipexact.errors import LipExactError, ModelError, UnsupportedOperatorError
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.network import Network, network
from lipexact.onnx.nodes import (
    FLOAT_TYPES,
    Constant,
    OnnxNode,
    Operand,
    Shape,
    Tensor,
    canonical_domain,
    constant_array,
    dense_array,
    finite_array,
)
from lipexact.onnx.registry import NEWEST_OPSET, find_operator

# Not a function of their inputs alone.
_RANDOM = frozenset(("Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike"))

_Path: TypeAlias = "str | os.PathLike[str]"


def read_onnx(model: _Path | onnx.ModelProto) -> Network:
    """Read a feed-forward piecewise-linear network.

    Parameters
    ----------
    model
        The path of an ONNX file, or a loaded model.

    Returns
    -------
    Network
        With the shapes of the model's input and output without their batch axis.

    Raises
    ------
    ModelError
        If the file cannot be read, the model is malformed, or it is not a function from one tensor of
        floats of known size to one tensor.
    UnsupportedOperatorError
        If the output depends on an operator, or a use of an operator, that lipexact does not support.
    """
    proto, name = _loaded(model)
    source, shape = _input(proto.graph)
    target = _output(proto.graph)
    x = Input(math.prod(shape), source)
    tensors = _Tensors(proto, Tensor(x, shape))
    for node in _needed(proto.graph, source, target):
        tensors.evaluate(node)
    result = tensors[target]
    if 0 in result.shape:
        raise ModelError(f"the output '{target}' of shape {result.shape} is empty")
    if isinstance(result, Tensor):
        value = result.value
    else:
        value = Affine((), finite_array(result, f"the output '{target}'").ravel(), target)
    batched = len(shape) > 1 and len(result.shape) > 1 and result.shape[0] == 1
    return network(
        _named(Graph((x,), (value,))),
        input_shape=shape[1:] if len(shape) > 1 else shape,
        output_shape=result.shape[1:] if batched else result.shape,
        name=name,
    )


class _Tensors:
    """The tensors computed so far, by name; initializers are read when they are first asked for."""

    def __init__(self, proto: onnx.ModelProto, source: Tensor) -> None:
        graph = proto.graph
        self._known: dict[str, Operand] = {_input_infos(graph)[0].name: source}
        self._dense = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self._opsets = {canonical_domain(entry.domain): entry.version for entry in proto.opset_import}
        self._ir_version = proto.ir_version
        if self._opsets.get("", 1) > NEWEST_OPSET:
            raise UnsupportedOperatorError(
                f"the model uses opset {self._opsets['']}, and lipexact knows opsets up to {NEWEST_OPSET}: "
                "export it for an older one, or convert it with onnx.version_converter"
            )

    def __getitem__(self, name: str) -> Operand:
        if name not in self._known:
            what = f"the initializer '{name}'"
            if name in self._dense:
                self._known[name] = constant_array(self._dense[name], what)
            elif name in self._sparse:
                self._known[name] = dense_array(self._sparse[name], what)
            else:
                raise ModelError(f"the model reads tensor '{name}', which lipexact cannot compute")
        return self._known[name]

    def evaluate(self, proto: onnx.NodeProto) -> None:
        """Compute the outputs of a node, whose inputs are known."""
        # Files older than IR version 3 name no operator sets.
        node = OnnxNode(proto, self._opsets.get(canonical_domain(proto.domain), 1))
        operands = [self[name] if name else None for name in proto.input]
        constants = [operand for operand in operands if not isinstance(operand, Tensor)]
        subgraphs = any(attribute.HasField("g") or attribute.graphs for attribute in proto.attribute)
        foldable = len(constants) == len(operands) > 0 and not subgraphs and proto.op_type not in _RANDOM
        try:
            with np.errstate(all="ignore"):
                results = self._folded(node, constants) if foldable else find_operator(node).lower(node, operands)
        except LipExactError:
            raise
        except MemoryError as error:
            raise node.unsupported(f"it needs too much memory: {error}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # What the lowerings do not check by themselves, such as an axis without sense.
            raise node.malformed(f"it is malformed: {error}") from error
        for name, result in zip(proto.output, results, strict=False):
            # Empty constants are usual: a list of no axes, the shape of a scalar.
            if isinstance(result, Tensor) and 0 in result.shape:
                raise node.malformed(f"its output '{name}' of shape {result.shape} is empty")
            if name:
                self._known[name] = result

    def _folded(self, node: OnnxNode, constants: list[Constant | None]) -> tuple[Constant, ...]:
        feeds = {name: array for name, array in zip(node.proto.input, constants, strict=True) if array is not None}
        try:
            model = onnx.helper.make_model(
                onnx.helper.make_graph(
                    [node.proto],
                    "folded",
                    [
                        onnx.helper.make_tensor_value_info(
                            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                        )
                        for name, array in feeds.items()
                    ],
                    [onnx.helper.make_empty_tensor_value_info(name) for name in node.proto.output if name],
                ),
                opset_imports=[onnx.helper.make_opsetid(node.domain, node.opset)],
                ir_version=max(self._ir_version, 3),
            )
            results = ReferenceEvaluator(model).run(None, feeds)
            arrays = iter([np.asarray(result) for result in results])
        except Exception as error:  # whatever the implementation of that operator raises
            raise node.unsupported(f"it cannot be evaluated on its constant inputs: {error}") from error
        return tuple(next(arrays) if name else np.zeros(1) for name in node.proto.output)


def _loaded(model: _Path | onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    # The model, with its local functions inlined, and a name for it.
    if isinstance(model, onnx.ModelProto):
        proto, name = model, model.graph.name or "network"
    else:
        try:
            path = Path(model)
        except TypeError:
            raise ModelError(
                f"expected the path of an ONNX file or an onnx.ModelProto, not {type(model).__name__}"
            ) from None
        name = path.stem
        try:
            proto = onnx.load(path)
        except OSError as error:
            raise ModelError(f"cannot read '{path}': {error.strerror or error}") from error
        except Exception as error:  # protobuf, the checker and the text formats each have errors of their own
            raise ModelError(f"'{path}' is not an ONNX model, or is corrupt: {error}") from error
    if not (proto.graph.node or proto.graph.input or proto.graph.output):
        what = f"'{os.fspath(model)}'" if not isinstance(model, onnx.ModelProto) else "the model"
        raise ModelError(f"{what} is empty, or is not an ONNX model")
    if proto.functions:
        try:
            proto = onnx.inliner.inline_local_functions(proto)
        except Exception as error:  # errors from C++, of several types
            raise ModelError(f"the functions in the model cannot be inlined: {error}") from error
    return proto, name


def _input_infos(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    # Before IR version 4 the weights had to be listed among the inputs.
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [info for info in graph.input if info.name not in weights]


def _input(graph: onnx.GraphProto) -> tuple[str, Shape]:
    # The name of the one input, and its shape with a batch axis of length 1.
    infos = _input_infos(graph)
    if not infos:
        raise ModelError("the model has no input: every entry of graph.input has an initializer")
    if len(infos) > 1:
        names = ", ".join(f"'{info.name}'" for info in infos)
        raise ModelError(
            f"the model has {len(infos)} inputs ({names}), and a network has one: "
            "make initializers of the others, or concatenate them"
        )
    (info,) = infos
    kind = info.type.WhichOneof("value")
    tensor = info.type.tensor_type
    if kind != "tensor_type" or tensor.elem_type not in FLOAT_TYPES:
        types = {number: name for name, number in onnx.TensorProto.DataType.items()}
        held = types.get(tensor.elem_type, "an unknown type") if kind == "tensor_type" else kind or "nothing"
        raise ModelError(f"input '{info.name}' holds {held}; it must be a tensor of floats")
    dims = list(tensor.shape.dim)
    lengths = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else 0 for dim in dims]
    if len(lengths) > 1 and lengths[0] < 1:
        lengths[0] = 1
    if not tensor.HasField("shape") or any(length < 1 for length in lengths):
        shown = [dim.dim_param or length or "?" for dim, length in zip(dims, lengths, strict=True)]
        shape = f"[{', '.join(map(str, shown))}]" if tensor.HasField("shape") else "unknown"
        raise ModelError(
            f"input '{info.name}' has the shape {shape}: every axis but the batch axis, which is the first of two or "
            "more, must have a known length; onnx.tools.update_model_dims can set them"
        )
    if len(lengths) > 1 and lengths[0] > 1:
        raise ModelError(
            f"input '{info.name}' of shape {lengths} has a batch of {lengths[0]}: export the model with a batch of 1 "
            "or a dynamic batch axis, or set it with onnx.tools.update_model_dims"
        )
    return info.name, tuple(lengths)


def _output(graph: onnx.GraphProto) -> str:
    names: list[str] = [info.name for info in graph.output]
    if len(names) != 1:
        listed = f" ({', '.join(map(repr, names))})" if names else ""
        raise ModelError(
            f"the model has {len(names) or 'no'} output{'s' * bool(names)}{listed}, and a network has one: "
            "onnx.utils.extract_model cuts a model at one tensor"
        )
    return names[0]


def _needed(graph: onnx.GraphProto, source: str, target: str) -> Iterator[onnx.NodeProto]:
    # The nodes that the target depends on, each after those that it depends on.
    producers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in producers or name == source:
                raise ModelError(f"the model computes tensor '{name}' twice")
            producers[name] = index
    dependencies: dict[int, list[int]] = {}
    stack = [producers[target]] if target in producers else []
    while stack:
        index = stack.pop()
        if index not in dependencies:
            dependencies[index] = [producers[name] for name in graph.node[index].input if name in producers]
            stack += dependencies[index]
    try:
        order = list(TopologicalSorter(dict(sorted(dependencies.items()))).static_order())
    except CycleError as error:
        names = ", ".join(f"'{graph.node[index].output[0]}'" for index in error.args[1])
        raise ModelError(f"the model has a cycle through {names}; lipexact reads feed-forward networks") from None
    return (graph.node[index] for index in order)


def _named(graph: Graph) -> Graph:
    # The same graph under unique names of letters, digits and underscores, for models in text formats.
    taken: set[str] = set()

    def name(node: Node) -> str:
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", node.name).strip("_") or type(node).__name__.lower()
        # A leading digit would make a number of some names.
        base = candidate = f"t{plain}" if plain[0].isdigit() else plain
        count = 1
        while candidate in taken:
            count += 1
            candidate = f"{base}_{count}"
        taken.add(candidate)
        return candidate

    inputs = tuple(replace(node, name=name(node)) for node in graph.inputs)
    new: dict[Node, Node] = dict(zip(graph.inputs, inputs, strict=True))

    def value(node: Value) -> Value:
        renamed = new[node]
        assert not isinstance(renamed, Conditional)
        return renamed

    for node in graph.nodes:
        match node:
            case Input():
                pass
            case Affine():
                new[node] = replace(node, terms=tuple((w, value(x)) for w, x in node.terms), name=name(node))
            case Conditional():
                new[node] = replace(node, x=value(node.x), name=name(node))
            case Switch():
                gate = new[node.gate]
                assert isinstance(gate, Conditional)
                new[node] = replace(node, x=value(node.x), gate=gate, name=name(node))
            case _:
                assert_never(node)
    return Graph(inputs, tuple(value(output) for output in graph.outputs))
