"""ONNX operators as lowerings to the three primitives: one decorated function for each.

A lowering takes the node (its attributes, its opset) and the node's inputs, and returns the output, or
a tuple of outputs. Its annotations say what an input may be: a :class:`Tensor`, which depends on the
input of the network, a :data:`Constant`, or either (:data:`Operand`); the reader refuses the rest. It
also refuses a node with an attribute that the lowering did not read, so a lowering that forgets an
attribute cannot give a wrong network::

    @lowers("LeakyRelu", example=Example("y = LeakyRelu <alpha = 0.25> (x)"))
    def _leaky_relu(node: OnnxNode, x: Tensor) -> Tensor:
        return Tensor(lower.leaky_relu(x.value, node.float("alpha", 0.01), node.name), x.shape)

The examples are models, on which the tests compare every registered operator with the ONNX reference
implementation. Nodes whose inputs are all constant never come here: the reader evaluates them.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import scipy.sparse as sp

from lipexact.errors import ModelError, UnsupportedOperatorError
from lipexact.graph import lower
from lipexact.graph.ir import Affine, Matrix, Value, Vector

FLOAT_TYPES = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
)
"""The element types that stand for real numbers here; all arithmetic is in float64."""

NEWEST_OPSET = 28
"""The newest version of ONNX's operator set whose operators are known to mean what the lowerings say."""

# Common operators that no lowering can take: the error says why.
_NOT_PIECEWISE_LINEAR = frozenset(
    "Acos Acosh Asin Asinh Atan Atanh Celu Cos Cosh Elu Erf Exp GRU Gelu GlobalLpPool GroupNormalization "
    "InstanceNormalization LRN LSTM LayerNormalization Log LogSoftmax LpNormalization LpPool "
    "MeanVarianceNormalization Mish Pow RMSNormalization RNN Reciprocal ReduceL2 ReduceLogSum "
    "ReduceLogSumExp ReduceProd ReduceSumSquare Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt "
    "Swish Tan Tanh".split()
)
_DISCONTINUOUS = frozenset(
    "ArgMax ArgMin Ceil DynamicQuantizeLinear Equal Floor Greater GreaterOrEqual Hardmax Less LessOrEqual "
    "NonZero QuantizeLinear Round Sign".split()
)

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
Lowering: TypeAlias = Callable[..., Operand | tuple[Operand, ...]]


class OnnxNode:
    """A node as its lowering sees it: typed attributes, of which it remembers those not yet read.

    Parameters
    ----------
    proto
        The node.
    opset
        The version of the operator set of the node's domain.
    """

    def __init__(self, proto: onnx.NodeProto, opset: int) -> None:
        self.proto = proto
        self.opset = opset
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
        return _qualified(self.domain, self.proto.op_type)

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


@dataclass(frozen=True)
class Example:
    """A model of one or a few nodes that shows an operator at work.

    Attributes
    ----------
    body
        Nodes in ONNX's text syntax, one a line; they read x and write y.
    x
        The shape of the input x.
    constants
        Arrays by name, which become initializers.
    opset
        The version of ONNX's own operator set.
    imports
        The versions of further operator sets, by domain.
    dtype
        The element type of x.
    modern
        The same in opset 17, where `opset` is one that the reference implementation does not know.
    """

    body: str
    x: Shape = (1, 6)
    constants: Mapping[str, Constant] = field(default_factory=dict)
    opset: int = 17
    imports: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "double"
    modern: str = ""

    def model(self) -> onnx.ModelProto:
        """The example as an ONNX model."""
        dims = ", ".join(map(str, self.x))
        graph = onnx.parser.parse_graph(f"example ({self.dtype}[{dims}] x) => ({self.dtype} y) {{ {self.body} }}")
        graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items())
        graph.output[0].type.tensor_type.ClearField("shape")
        opsets = [onnx.helper.make_opsetid(*pair) for pair in {"": self.opset, **self.imports}.items()]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


@dataclass(frozen=True)
class Operator:
    """A registered operator.

    Attributes
    ----------
    name
        The operator, with its domain unless that is ONNX's own.
    lowering
        The function that lowers a node.
    examples
        Models that use it.
    """

    name: str
    lowering: Lowering
    examples: tuple[Example, ...]

    def lower(self, node: OnnxNode, operands: Sequence[Operand | None]) -> tuple[Operand, ...]:
        """The outputs of a node; missing optional inputs are None.

        Raises
        ------
        ModelError
            If the node breaks the rules of ONNX.
        UnsupportedOperatorError
            If the node is legal, but not one that this lowering takes.
        """
        parameters = self._parameters(len(operands))
        if parameters is None:
            raise node.unsupported(f"lipexact does not know this operator with {len(operands)} inputs")
        # Trailing optional inputs may be left out altogether.
        operands = (*operands, *[None] * (len(parameters) - len(operands)))
        for number, (parameter, operand) in enumerate(zip(parameters, operands, strict=True), start=1):
            if isinstance(operand, _kinds(parameter.annotation)):
                continue
            what = f"its input {number}, '{parameter.name}',"
            if operand is None:
                raise node.malformed(f"{what} is missing")
            if isinstance(operand, Tensor):
                raise node.unsupported(f"{what} depends on the input of the network; lipexact needs a constant there")
            raise node.unsupported(f"{what} is a constant, which lipexact does not support there")
        results = self.lowering(node, *operands)
        if node.unread:
            raise node.unsupported(f"lipexact does not know its attributes {', '.join(node.unread)}")
        return results if isinstance(results, tuple) else (results,)

    def _parameters(self, count: int) -> list[inspect.Parameter] | None:
        # One for each operand, of which there are `count`; None if the lowering does not take so many.
        _, *parameters = inspect.signature(self.lowering, eval_str=True).parameters.values()
        if parameters and parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:
            rest = parameters.pop()
            parameters += [rest] * (count - len(parameters))
        return parameters if count <= len(parameters) else None


def _kinds(annotation: Any) -> tuple[type, ...]:
    # The types that isinstance can ask for: Tensor, numpy.ndarray (for Constant), NoneType.
    alternatives = get_args(annotation) if get_origin(annotation) in (types.UnionType, Union) else (annotation,)
    origins = (get_origin(alternative) or alternative for alternative in alternatives)
    # From numpy 2.5 on NDArray is a type alias, whose value is looked behind.
    behind = (getattr(origin, "__value__", origin) for origin in origins)
    return tuple(get_origin(origin) or origin for origin in behind)


OPERATORS: dict[tuple[str, str], Operator] = {}
"""The registered operators by domain and name."""

_Lowering = TypeVar("_Lowering", bound=Lowering)


def lowers(name: str, *, example: Example | Sequence[Example], domain: str = "") -> Callable[[_Lowering], _Lowering]:
    """Register a function as the lowering of an operator.

    Parameters
    ----------
    name
        The operator.
    example
        Models that use it, in all the ways that differ; the tests run them.
    domain
        The operator's domain; the empty string is ONNX's own.

    Returns
    -------
    Callable
        The decorator. The function takes an :class:`OnnxNode` and one argument for each input, None
        for an optional input that is missing, and returns the output or a tuple of them.
    """
    examples = (example,) if isinstance(example, Example) else tuple(example)

    def register(lowering: _Lowering) -> _Lowering:
        if (domain, name) in OPERATORS:
            raise ValueError(f"the operator {_qualified(domain, name)} is registered already")
        OPERATORS[domain, name] = Operator(_qualified(domain, name), lowering, examples)
        return lowering

    return register


def supported_operators() -> tuple[str, ...]:
    """The names of the supported operators, sorted; those of other domains than ONNX's own are qualified."""
    return tuple(sorted(operator.name for operator in OPERATORS.values()))


def find_operator(node: OnnxNode) -> Operator:
    """The registered operator of a node.

    Raises
    ------
    UnsupportedOperatorError
        If there is none; it says why, where that is known, and what is supported.
    """
    operator = OPERATORS.get((node.domain, node.proto.op_type))
    if operator is not None:
        return operator
    reason = ""
    if node.operator in _NOT_PIECEWISE_LINEAR:
        reason = " because it is not piecewise linear"
    elif node.operator in _DISCONTINUOUS:
        reason = " because it is not continuous"
    raise node.unsupported(
        f"operator {node.operator} is not supported{reason}. Supported are {', '.join(supported_operators())}, "
        f"and any operator on constants. onnx.utils.extract_model cuts a part out of a model"
    )


def canonical_domain(domain: str) -> str:
    """The domain with ONNX's own, which has two names, as the empty string."""
    return "" if domain == "ai.onnx" else domain


def _qualified(domain: str, name: str) -> str:
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


def picked(x: Tensor, positions: Indices, factors: Vector | float = 1.0) -> tuple[Matrix, Value]:
    """The affine term with the entries factors * x[positions], in C order.

    Parameters
    ----------
    x
        A tensor.
    positions
        Positions in the flat x, of any shape.
    factors
        What the entries are multiplied by, of a shape that broadcasts to that of `positions`.

    Returns
    -------
    tuple
        A sparse matrix, and the value that it applies to.
    """
    rows = positions.size
    data = np.broadcast_to(np.asarray(factors, dtype=np.float64), positions.shape).flatten()
    matrix = sp.csr_array((data, positions.flatten(), np.arange(rows + 1)), shape=(rows, x.value.size))
    matrix.eliminate_zeros()
    return matrix, x.value


def reshaped(node: OnnxNode, x: Operand, shape: Shape) -> Operand:
    """The same entries in C order under another shape, which costs nothing."""
    if math.prod(shape) != math.prod(x.shape):
        raise node.malformed(f"a tensor of shape {x.shape} does not fit into shape {shape}")
    return Tensor(x.value, shape) if isinstance(x, Tensor) else x.reshape(shape)


def transposed(node: OnnxNode, x: Operand) -> Operand:
    """The transpose of a matrix."""
    if not isinstance(x, Tensor):
        return np.transpose(x)
    return Tensor(lower.add(picked(x, x.positions.T), name=f"{node.name}_transposed"), x.shape[::-1])


def weighted_sum(node: OnnxNode, *terms: tuple[npt.ArrayLike, Operand]) -> Operand:
    """sum_k factor_k * x_k, entry by entry, with numpy's broadcasting (of the factors too).

    Parameters
    ----------
    node
        The node that is being lowered.
    *terms
        Pairs of factor and operand.

    Returns
    -------
    Tensor or numpy.ndarray
        An array if all operands are constant.
    """
    factors = [node.weights(np.asarray(factor)) for factor, _ in terms]
    shapes = [shape for factor, (_, x) in zip(factors, terms, strict=True) for shape in (factor.shape, x.shape)]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(shape) for shape in shapes if shape)
        raise node.malformed(f"the shapes {listed} do not broadcast to a common one") from None
    affine = []
    bias = np.zeros(shape)
    for factor, (_, x) in zip(factors, terms, strict=True):
        if isinstance(x, Tensor):
            affine.append(picked(x, np.broadcast_to(x.positions, shape), factor))
        else:
            bias = bias + factor * node.weights(x)
    return Tensor(lower.add(*affine, bias=bias.ravel(), name=node.name), shape) if affine else bias


def matrix_product(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """The product of numpy.matmul, of which one factor is constant.

    Raises
    ------
    UnsupportedOperatorError
        If both factors depend on the input.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        raise node.unsupported(_PRODUCT)
    if not (a.shape and b.shape):
        raise node.malformed("a scalar cannot be a factor of a matrix product")
    # As numpy does: a vector on the left is a row, a vector on the right a column.
    left_shape = a.shape if len(a.shape) > 1 else (1, *a.shape)
    right_shape = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    (m, k), n = left_shape[-2:], right_shape[-1]
    try:
        batch = np.broadcast_shapes(left_shape[:-2], right_shape[:-2])
    except ValueError:
        batch = None
    if batch is None or k != right_shape[-2]:
        raise node.malformed(f"tensors of shape {a.shape} and {b.shape} cannot be multiplied as matrices")
    shape = (*batch, *((m,) if len(a.shape) > 1 else ()), *((n,) if len(b.shape) > 1 else ()))
    # Entry (..., i, j) is the sum of left[..., i, :] * right[..., :, j]; of a tensor, take the positions.
    left, right = _entries(node, a).reshape(left_shape), _entries(node, b).reshape(right_shape)
    left = np.broadcast_to(left[..., :, None, :], (*batch, m, n, k))
    right = np.broadcast_to(right.swapaxes(-1, -2)[..., None, :, :], (*batch, m, n, k))
    if isinstance(a, Tensor):
        x, positions, weights = a, left, right
    elif isinstance(b, Tensor):
        x, positions, weights = b, right, left
    else:
        return np.asarray((left * right).sum(axis=-1).reshape(shape))
    rows = math.prod(shape)
    if k == x.value.size:
        # Every row reads all entries, in their order.
        matrix: Matrix = weights.reshape(rows, k)
    else:
        columns = (weights.flatten(), positions.flatten(), np.arange(0, rows * k + 1, k))
        matrix = sp.csr_array(columns, shape=(rows, x.value.size))
        matrix.eliminate_zeros()
    return Tensor(Affine(((matrix, x.value),), np.zeros(rows), f"{node.name}_product"), shape)


_PRODUCT = "the product of two tensors that depend on the input is not piecewise linear"


def _entries(node: OnnxNode, x: Operand) -> npt.NDArray[Any]:
    return x.positions if isinstance(x, Tensor) else node.weights(x)


def _integers(node: OnnxNode, constant: Constant, what: str) -> tuple[int, ...]:
    if constant.dtype.kind not in "iu":
        raise node.malformed(f"its input '{what}' should hold integers, not {constant.dtype}")
    return tuple(int(entry) for entry in constant.ravel())


def _axes(node: OnnxNode, axes: Iterable[int], rank: int) -> tuple[int, ...]:
    # Axes counted from the front, each once.
    counted = [axis + rank if axis < 0 else axis for axis in axes]
    if not all(0 <= axis < rank for axis in counted) or len(set(counted)) < len(counted):
        raise node.malformed(f"the axes {list(axes)} are not distinct axes of a tensor of rank {rank}")
    return tuple(counted)


def _aligned(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    # Before opset 7 the second operand was broadcast on request only, and from a given axis on.
    if node.opset >= 7:
        return b
    if node.int("broadcast", 0) and node.has("axis"):
        axis, rank = node.int("axis"), len(a.shape)
        (start,) = _axes(node, (axis,), rank)
        return reshaped(node, b, (*b.shape, *[1] * (rank - start - len(b.shape))))
    return b


def _numbers(*shape: int) -> npt.NDArray[np.float64]:
    # Weights for examples: irregular, of both signs, none zero.
    return np.asarray(np.cos(1.0 + 2.3 * np.arange(math.prod(shape))).reshape(shape))


@lowers(
    "Add",
    example=[
        Example("y = Add (x, c)", constants={"c": _numbers(6)}),
        Example("y = Add (c, x)", x=(1, 3, 1), constants={"c": _numbers(2, 1, 4)}),
        Example("r = Relu (x)\n y = Add (x, r)", x=(4,)),
        Example("s = Flatten <axis = 0> (x)\n t = Reshape (x, v) y = Add (s, t)", constants={"v": np.array([6, 1])}),
        Example(
            "y = Add <broadcast = 1, axis = 1> (x, c)",
            x=(1, 3, 2),
            constants={"c": _numbers(3), "axis": np.array([1])},
            opset=6,
            modern="d = Unsqueeze (c, axis)\n y = Add (x, d)",
        ),
    ],
)
def _add(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    return weighted_sum(node, (1.0, a), (1.0, _aligned(node, a, b)))


@lowers(
    "Cast",
    example=[
        Example("f = Cast <to = 11> (x)\n y = Cast <to = 1> (f)", dtype="float"),
        Example('y = Cast <to = "DOUBLE"> (x)', opset=5, modern="y = Identity (x)"),
        Example("y = Cast <to = 11, saturate = 0> (x)", opset=19),
    ],
)
def _cast(node: OnnxNode, x: Tensor) -> Tensor:
    # Real numbers stay real numbers; these two say how to round to an 8-bit float, which is refused.
    node.int("saturate", 1)
    node.string("round_mode", "up")
    kind = node.int("to") if node.opset >= 6 else onnx.TensorProto.DataType.Value(node.string("to").upper())
    if kind not in FLOAT_TYPES:
        raise node.unsupported("a cast of something that depends on the input must be to a floating-point type")
    return x


@lowers(
    "Constant",
    example=[
        Example("c = Constant <value = double[2] {1.5, -2.25}> ()\n y = Add (x, c)", x=(1, 2)),
        Example("c = Constant <value_float = 1.5> ()\n y = Mul (x, c)", dtype="float"),
        Example("c = Constant <value_floats = [1.5, -0.5]> ()\n y = Mul (x, c)", x=(1, 2), dtype="float"),
        Example("s = Constant <value_ints = [3, -1]> ()\n y = Reshape (x, s)"),
        Example("a = Constant <value_int = 1> ()\n y = Unsqueeze (x, a)"),
    ],
)
def _constant(node: OnnxNode) -> Constant:
    # A string can only feed a node that is of no use here, which then says so.
    if node.has("value"):
        return node.tensor("value")
    if node.has("sparse_value"):
        return node.sparse_tensor("sparse_value")
    if node.has("value_float"):
        return np.array(node.float("value_float"), dtype=np.float32)
    if node.has("value_floats"):
        return np.array(node.floats("value_floats"), dtype=np.float32)
    if node.has("value_int"):
        return np.array(node.int("value_int"), dtype=np.int64)
    if node.has("value_ints"):
        return np.array(node.ints("value_ints"), dtype=np.int64)
    if node.has("value_string"):
        return np.array(node.string("value_string"))
    return np.array(node.strings("value_strings"))


@lowers(
    "Div",
    example=[
        Example("y = Div (x, c)", constants={"c": _numbers(6)}),
        Example("y = Div (x, c)", x=(1, 3), constants={"c": _numbers(2, 1)}),
        Example("y = Div <broadcast = 1> (x, c)", constants={"c": _numbers()}, opset=6, modern="y = Div (x, c)"),
    ],
)
def _div(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    b = _aligned(node, a, b)
    if isinstance(b, Tensor):
        raise node.unsupported("a quotient by something that depends on the input is not piecewise linear")
    divisor = node.weights(b)
    if not divisor.all():
        raise node.malformed("it divides by zero")
    return weighted_sum(node, (1.0 / divisor, a))


@lowers(
    "Dropout",
    example=[
        Example("y = Dropout (x)"),
        Example("y = Dropout (x, r, t)", constants={"r": np.array(0.5), "t": np.array(False)}),
        Example("y, m = Dropout <ratio = 0.25> (x)", opset=10),
        Example("y = Dropout <is_test = 1> (x)", opset=6, modern="y = Dropout (x)"),
    ],
)
def _dropout(
    node: OnnxNode,
    x: Operand,
    ratio: Operand | None,  # noqa: ARG001 - an input, which like the seed has no effect in inference
    training_mode: Constant | None,
) -> tuple[Operand, Constant]:
    node.float("ratio", 0.5)
    node.int("seed", 0)
    training = bool(training_mode.any()) if training_mode is not None else False
    if training or (node.opset < 7 and not node.int("is_test", 0)):
        raise node.unsupported("Dropout in training mode is random; export the model for inference (eval mode)")
    return x, np.ones(x.shape, dtype=bool)


@lowers(
    "Flatten",
    example=[
        Example("y = Flatten (x)", x=(1, 2, 3)),
        Example("y = Flatten <axis = 2> (x)", x=(1, 2, 3)),
        Example("y = Flatten <axis = -1> (x)", x=(1, 2, 3)),
        Example("y = Flatten <axis = 0> (x)", x=(3,)),
    ],
)
def _flatten(node: OnnxNode, x: Operand) -> Operand:
    rank = len(x.shape)
    axis = node.int("axis", 1)
    if not -rank <= axis <= rank:
        raise node.malformed(f"axis {axis} is not an axis of a tensor of rank {rank}")
    return reshaped(node, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@lowers(
    "Gemm",
    example=[
        Example("y = Gemm (x, W, b)", constants={"W": _numbers(6, 3), "b": _numbers(3)}),
        Example("y = Gemm <transB = 1> (x, W)", constants={"W": _numbers(3, 6)}),
        Example(
            "y = Gemm <alpha = 0.7, beta = 1.3, transA = 1, transB = 1> (x, W, b)",
            x=(1, 6),
            constants={"W": _numbers(3, 1), "b": _numbers(6, 1)},
        ),
        Example("y = Gemm <alpha = 2.0> (A, x, b)", constants={"A": _numbers(3, 1), "b": _numbers()}),
        Example("y = Gemm <transA = 1, beta = -1.0> (A, B, x)", constants={"A": _numbers(2, 3), "B": _numbers(2, 6)}),
        Example("y = Gemm <broadcast = 1> (x, W, b)", constants={"W": _numbers(6, 2), "b": _numbers(2)}, opset=6),
    ],
)
def _gemm(node: OnnxNode, a: Operand, b: Operand, c: Operand | None) -> Operand:
    node.int("broadcast", 0)  # opset 6: whether C is broadcast, which its shape tells
    if node.int("transA", 0):
        a = transposed(node, a)
    if node.int("transB", 0):
        b = transposed(node, b)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise node.malformed(f"A and B must be matrices, not of shape {a.shape} and {b.shape}")
    product = matrix_product(node, a, b)
    alpha, beta = node.float("alpha", 1.0), node.float("beta", 1.0)
    if c is None:
        return weighted_sum(node, (alpha, product))
    result = weighted_sum(node, (alpha, product), (beta, c))
    if result.shape != product.shape:
        raise node.malformed(f"C of shape {c.shape} does not broadcast to the shape {product.shape} of A B")
    return result


@lowers("Identity", example=Example("t = Identity (x)\n y = Relu (t)"))
def _identity(_: OnnxNode, x: Tensor) -> Tensor:
    return x


@lowers(
    "MatMul",
    example=[
        Example("y = MatMul (x, W)", constants={"W": _numbers(6, 3)}),
        Example("y = MatMul (W, x)", x=(1, 3, 2), constants={"W": _numbers(4, 3)}),
        Example("y = MatMul (x, W)", x=(1, 2, 3), constants={"W": _numbers(2, 1, 3, 2)}),
        Example("y = MatMul (x, w)", x=(1, 2, 3), constants={"w": _numbers(3)}),
        Example("y = MatMul (W, x)", x=(3,), constants={"W": _numbers(2, 4, 3)}),
        Example("y = MatMul (w, x)", x=(1, 3, 2), constants={"w": _numbers(3)}),
        Example("y = MatMul (x, w)", x=(3,), constants={"w": _numbers(3)}),
    ],
)
def _matmul(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    return matrix_product(node, a, b)


@lowers(
    "Mul",
    example=[
        Example("y = Mul (x, c)", constants={"c": _numbers(6)}),
        Example("y = Mul (c, x)", x=(1, 3, 1), constants={"c": _numbers(2, 3, 2)}),
        Example("y = Mul (x, c)", x=(3,), constants={"c": np.array([0.0, 1.0, -2.0])}),
        Example(
            "y = Mul <broadcast = 1, axis = 0> (c, x)",
            x=(1,),
            constants={"c": _numbers(1, 3)},
            opset=6,
            modern="y = Mul (c, x)",
        ),
    ],
)
def _mul(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    b = _aligned(node, a, b)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        raise node.unsupported(_PRODUCT)
    return weighted_sum(node, (b, a)) if not isinstance(b, Tensor) else weighted_sum(node, (np.asarray(a), b))


@lowers("Relu", example=[Example("y = Relu (x)"), Example("y = Relu (x)", x=(1, 2, 3), opset=6)])
def _relu(node: OnnxNode, x: Tensor) -> Tensor:
    return Tensor(lower.relu(x.value, node.name), x.shape)


@lowers(
    "Reshape",
    example=[
        Example("y = Reshape (x, s)", constants={"s": np.array([3, -1])}),
        Example("y = Reshape (x, s)", x=(1, 2, 3), constants={"s": np.array([0, 3, 2])}),
        Example("y = Reshape (x, s)", x=(1, 2, 3), constants={"s": np.array([1, 0, 1, -1])}),
        Example("y = Reshape <allowzero = 1> (x, s)", x=(1, 2, 3), constants={"s": np.array([-1])}),
        Example(
            "y = Reshape <shape = [0, 2, -1]> (x)",
            constants={"s": np.array([0, 2, -1])},
            opset=1,
            modern="y = Reshape (x, s)",
        ),
    ],
)
def _reshape(node: OnnxNode, x: Operand, shape: Constant | None) -> Operand:
    if node.opset < 5:
        wanted = node.ints("shape")
    elif shape is None:
        raise node.malformed("its input 'shape' is missing")
    else:
        wanted = _integers(node, shape, "shape")
    if not node.int("allowzero", 0):
        if any(length == 0 and axis >= len(x.shape) for axis, length in enumerate(wanted)):
            raise node.malformed(f"shape {list(wanted)} copies an axis that shape {x.shape} does not have")
        wanted = tuple(length or x.shape[axis] for axis, length in enumerate(wanted))
    if wanted.count(-1) == 1 and 0 not in wanted:
        rest = -math.prod(wanted)
        wanted = tuple(math.prod(x.shape) // rest if length == -1 else length for length in wanted)
    if any(length < 0 for length in wanted):
        raise node.malformed(f"shape {list(wanted)} is not a shape")
    return reshaped(node, x, wanted)


@lowers("Shape", example=Example("s = Shape (x)\n f = Flatten <axis = 0> (x)\n y = Reshape (f, s)", x=(1, 2, 3)))
def _shape(node: OnnxNode, x: Tensor) -> Constant:
    start, stop = node.int("start", 0), node.int("end", len(x.shape))
    return np.array(x.shape[start:stop], dtype=np.int64)


@lowers(
    "Squeeze",
    example=[
        Example("y = Squeeze (x, a)", x=(1, 3, 1), constants={"a": np.array([-1])}),
        Example("y = Squeeze (x)", x=(1, 3, 1)),
        Example("y = Squeeze <axes = [2]> (x)", x=(1, 3, 1), opset=11),
    ],
)
def _squeeze(node: OnnxNode, x: Operand, axes: Constant | None) -> Operand:
    rank = len(x.shape)
    if node.has("axes") and node.opset < 13:
        dropped = _axes(node, node.ints("axes"), rank)
    elif axes is not None:
        dropped = _axes(node, _integers(node, axes, "axes"), rank)
    else:
        dropped = tuple(axis for axis in range(rank) if x.shape[axis] == 1)
    return reshaped(node, x, tuple(length for axis, length in enumerate(x.shape) if axis not in dropped))


@lowers(
    "Sub",
    example=[
        Example("y = Sub (x, c)", constants={"c": _numbers(6)}),
        Example("y = Sub (c, x)", constants={"c": _numbers(1, 1)}),
        Example("r = Relu (x)\n y = Sub (r, x)"),
        Example(
            "y = Sub <broadcast = 1, axis = 0> (x, c)",
            x=(1, 3),
            constants={"c": _numbers(1)},
            opset=6,
            modern="y = Sub (x, c)",
        ),
    ],
)
def _sub(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    return weighted_sum(node, (1.0, a), (-1.0, _aligned(node, a, b)))


@lowers(
    "Unsqueeze",
    example=[
        Example("y = Unsqueeze (x, a)", x=(1, 3), constants={"a": np.array([0, -1])}),
        Example("y = Unsqueeze <axes = [2]> (x)", x=(1, 3), opset=11),
    ],
)
def _unsqueeze(node: OnnxNode, x: Operand, axes: Constant | None) -> Operand:
    if node.opset < 13:
        added = node.ints("axes")
    elif axes is None:
        raise node.malformed("its input 'axes' is missing")
    else:
        added = _integers(node, axes, "axes")
    rank = len(x.shape) + len(added)
    new = _axes(node, added, rank)
    lengths = iter(x.shape)
    return reshaped(node, x, tuple(1 if axis in new else next(lengths) for axis in range(rank)))
