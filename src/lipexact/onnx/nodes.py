"""Nodes of an ONNX model as their lowerings see them: typed attributes, tensors, constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from lipexact.errors import ModelError, UnsupportedOperatorError
from lipexact.graph.ir import Value
from lipexact.onnx import constants

_DATA = (
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "string_data",
)

# Types of less than a byte, which are packed; some are newer than the oldest onnx.
_BITS = {
    "FLOAT4E2M1": 4,
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
    "INT2": 2,
    "INT4": 4,
    "UINT2": 2,
    "UINT4": 4,
}

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
        if len(self.shape) > constants.MAX_AXES:
            raise ModelError(
                f"a tensor has {len(self.shape)} axes; lipexact takes {constants.MAX_AXES} at most"
            )
        if math.prod(self.shape) != self.value.size:
            raise ModelError(
                f"a tensor of shape {self.shape} does not hold {self.value.size} entries"
            )

    @property
    def positions(self) -> Indices:
        """The position in `value` of every entry, as an array of the tensor's shape."""
        return np.arange(self.value.size, dtype=np.int64).reshape(self.shape)


Operand: TypeAlias = Tensor | Constant


class OnnxNode:
    """A node as its lowering sees it: its typed attributes, and which of them were read.

    Parameters
    ----------
    proto
        The node.
    opset
        The version of the operator set of the node's domain.
    below
        A tensor that the node reads and that depends on the network's input, but is not that input
        itself; empty if there is none.
    """

    def __init__(self, proto: onnx.NodeProto, opset: int, below: str = "") -> None:
        if len({attribute.name for attribute in proto.attribute}) < len(proto.attribute):
            raise ModelError(
                f"node '{proto.name or ''.join(proto.output[:1])}' has two attributes of one name"
            )
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
        """The name of the first output, after which the nodes of the graph are named."""
        return next((output for output in self.proto.output if output), self.proto.name)

    @property
    def unread(self) -> tuple[str, ...]:
        """The attributes of the node that no one has asked for."""
        return tuple(sorted(self._unread))

    def has(self, name: str) -> bool:
        """Return whether the node has the attribute."""
        return name in self._attributes

    def int(self, name: str, default: _Int | None = None) -> _Int:
        """Return an integer attribute, required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.INT, default is None)
        return default if attribute is None and default is not None else attribute.i

    def float(self, name: str, default: _Float | None = None) -> _Float:
        """Return a number attribute (float32 in ONNX), required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.FLOAT, default is None)
        return default if attribute is None and default is not None else attribute.f

    def string(self, name: str, default: str | None = None) -> str:
        """Return a string attribute, required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.STRING, default is None)
        return (
            default
            if attribute is None and default is not None
            else attribute.s.decode(errors="replace")
        )

    def ints(self, name: str, default: Sequence[_Int] | None = None) -> tuple[_Int, ...]:
        """Return a list of integers, required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.INTS, default is None)
        return tuple(default if attribute is None and default is not None else attribute.ints)

    def floats(self, name: str, default: Sequence[_Float] | None = None) -> tuple[_Float, ...]:
        """Return a list of numbers (float32 in ONNX), required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.FLOATS, default is None)
        return tuple(default if attribute is None and default is not None else attribute.floats)

    def strings(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return a list of strings, required when `default` is None."""
        attribute = self._attribute(name, onnx.AttributeProto.STRINGS, default is None)
        if attribute is None and default is not None:
            return tuple(default)
        return tuple(text.decode(errors="replace") for text in attribute.strings)

    def tensor(self, name: str) -> Constant:
        """Return a tensor attribute, which is required."""
        attribute = self._attribute(name, onnx.AttributeProto.TENSOR, True)
        return constant_array(attribute.t, f"{self}: attribute '{name}'")

    def graph(self, name: str) -> onnx.GraphProto:
        """Return a subgraph, which is required."""
        graph: onnx.GraphProto = self._attribute(name, onnx.AttributeProto.GRAPH, True).g
        return graph

    def sparse_tensor(self, name: str) -> Constant:
        """Return a sparse tensor attribute, which is required, as a dense array."""
        attribute = self._attribute(name, onnx.AttributeProto.SPARSE_TENSOR, True)
        return dense_array(attribute.sparse_tensor, f"{self}: attribute '{name}'")

    def weights(self, constant: Constant) -> npt.NDArray[np.float64]:
        """Return a constant as float64, which holds every ONNX float exactly.

        NaN and infinity are refused.
        """
        return finite_array(constant, f"{self}: a constant that it reads")

    def malformed(self, reason: str) -> ModelError:
        """Return the error to raise when the node breaks the rules of ONNX."""
        return ModelError(f"{self}: {reason}")

    def unsupported(self, reason: str) -> UnsupportedOperatorError:
        """Return the error to raise when the node is legal, but lipexact cannot lower it."""
        return UnsupportedOperatorError(f"{self}: {reason}")

    def _attribute(self, name: str, kind: _Int, required: bool) -> Any:
        """Return an attribute and count it as read; None if it is missing and not required."""
        self._unread.discard(name)
        attribute = self._attributes.get(name)
        if attribute is None:
            if required:
                raise self.malformed(f"its attribute '{name}' is missing")
            return None
        # Files older than IR version 2 do not say the type.
        if attribute.type not in (kind, onnx.AttributeProto.UNDEFINED):
            expected, found = map(onnx.AttributeProto.AttributeType.Name, (kind, attribute.type))
            raise self.malformed(
                f"its attribute '{name}' should be of type {expected}, not {found}"
            )
        return attribute

    def __str__(self) -> str:
        return f"node '{self.proto.name or self.name}' ({self.operator}, opset {self.opset})"


def canonical_domain(domain: str) -> str:
    """Return the domain; ONNX's own, which has two names, as the empty string."""
    return "" if domain == "ai.onnx" else domain


def qualified_name(domain: str, name: str) -> str:
    """Return an operator's name, with its domain unless that is ONNX's own."""
    return f"{domain}.{name}" if domain else name


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs in a node's attributes."""
    return [
        graph
        for entry in node.attribute
        for graph in (*([entry.g] if entry.HasField("g") else []), *entry.graphs)
    ]


def stored_bytes(tensor: onnx.TensorProto, what: str) -> int:
    """Return how many bytes a tensor's data has, by its shape and its type.

    Raises
    ------
    ModelError
        If it has no such shape or type.
    """
    if tensor.dims and min(tensor.dims) < 0:
        raise ModelError(f"{what} has the shape {list(tensor.dims)}")
    known = {number: name for name, number in onnx.TensorProto.DataType.items()}
    kind = known.get(tensor.data_type, "UNDEFINED")
    if kind in ("UNDEFINED", "STRING"):
        raise ModelError(f"{what} is of type {kind} ({tensor.data_type}), not of numbers")
    bits = _BITS.get(kind) or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-math.prod(map(int, tensor.dims)) * int(bits) // 8)


def held_here(tensor: onnx.TensorProto, what: str) -> None:
    """Refuse a tensor whose data lies in another file.

    Raises
    ------
    ModelError
    """
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelError(
            f"{what} is stored in another file: pass the path of the model instead of the model, "
            "or call onnx.external_data_helper.load_external_data_for_model first"
        )


def constant_array(tensor: onnx.TensorProto, what: str) -> Constant:
    """Return the array in a tensor of the file, exactly.

    Raises
    ------
    ModelError
        If the tensor is malformed, or its data lies in another file that was not loaded.
    """
    held_here(tensor, what)
    if tensor.data_type != onnx.TensorProto.STRING:
        # What to_array does not check: a length of -1, which numpy takes for any, and data beyond
        # the last entry.
        count = stored_bytes(tensor, what)
        fields = [name for name in _DATA if len(getattr(tensor, name))]
        if len(fields) > 1:
            raise ModelError(
                f"{what} is corrupt: it holds its data several times, in {' and '.join(fields)}"
            )
        if fields == ["raw_data"] and len(tensor.raw_data) != count:
            raise ModelError(
                f"{what} is corrupt: {count} bytes by its shape {list(tensor.dims)} and its type, "
                f"{len(tensor.raw_data)} in the file"
            )
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"{what} is corrupt: {error}") from error


def finite_array(constant: Constant, what: str) -> npt.NDArray[np.float64]:
    """Return a constant as float64, which holds every ONNX float exactly.

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
    """Return the array in a sparse tensor of the file, with its zeros.

    Raises
    ------
    ModelError
        If the tensor is malformed.
    """
    values = constant_array(tensor.values, what)
    indices = constant_array(tensor.indices, what)
    shape = tuple(tensor.dims)
    if (
        min(shape, default=1) < 1
        or len(shape) > constants.MAX_AXES
        or math.prod(shape) > constants.MAX_COEFFICIENTS
    ):
        raise ModelError(
            f"{what} has the shape {list(shape)}; lipexact takes 1 to {constants.MAX_COEFFICIENTS} "
            "entries"
        )
    # Indices are either positions in C order or one row of coordinates for each value.
    wanted = (values.size, len(shape)) if indices.ndim == 2 else (values.size,)
    lengths = np.array(shape if indices.ndim == 2 else [math.prod(shape)])
    if values.ndim != 1 or indices.shape != wanted or indices.dtype.kind != "i":
        raise ModelError(
            f"{what} is corrupt: indices of shape {indices.shape} and type {indices.dtype}"
        )
    if ((indices < 0) | (indices >= lengths)).any():
        raise ModelError(
            f"{what} is corrupt: some of its indices lie outside its shape {list(shape)}"
        )
    positions = np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 else indices
    if np.unique(positions).size < positions.size:
        raise ModelError(f"{what} is corrupt: it names an entry twice")
    dense = np.zeros(math.prod(shape), values.dtype)
    dense[positions] = values
    return dense.reshape(shape)
