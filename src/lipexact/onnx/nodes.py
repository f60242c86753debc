"""Nodes of an ONNX model as their lowerings see them: typed attributes, tensors, constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from lipexact.errors import ModelError, UnsupportedOperatorError
from lipexact.graph.ir import Value

FLOAT_TYPES = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
)
"""The element types that stand for real numbers here; all arithmetic is in float64."""

# The methods of OnnxNode called int and float hide the built-in types inside that class.
_Int: TypeAlias = int
_Float: TypeAlias = float

Indices: TypeAlias = npt.NDArray[np.int64]
Constant: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor that depends on the input of the network.

    Attributes
    ----------
    value
        Its entries, in C order, as a node of the graph.
    shape
        Its shape; a batch axis, if there is one, has length 1.
    """

    value: Value
    shape: Shape

    def __post_init__(self) -> None:
        if math.prod(self.shape) != self.value.size:
            raise ModelError(f"a tensor of shape {self.shape} does not hold {self.value.size} entries")

    @property
    def positions(self) -> Indices:
        """The position in `value` of every entry, as an array of the tensor's shape."""
        return np.arange(self.value.size, dtype=np.int64).reshape(self.shape)


Operand: TypeAlias = Tensor | Constant


class OnnxNode:
    """A node as its lowering sees it: typed attributes, of which it remembers those not yet read.

    Parameters
    ----------
    proto
        The node.
    opset
        The version of the operator set of the node's domain.
    below
        A tensor that the node reads and that depends on the network's input, if it is not that input itself.
    """

    def __init__(self, proto: onnx.NodeProto, opset: int, below: str = "") -> None:
        self.proto = proto
        self.opset = opset
        self.below = below
        self._attributes = {attribute.name: attribute for attribute in proto.attribute}
        # A hint about memory, without meaning, that opsets 1 to 5 put on many operators.
        self._unread = set(self._attributes) - ({"consumed_inputs"} if opset < 6 else set())

    @property
    def domain(self) -> str:
        """The operator's domain; the empty string is ONNX's own."""
        return canonical_domain(self.proto.domain)

    @property
    def operator(self) -> str:
        """The operator's name, with its domain unless that is ONNX's own."""
        return qualified_name(self.domain, self.proto.op_type)

    @property
    def name(self) -> str:
        """The name of the first output: what graph nodes are called after."""
        return next((output for output in self.proto.output if output), self.proto.name)

    @property
    def unread(self) -> tuple[str, ...]:
        """The attributes of the node that nobody has asked for."""
        return tuple(sorted(self._unread))

    def has(self, name: str) -> bool:
        """Whether the node has the attribute."""
        return name in self._attributes

    def int(self, name: str, default: _Int | None = None) -> _Int:
        """An integer attribute, required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.INT, default is None)
        return default if attribute is None and default is not None else attribute.i

    def float(self, name: str, default: _Float | None = None) -> _Float:
        """A number attribute (float32 in ONNX), required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.FLOAT, default is None)
        return default if attribute is None and default is not None else attribute.f

    def string(self, name: str, default: str | None = None) -> str:
        """A string attribute, required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.STRING, default is None)
        return default if attribute is None and default is not None else attribute.s.decode(errors="replace")

    def ints(self, name: str, default: Sequence[_Int] | None = None) -> tuple[_Int, ...]:
        """A list of integers, required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.INTS, default is None)
        return tuple(default if attribute is None and default is not None else attribute.ints)

    def floats(self, name: str, default: Sequence[_Float] | None = None) -> tuple[_Float, ...]:
        """A list of numbers (float32 in ONNX), required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.FLOATS, default is None)
        return tuple(default if attribute is None and default is not None else attribute.floats)

    def strings(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of strings, required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.STRINGS, default is None)
        if attribute is None and default is not None:
            return tuple(default)
        return tuple(text.decode(errors="replace") for text in attribute.strings)

    def tensor(self, name: str) -> Constant:
        """A tensor attribute, required."""
        attribute = self._attribute(name, onnx.AttributeProto.TENSOR, True)
        return constant_array(attribute.t, f"{self}: attribute '{name}'")

    def graph(self, name: str) -> onnx.GraphProto:
        """A subgraph, required."""
        graph: onnx.GraphProto = self._attribute(name, onnx.AttributeProto.GRAPH, True).g
        return graph

    def sparse_tensor(self, name: str) -> Constant:
        """A sparse tensor attribute, required, as a dense array."""
        attribute = self._attribute(name, onnx.AttributeProto.SPARSE_TENSOR, True)
        return dense_array(attribute.sparse_tensor, f"{self}: attribute '{name}'")

    def weights(self, constant: Constant) -> npt.NDArray[np.float64]:
        """A constant as float64, which holds every ONNX float exactly; NaN and infinity are refused."""
        return finite_array(constant, f"{self}: a constant that it reads")

    def malformed(self, reason: str) -> ModelError:
        """The error to raise when the node breaks the rules of ONNX."""
        return ModelError(f"{self}: {reason}")

    def unsupported(self, reason: str) -> UnsupportedOperatorError:
        """The error to raise when the node is legal, but lipexact cannot lower it."""
        return UnsupportedOperatorError(f"{self}: {reason}")

    def _attribute(self, name: str, kind: _Int, required: bool) -> Any:
        self._unread.discard(name)
        attribute = self._attributes.get(name)
        if attribute is None:
            if required:
                raise self.malformed(f"its attribute '{name}' is missing")
            return None
        # Files older than IR version 2 do not say the type.
        if attribute.type not in (kind, onnx.AttributeProto.UNDEFINED):
            expected, found = map(onnx.AttributeProto.AttributeType.Name, (kind, attribute.type))
            raise self.malformed(f"its attribute '{name}' should be of type {expected}, not {found}")
        return attribute

    def __str__(self) -> str:
        return f"node '{self.proto.name or self.name}' ({self.operator}, opset {self.opset})"


def canonical_domain(domain: str) -> str:
    """The domain with ONNX's own, which has two names, as the empty string."""
    return "" if domain == "ai.onnx" else domain


def qualified_name(domain: str, name: str) -> str:
    """An operator's name, with its domain unless that is ONNX's own."""
    return f"{domain}.{name}" if domain else name


def constant_array(tensor: onnx.TensorProto, what: str) -> Constant:
    """The array in a tensor of the file, exactly.

    Raises
    ------
    ModelError
        If the tensor is malformed, or its data lies in another file that was not loaded.
    """
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelError(
            f"{what} is stored in another file: pass the path of the model instead of the model, "
            "or call onnx.external_data_helper.load_external_data_for_model first"
        )
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"{what} is corrupt: {error}") from error


def finite_array(constant: Constant, what: str) -> npt.NDArray[np.float64]:
    """A constant as float64, which holds every ONNX float exactly.

    Raises
    ------
    ModelError
        If it does not hold finite real numbers.
    """
    if constant.dtype.kind in "OSUc":
        raise ModelError(f"{what} is of type {constant.dtype}, not of real numbers")
    array: npt.NDArray[np.float64] = constant.astype(np.float64)
    if not np.isfinite(array).all():
        raise ModelError(f"{what} holds NaN or infinite weights; train or export the model again")
    return array


def dense_array(tensor: onnx.SparseTensorProto, what: str) -> Constant:
    """The array in a sparse tensor of the file, with its zeros.

    Raises
    ------
    ModelError
        If the tensor is malformed.
    """
    values, indices = constant_array(tensor.values, what), constant_array(tensor.indices, what)
    dense = np.zeros(tuple(tensor.dims), values.dtype)
    try:
        # Indices are either positions in C order or one row of coordinates for each value.
        dense[tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, dense.shape)] = values
    except (ValueError, IndexError) as error:
        raise ModelError(f"{what} is corrupt: {error}") from error
    return dense
