"""The registry of ONNX operators, lowered to the three primitives by one decorated function each.

A lowering takes the node (its attributes, its opset) and the node's inputs, and returns the output, or
a tuple of outputs. Its annotations say what an input may be: a :class:`Tensor`, which depends on the
input of the network, a :data:`Constant`, or either (:data:`Operand`); the reader refuses the rest. It
also refuses a node with an attribute that the lowering did not read, so a lowering that forgets an
attribute cannot give a wrong network::

    @lowers("LeakyRelu", example=Example("y = LeakyRelu <alpha = 0.25> (x)"))
    def _leaky_relu(node: OnnxNode, x: Tensor) -> Tensor:
        "x where x > 0, alpha x elsewhere."
        return Tensor(lower.leaky_relu(x.value, node.float("alpha", 0.01), node.name), x.shape)

The examples are models, on which the tests compare every registered operator with the ONNX reference
implementation, finite differences, bounds and mixed-integer programs; the first line of the docstring stands in the
documentation's table. Nodes whose inputs are all constant never come here: the reader evaluates them.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin

import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser

from lipexact.onnx.nodes import Constant, OnnxNode, Operand, Shape, Tensor, qualified_name

NEWEST_OPSET = 28
"""The newest version of ONNX's operator set whose operators are known to mean what the lowerings say."""

# Common operators that no lowering can take: the error says why.
_NOT_PIECEWISE_LINEAR = frozenset(
    "Acos Acosh Asin Asinh Atan Atanh Attention Celu Cos Cosh Det Elu Erf Exp GRU Gelu GlobalLpPool "
    "GroupNormalization InstanceNormalization LRN LSTM LayerNormalization Log LogSoftmax LpNormalization LpPool "
    "MeanVarianceNormalization Mish Pow RMSNormalization RNN Reciprocal ReduceL2 ReduceLogSum ReduceLogSumExp "
    "ReduceProd ReduceSumSquare Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh "
    "ai.onnx.ml.Normalizer ai.onnx.ml.SVMClassifier ai.onnx.ml.SVMRegressor com.microsoft.BiasGelu "
    "com.microsoft.FastGelu com.microsoft.Gelu com.microsoft.QuickGelu".split()
)
_DISCONTINUOUS = frozenset(
    "ArgMax ArgMin BitShift Ceil DynamicQuantizeLinear Equal Floor Greater GreaterOrEqual Hardmax IsInf IsNaN Less "
    "LessOrEqual Mod NonMaxSuppression NonZero OneHot QuantizeLinear Round Sign Unique ai.onnx.ml.Binarizer "
    "ai.onnx.ml.LabelEncoder ai.onnx.ml.LinearClassifier ai.onnx.ml.TreeEnsemble ai.onnx.ml.TreeEnsembleClassifier "
    "ai.onnx.ml.TreeEnsembleRegressor".split()
)

FINAL = frozenset(("ArgMax", "Hardmax", "LogSoftmax", "Sigmoid", "Softmax", "Softplus", "Tanh"))
"""What classifiers end in, and what can be left out."""

Lowering: TypeAlias = Callable[..., Operand | tuple[Operand, ...]]


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
        graph = onnx.parser.parse_graph(
            f"example ({self.dtype}[{dims}] x) => ({self.dtype} y) {{ {self.body} }}"
        )
        graph.initializer.extend(
            onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items()
        )
        graph.output[0].type.tensor_type.ClearField("shape")
        opsets = [
            onnx.helper.make_opsetid(*pair) for pair in {"": self.opset, **self.imports}.items()
        ]
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

    @property
    def summary(self) -> str:
        """What it does and what of it is refused, in a line or two of Markdown: the lowering's docstring."""
        return inspect.cleandoc(self.lowering.__doc__ or "")

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
            raise node.unsupported(
                f"lipexact does not know this operator with {len(operands)} inputs"
            )
        # Trailing optional inputs may be left out altogether.
        operands = (*operands, *[None] * (len(parameters) - len(operands)))
        for number, (parameter, operand) in enumerate(
            zip(parameters, operands, strict=True), start=1
        ):
            if isinstance(operand, _kinds(parameter.annotation)):
                continue
            what = f"its input {number}, '{parameter.name}',"
            if operand is None:
                raise node.malformed(f"{what} is missing")
            if isinstance(operand, Tensor):
                raise node.unsupported(
                    f"{what} depends on the input of the network; lipexact needs a constant there"
                )
            raise node.unsupported(f"{what} is a constant, which lipexact does not support there")
        results = self.lowering(node, *operands)
        if node.unread:
            raise node.unsupported(
                f"lipexact does not know its attributes {', '.join(node.unread)}"
            )
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
    alternatives = (
        get_args(annotation)
        if get_origin(annotation) in (types.UnionType, Union)
        else (annotation,)
    )
    origins = (get_origin(alternative) or alternative for alternative in alternatives)
    # From numpy 2.5 on NDArray is a type alias, whose value is looked behind.
    behind = (getattr(origin, "__value__", origin) for origin in origins)
    return tuple(get_origin(origin) or origin for origin in behind)


OPERATORS: dict[tuple[str, str], Operator] = {}
"""The registered operators by domain and name."""

_Lowering = TypeVar("_Lowering", bound=Lowering)


def lowers(
    name: str, *, example: Example | Sequence[Example], domain: str = ""
) -> Callable[[_Lowering], _Lowering]:
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
            raise ValueError(f"the operator {qualified_name(domain, name)} is registered already")
        OPERATORS[domain, name] = Operator(qualified_name(domain, name), lowering, examples)
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
    reason = hint = ""
    if node.operator == "HardSwish":
        reason = " because it is not piecewise linear: between its kinks it is quadratic"
    elif node.operator in _NOT_PIECEWISE_LINEAR:
        reason = " because it is not piecewise linear"
    elif node.operator in _DISCONTINUOUS:
        reason = " because it is not continuous; a function that is so as a whole can be written with relu, abs, max and min"
    if node.operator in FINAL:
        hint = ". If the network ends in it, lipexact.load(model, drop_final=True) leaves it out"
        hint += f", as does lipexact.load(model, output='{node.below}')" if node.below else ""
    elif reason and node.below:
        hint = (
            f". lipexact.load(model, output='{node.below}') reads the network that comes before it"
        )
    raise node.unsupported(
        f"operator {node.operator} is not supported{reason}{hint}. Supported are {', '.join(supported_operators())}, "
        f"and any operator on constants"
    )
