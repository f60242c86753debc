"""The registry of ONNX operators: one decorated function lowers each to the three primitives.

A lowering takes a node (its attributes, its opset) and the node's inputs, and returns the output,
or a tuple of outputs. Its annotations say what an input may be: a :class:`Tensor`, which depends on
the input of the network, a :data:`Constant`, or either (:data:`Operand`); every other input is
refused. A node with an attribute that the lowering did not read is refused, too, so a lowering that
forgets an attribute cannot give a wrong network::

    @lowers("LeakyRelu")
    def _leaky_relu(node: OnnxNode, x: Tensor) -> Tensor:
        "Scale by alpha where x < 0."
        return Tensor(lower.leaky_relu(x.value, node.float("alpha", 0.01), node.name), x.shape)

The docstring stands in the documentation's table of operators. Small models that use the operator
stand in ``tests/operators/``, in the module of the same name as the lowering's; on them the tests
compare every registered operator with the ONNX reference implementation, with finite differences,
with bounds and with mixed-integer programs. Nodes whose inputs are all constant never come here:
:mod:`lipexact.onnx.folding` evaluates them.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin

from lipexact.onnx.constants import DISCONTINUOUS, FINAL_ACTIVATIONS, NOT_PIECEWISE_LINEAR
from lipexact.onnx.nodes import OnnxNode, Operand, Tensor, qualified_name

Lowering: TypeAlias = Callable[..., Operand | tuple[Operand, ...]]


@dataclass(frozen=True)
class Operator:
    """A registered operator.

    Attributes
    ----------
    name
        The operator, with its domain unless that is ONNX's own.
    lowering
        The function that lowers a node.
    """

    name: str
    lowering: Lowering

    @property
    def summary(self) -> str:
        """What the operator computes and which uses are refused: the lowering's docstring."""
        return inspect.cleandoc(self.lowering.__doc__ or "")

    def lower(self, node: OnnxNode, operands: Sequence[Operand | None]) -> tuple[Operand, ...]:
        """Return the outputs of a node.

        Parameters
        ----------
        node
            A node with this operator.
        operands
            Its inputs; None for an optional one that is missing.

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
            _check_operand(node, number, parameter, operand)
        results = self.lowering(node, *operands)
        if node.unread:
            raise node.unsupported(
                f"lipexact does not know its attributes {', '.join(node.unread)}"
            )
        return results if isinstance(results, tuple) else (results,)

    def _parameters(self, count: int) -> list[inspect.Parameter] | None:
        """Return a parameter for each of `count` operands; None if so many are not taken."""
        _, *parameters = inspect.signature(self.lowering, eval_str=True).parameters.values()
        if parameters and parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:
            variadic = parameters.pop()
            parameters += [variadic] * (count - len(parameters))
        return parameters if count <= len(parameters) else None


def _check_operand(
    node: OnnxNode, number: int, parameter: inspect.Parameter, operand: Operand | None
) -> None:
    """Refuse an operand that the annotation of its parameter does not allow."""
    if isinstance(operand, _types_of(parameter.annotation)):
        return
    what = f"its input {number}, '{parameter.name}',"
    if operand is None:
        raise node.malformed(f"{what} is missing")
    if isinstance(operand, Tensor):
        raise node.unsupported(
            f"{what} depends on the input of the network; lipexact needs a constant there"
        )
    raise node.unsupported(f"{what} is a constant, which lipexact does not support there")


def _types_of(annotation: Any) -> tuple[type, ...]:
    """Return the types in an annotation, for isinstance.

    ``Constant | None`` gives ``(numpy.ndarray, NoneType)``.
    """
    alternatives = (
        get_args(annotation)
        if get_origin(annotation) in (types.UnionType, Union)
        else (annotation,)
    )
    origins = (get_origin(alternative) or alternative for alternative in alternatives)
    # From numpy 2.5 on NDArray is a type alias; the type is the alias's value.
    values = (getattr(origin, "__value__", origin) for origin in origins)
    return tuple(get_origin(value) or value for value in values)


OPERATORS: dict[tuple[str, str], Operator] = {}
"""The registered operators by domain and name."""

_Lowering = TypeVar("_Lowering", bound=Lowering)


def lowers(name: str, *, domain: str = "") -> Callable[[_Lowering], _Lowering]:
    """Register a function as the lowering of an operator.

    Parameters
    ----------
    name
        The operator.
    domain
        The operator's domain; the empty string is ONNX's own.

    Returns
    -------
    Callable
        The decorator. The function takes an :class:`OnnxNode` and one argument for each input, None
        for an optional input that is missing, and returns the output or a tuple of them.
    """

    def register(lowering: _Lowering) -> _Lowering:
        if (domain, name) in OPERATORS:
            raise ValueError(f"the operator {qualified_name(domain, name)} is registered already")
        OPERATORS[domain, name] = Operator(qualified_name(domain, name), lowering)
        return lowering

    return register


def supported_operators() -> tuple[str, ...]:
    """Return the names of the supported operators, sorted.

    Names of other domains than ONNX's own are qualified.
    """
    return tuple(sorted(operator.name for operator in OPERATORS.values()))


def find_operator(node: OnnxNode) -> Operator:
    """Return the registered operator of a node.

    Raises
    ------
    UnsupportedOperatorError
        If there is none; it says why, where that is known, and what is supported.
    """
    operator = OPERATORS.get((node.domain, node.proto.op_type))
    if operator is not None:
        return operator
    reason = _reason(node)
    raise node.unsupported(
        f"operator {node.operator} is not supported{reason}{_hint(node, reason)}. "
        f"Supported are {', '.join(supported_operators())}, and any operator on constants"
    )


def _reason(node: OnnxNode) -> str:
    """Say why there is no lowering of a node's operator; nothing where that is not known."""
    if node.operator == "HardSwish":
        return " because it is not piecewise linear: between its kinks it is quadratic"
    if node.operator in NOT_PIECEWISE_LINEAR:
        return " because it is not piecewise linear"
    if node.operator in DISCONTINUOUS:
        return (
            " because it is not continuous; a function that is so as a whole can be written with "
            "relu, abs, max and min"
        )
    return ""


def _hint(node: OnnxNode, reason: str) -> str:
    """Say how to read the part of the network that comes before a node."""
    if node.operator in FINAL_ACTIVATIONS:
        hint = ". If the network ends in it, lipexact.load(model, drop_final=True) leaves it out"
        return hint + (f", as does lipexact.load(model, output='{node.below}')" * bool(node.below))
    if reason and node.below:
        return (
            f". lipexact.load(model, output='{node.below}') reads the network that comes before it"
        )
    return ""
