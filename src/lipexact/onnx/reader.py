"""From an ONNX model to a network.

Weights are read exactly and all arithmetic on them is in float64, whatever the types in the model.
Only nodes that the output depends on are looked at. A node whose inputs are all constant is
evaluated by the reference implementation of ONNX (:mod:`lipexact.onnx.folding`), every other node
is lowered to the three primitives (:mod:`lipexact.onnx.registry`).

The first axis of an input of rank 2 or more is the batch axis, unless one says otherwise. A network
is read for a batch of one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from itertools import chain
from typing import TypeAlias

import numpy.typing as npt
import onnx

from lipexact.errors import ModelError
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.network import Network, network
from lipexact.onnx.evaluation import TensorTable
from lipexact.onnx.external import load_external
from lipexact.onnx.files import load_model
from lipexact.onnx.inputs import choose_input, fixed_inputs, input_shape
from lipexact.onnx.messages import short_messages
from lipexact.onnx.naming import with_unique_names
from lipexact.onnx.nodes import Operand, Shape, Tensor, finite_array
from lipexact.onnx.outputs import before_final_activation, choose_output
from lipexact.onnx.traversal import find_producers, names_read, needed_nodes

_Path: TypeAlias = "str | os.PathLike[str]"


def read_onnx(
    model: _Path | onnx.ModelProto,
    *,
    input: str | None = None,  # noqa: A002 - what ONNX calls it
    output: str | None = None,
    fixed: Mapping[str, npt.ArrayLike] | None = None,
    drop_final: bool = False,
    batched: bool = True,
) -> Network:
    """Read a feed-forward piecewise-linear network.

    Parameters
    ----------
    model
        The path of an ONNX file, or a loaded model.
    input
        The name of the input x. None: the only one that the output depends on and that is not
        fixed.
    output
        The name of the output, or of an inner tensor, which cuts the network there. None: the
        model's only output.
    fixed
        Constants for further inputs, by name, of the shapes that the model declares, or flat, or
        without the batch axis.
    drop_final
        Whether to leave out what the output ends in: Softmax, LogSoftmax, Sigmoid, Tanh, Softplus,
        ArgMax or Hardmax, and what reshapes its result.
    batched
        Whether the first axis of inputs with two or more is the batch axis, which is then read as
        of length 1.

    Returns
    -------
    Network
        The function from the input to the output. Its shapes are those of the model's input and
        output without their batch axis.

    Raises
    ------
    ModelError
        If the file cannot be read, the model is malformed, or it is not a function from one tensor
        of floats of known size to one tensor.
    UnsupportedOperatorError
        If the output depends on an operator, or a use of an operator, that lipexact does not
        support.
    """
    with short_messages():
        proto, name, path = load_model(model)
        graph = proto.graph

        producers = find_producers(graph)
        target = choose_output(graph, producers, output)
        if drop_final:
            target = before_final_activation(graph, producers, target)
        nodes = needed_nodes(graph, producers, target)

        fixed_arrays = fixed_inputs(graph, fixed or {}, batched=batched)
        read = {*chain.from_iterable(map(names_read, nodes)), target}
        info = choose_input(graph, read, input, fixed_arrays)
        shape = input_shape(info, batched=batched)
        if path is not None:
            load_external(graph, nodes, read, path)

        x = Input(math.prod(shape), info.name)
        tensors = TensorTable(proto, {info.name: Tensor(x, shape), **fixed_arrays})
        for node in nodes:
            tensors.evaluate(node)
        return _network(x, shape, target, tensors[target], name, batched=batched)


def _network(
    x: Input, shape: Shape, target: str, output: Operand, name: str, *, batched: bool
) -> Network:
    """Return the network from x to the output, whose shapes have no batch axis."""
    if 0 in output.shape:
        raise ModelError(f"the output '{target}' of shape {output.shape} is empty")
    if isinstance(output, Tensor):
        value = output.value
    else:
        value = Affine((), finite_array(output, f"the output '{target}'").ravel(), target)
    own_shape = shape
    output_shape = output.shape
    if batched and len(shape) > 1:
        own_shape = shape[1:]
        if len(output_shape) > 1 and output_shape[0] == 1:
            output_shape = output_shape[1:]
    return network(
        with_unique_names(Graph((x,), (value,))),
        input_shape=own_shape,
        output_shape=output_shape,
        name=name,
    )
