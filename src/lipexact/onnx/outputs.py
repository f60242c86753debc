"""The output of the network: an output of the model, an inner tensor, or a classifier's logits."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from itertools import chain

import onnx

from lipexact.errors import ModelError
from lipexact.onnx.constants import AROUND_FINAL_ACTIVATION, FINAL_ACTIVATIONS, FLOAT_TYPES
from lipexact.onnx.messages import listed
from lipexact.onnx.traversal import input_infos, names_read, needed_nodes


def choose_output(graph: onnx.GraphProto, producers: Mapping[str, int], name: str | None) -> str:
    """Return the name of the tensor to read: the given one, or the only output of the model.

    Raises
    ------
    ModelError
        If there is no such tensor, or no name is given and the model has not one output.
    """
    outputs: list[str] = [info.name for info in graph.output]
    if name is None:
        if len(outputs) != 1:
            raise _no_single_output(graph, outputs)
        return outputs[0]
    tensors = {*producers, *outputs, *(info.name for info in graph.input)}
    if name not in tensors:
        close = difflib.get_close_matches(str(name), sorted(tensors), n=3)
        hint = f"; did you mean {listed(close)}?" if close else ""
        raise ModelError(
            f"the model computes no tensor '{name}'; its outputs are {listed(outputs)}{hint}"
        )
    return name


def _no_single_output(graph: onnx.GraphProto, outputs: list[str]) -> ModelError:
    """Return the error of a model with no output, or with several, that suggests one."""
    if not outputs:
        return ModelError("the model has no output, and a network has one")
    # Suggest an output of floats: labels are integers, and cannot be the network's output.
    floats = (info.name for info in graph.output if info.type.tensor_type.elem_type in FLOAT_TYPES)
    others = (info.name for info in graph.output if not info.type.HasField("tensor_type"))
    first = next(chain(floats, others, outputs), "")
    return ModelError(
        f"the model has {len(outputs)} outputs ({listed(outputs)}), and a network has one: choose "
        f"one, lipexact.load(model, output='{first}'), with drop_final=True if it ends in a Softmax"
    )


def before_final_activation(
    graph: onnx.GraphProto, producers: Mapping[str, int], target: str
) -> str:
    """Return the tensor that the last activation reads, such as a classifier's logits.

    The walk goes from the target towards the input, as long as the tensors reached depend on one
    activation alone. Of several such activations in a row the first is taken: for
    ``Tanh -> Softmax -> Reshape`` it is the tensor that Tanh reads.

    Raises
    ------
    ModelError
        If the target does not end in such an activation.
    """
    nodes = needed_nodes(graph, producers, target)
    varying = _varying(graph, nodes)
    reached = {target}
    ending = "is an input"
    logits: str | None = None
    for node in reversed(nodes):
        outputs = reached.intersection(node.output)
        if not outputs:
            continue
        if node.op_type in FINAL_ACTIVATIONS:
            if not node.input or reached != outputs:
                ending = f"depends on more than its {node.op_type}"
                break
            logits = node.input[0]
        elif not _is_around_activation(node, varying):
            ending = f"ends in {node.op_type}"
            break
        reached = (reached - outputs) | varying.intersection(node.input)
    if logits is None:
        raise ModelError(
            f"drop_final leaves out one of {', '.join(sorted(FINAL_ACTIVATIONS))}, and the output "
            f"'{target}' {ending}; name the tensor that shall be the output: "
            "lipexact.load(model, output='NAME')"
        )
    return logits


def _varying(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> set[str]:
    """Return the names of the tensors whose values depend on an input."""
    varying = {info.name for info in input_infos(graph)}
    for node in nodes:
        if node.op_type not in ("Shape", "Size") and not varying.isdisjoint(names_read(node)):
            varying.update(node.output)
    return varying


def _is_around_activation(node: onnx.NodeProto, varying: set[str]) -> bool:
    """Return whether a node may stand between the last activation and the output.

    A difference is one only as one minus the probability, whose first operand is a constant.
    """
    if node.op_type not in AROUND_FINAL_ACTIVATION:
        return False
    return node.op_type != "Sub" or varying.isdisjoint(node.input[:1])
