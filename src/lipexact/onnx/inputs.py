"""The input of the network, and constants for the other inputs of the model."""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Mapping
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper

from lipexact.errors import ModelError
from lipexact.onnx import constants
from lipexact.onnx.constants import FLOAT_TYPES
from lipexact.onnx.messages import listed
from lipexact.onnx.nodes import Constant, Operand, Shape
from lipexact.onnx.traversal import input_infos


def axis_lengths(info: onnx.ValueInfoProto, *, batched: bool) -> list[int]:
    """Return the lengths of an input's axes.

    A length that the model does not say is 0, or 1 if it is that of a batch axis.
    """
    dims = info.type.tensor_type.shape.dim
    lengths = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else 0 for dim in dims]
    if batched and len(lengths) > 1 and lengths[0] < 1:
        lengths[0] = 1
    return lengths


def fixed_inputs(
    graph: onnx.GraphProto, fixed: Mapping[str, npt.ArrayLike], *, batched: bool
) -> dict[str, Operand]:
    """Return arrays of the model's types and shapes for the inputs that the user fixes.

    Raises
    ------
    ModelError
        If there is no such input, or a value does not fit its type or shape.
    """
    infos = {info.name: info for info in graph.input}
    arrays: dict[str, Operand] = {}
    for name, value in fixed.items():
        if name not in infos:
            raise ModelError(
                f"fixed names '{name}', which is not an input of the model: {listed(infos)}"
            )
        tensor = infos[name].type.tensor_type
        lengths = axis_lengths(infos[name], batched=batched)
        array = _array_of_type(value, tensor.elem_type, f"the value fixed for input '{name}'")
        array = _completed(array, lengths, name, batched=batched)
        fits = len(lengths) == array.ndim and all(
            length in (0, own) for length, own in zip(lengths, array.shape, strict=True)
        )
        if tensor.HasField("shape") and not fits:
            shown = [length or "?" for length in lengths]
            raise ModelError(
                f"the value fixed for input '{name}' has shape {np.shape(value)}; it needs {shown}"
            )
        arrays[name] = array
    return arrays


def _completed(array: Constant, lengths: list[int], name: str, *, batched: bool) -> Constant:
    """Bring one number, a flat array, or one without the batch axis into an input's shape."""
    if array.size == 1 and 0 not in lengths:
        if math.prod(lengths) > constants.MAX_COEFFICIENTS:
            raise ModelError(
                f"input '{name}' of shape {lengths} has more than {constants.MAX_COEFFICIENTS} "
                "entries"
            )
        return np.full(lengths, array.item(), dtype=array.dtype)
    if array.ndim == 1 and array.size == math.prod(lengths):
        return array.reshape(lengths)
    if batched and array.ndim == len(lengths) - 1:
        return array[None]
    return array


def _array_of_type(value: npt.ArrayLike, kind: int, what: str) -> Constant:
    """Return an array of an ONNX element type that holds the given numbers.

    Floats are rounded to the type; every other number must have its exact value there.
    """
    try:
        given = np.asarray(value)
        if given.dtype.kind == "V":  # numpy's name for bfloat16, which it does not know itself
            given = given.astype(np.float64)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{what} does not fit its type: {error}") from None
    if given.dtype.kind not in "biuf" or not np.isfinite(given).all():
        raise ModelError(f"{what} does not fit its type: it must hold finite real numbers")
    with np.errstate(all="ignore"):
        array = np.asarray(given.astype(dtype))
    numbers = array.astype(np.float64) if array.dtype.kind == "V" else array
    if not (np.isfinite(numbers).all() if kind in FLOAT_TYPES else np.array_equal(numbers, given)):
        raise ModelError(f"{what} does not fit its type {dtype}")
    return array


def choose_input(
    graph: onnx.GraphProto, read: Container[str], name: str | None, fixed: Collection[str]
) -> onnx.ValueInfoProto:
    """Return the input of the given name, or the only one that is read and not fixed.

    Parameters
    ----------
    graph
        The model's graph.
    read
        The names of the tensors that the output depends on.
    name
        The name that the user gives; None if it is to be found.
    fixed
        The names of the inputs that the user fixes.

    Raises
    ------
    ModelError
        If there is no such input, or it is not the only one.
    """
    if name is not None:
        return _named_input(graph, read, name, fixed)
    infos = input_infos(graph)
    if not infos:
        raise ModelError("the model has no input: every entry of graph.input has an initializer")
    free = [info for info in infos if info.name not in fixed]
    # An output that depends on no input is a constant function of the only one.
    used = [info for info in free if info.name in read] or free
    if not used:
        raise ModelError(
            f"fixed names all inputs ({listed(info.name for info in infos)}); "
            "leave one of them free"
        )
    if len(used) > 1:
        names = [info.name for info in used]
        raise ModelError(
            f"the output depends on {len(used)} inputs ({listed(names)}), and a network has one: "
            f"fix the others to constants, lipexact.load(model, input='{names[0]}', "
            f"fixed={{'{names[1]}': ...}})"
        )
    return used[0]


def _named_input(
    graph: onnx.GraphProto, read: Container[str], name: str, fixed: Collection[str]
) -> onnx.ValueInfoProto:
    """Return the input of a name, and make sure that the output depends on no other."""
    info: onnx.ValueInfoProto | None = next(
        (info for info in graph.input if info.name == name), None
    )
    if info is None:
        raise ModelError(
            f"the model has no input '{name}': {listed(info.name for info in graph.input)}"
        )
    if name in fixed:
        raise ModelError(f"input '{name}' cannot be both the network's input and fixed")
    missing = [
        info.name
        for info in input_infos(graph)
        if info.name in read and info.name not in fixed and info.name != name
    ]
    if missing:
        raise ModelError(
            f"the output depends on the input{'s' * (len(missing) > 1)} {listed(missing)}, too: "
            f"give a constant, fixed={{'{missing[0]}': ...}}"
        )
    return info


def input_shape(info: onnx.ValueInfoProto, *, batched: bool) -> Shape:
    """Return the shape of the input, with a batch axis of length 1.

    Raises
    ------
    ModelError
        If it is no tensor of floats of a known shape, or has a batch of several.
    """
    tensor = info.type.tensor_type
    if info.type.WhichOneof("value") != "tensor_type" or tensor.elem_type not in FLOAT_TYPES:
        raise ModelError(
            f"input '{info.name}' holds {_content(info)}; it must be a tensor of floats"
        )
    lengths = axis_lengths(info, batched=batched)
    if not tensor.HasField("shape") or any(length < 1 for length in lengths):
        _refuse_unknown_shape(info, lengths)
    if batched and len(lengths) > 1 and lengths[0] > 1:
        raise ModelError(
            f"input '{info.name}' of shape {lengths} has a batch of {lengths[0]}: export the model "
            "with a batch of 1 or a dynamic batch axis, or set it with "
            "onnx.tools.update_model_dims; if its first axis is no batch axis, "
            "lipexact.load(model, batched=False)"
        )
    if math.prod(lengths) > constants.MAX_ENTRIES:
        raise ModelError(
            f"input '{info.name}' of shape {lengths} has more than {constants.MAX_ENTRIES} entries"
        )
    return tuple(lengths)


def _content(info: onnx.ValueInfoProto) -> str:
    """Say what an input holds, for an error message."""
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return str(kind or "nothing")
    types: dict[int, str] = {number: name for name, number in onnx.TensorProto.DataType.items()}
    return types.get(info.type.tensor_type.elem_type, "an unknown type")


def _refuse_unknown_shape(info: onnx.ValueInfoProto, lengths: list[int]) -> NoReturn:
    """Raise the error of an input with an axis of unknown length."""
    tensor = info.type.tensor_type
    shape = "unknown"
    if tensor.HasField("shape"):
        axes = zip(tensor.shape.dim, lengths, strict=True)
        shape = f"[{', '.join(str(dim.dim_param or length or '?') for dim, length in axes)}]"
    raise ModelError(
        f"input '{info.name}' has the shape {shape}: every axis but the batch axis, which is the "
        "first of two or more, must have a known length; onnx.tools.update_model_dims can set them"
    )
