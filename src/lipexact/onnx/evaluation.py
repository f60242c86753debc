"""Evaluation of an ONNX graph, node by node: constants are folded, all else is lowered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import onnx
import scipy.sparse as sp

from lipexact.errors import LipExactError, ModelError, UnsupportedOperatorError
from lipexact.graph.ir import Affine, Node
from lipexact.graph.ir import operands as operands_of
from lipexact.numerics.arrays import Matrix
from lipexact.onnx import constants
from lipexact.onnx.constants import LOWERED_ON_CONSTANTS, NEWEST_OPSET
from lipexact.onnx.folding import fold, is_foldable
from lipexact.onnx.nodes import (
    Constant,
    OnnxNode,
    Operand,
    Tensor,
    canonical_domain,
    constant_array,
    dense_array,
)
from lipexact.onnx.registry import find_operator
from lipexact.onnx.traversal import find_producers, needed_nodes


class MemoryMeter:
    """The memory that the constants and the coefficients of a model take so far."""

    def __init__(self) -> None:
        self._bytes = 0
        self._seen: set[Node] = set()

    def add(self, operand: Operand | None, what: object) -> None:
        """Count an operand, and the nodes of the graph that it depends on.

        Raises
        ------
        ModelError
            If the total is too much.
        """
        stack: list[Node] = []
        if isinstance(operand, Tensor):
            stack.append(operand.value)
        elif operand is not None:
            self._bytes += operand.nbytes
        while stack:
            node = stack.pop()
            if node in self._seen:
                continue
            self._seen.add(node)
            stack += operands_of(node)
            if isinstance(node, Affine):
                self._bytes += node.bias.nbytes + sum(_bytes(weight) for weight, _ in node.terms)
        if self._bytes > constants.MAX_MODEL_BYTES:
            raise ModelError(
                f"{what}: up to there the model needs more than "
                f"{constants.MAX_MODEL_BYTES / 2**30:g} GiB for its constants and coefficients, "
                "which is all that lipexact takes; read a smaller part, "
                "lipexact.load(model, output=...)"
            )


def _bytes(matrix: Matrix) -> int:
    """Return the memory that a dense or sparse matrix takes."""
    parts = (matrix.data, matrix.indices, matrix.indptr) if sp.issparse(matrix) else (matrix,)
    return sum(part.nbytes for part in parts)


class TensorTable:
    """The tensors computed so far, by name; initializers are read when they are first asked for.

    Parameters
    ----------
    proto
        The model, for its operator sets.
    known
        The inputs.
    graph
        The graph whose tensors they are; None for the model's own.
    outer
        The tensors around a subgraph.

    Raises
    ------
    ModelError
        If the model's operator sets have several versions, or versions that do not exist.
    UnsupportedOperatorError
        If they are newer than those known here.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        known: dict[str, Operand],
        graph: onnx.GraphProto | None = None,
        outer: TensorTable | None = None,
    ) -> None:
        graph = proto.graph if graph is None else graph
        self._proto = proto
        self._known = known
        self._inputs = frozenset(known)
        self._outer = outer
        self._memory: MemoryMeter = MemoryMeter() if outer is None else outer._memory
        self._missing: dict[str, OnnxNode] = {}
        self._dense = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self._opsets = _operator_sets(proto)

    def __getitem__(self, name: str) -> Operand:
        if name not in self._known:
            what = f"the initializer '{name}'"
            if name in self._dense:
                self._known[name] = constant_array(self._dense[name], what)
            elif name in self._sparse:
                self._known[name] = dense_array(self._sparse[name], what)
            elif name in self._missing:
                raise self._missing[name].unsupported(
                    f"lipexact does not compute its output '{name}', which is used"
                )
            elif self._outer is not None:
                return self._outer[name]
            else:
                raise ModelError(f"the model reads tensor '{name}', which nothing computes")
            self._memory.add(self._known[name], what)
        return self._known[name]

    def evaluate(self, proto: onnx.NodeProto) -> None:
        """Compute the outputs of a node, whose inputs are known."""
        operands = [self[name] if name else None for name in proto.input]
        node = self._node(proto)
        foldable = is_foldable(node, operands)
        if foldable and node.operator in LOWERED_ON_CONSTANTS:
            first = operands[0]
            if isinstance(first, np.ndarray):
                operands[0] = _constant_tensor(node, first)
                foldable = False
        self._store(node, self._outputs(node, operands, foldable=foldable))

    def _node(self, proto: onnx.NodeProto) -> OnnxNode:
        """Return a node with its opset, and a tensor below it for error messages."""
        below = (
            name
            for name in proto.input
            if isinstance(self._known.get(name), Tensor) and name not in self._inputs
        )
        # Files older than IR version 3 name no operator sets.
        opset = self._opsets.get(canonical_domain(proto.domain), 1)
        return OnnxNode(proto, opset, next(below, ""))

    def _outputs(
        self, node: OnnxNode, operands: Sequence[Operand | None], *, foldable: bool
    ) -> tuple[Operand, ...]:
        """Return the outputs of a node, as a branch, folded or lowered."""
        try:
            with np.errstate(all="ignore"):
                if node.operator == "If":
                    return self._branch(node, operands)
                if foldable:
                    arrays = [each for each in operands if not isinstance(each, Tensor)]
                    return fold(node, arrays, self._proto.ir_version)
                return find_operator(node).lower(node, operands)
        except LipExactError:
            raise
        except MemoryError as error:
            raise node.unsupported(f"it needs too much memory: {error}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # The lowerings leave some checks to numpy, such as that of an axis without sense.
            raise node.malformed(f"it is malformed: {error}") from error

    def _store(self, node: OnnxNode, results: Sequence[Operand]) -> None:
        """Keep the outputs of a node under their names; those not computed are remembered."""
        for name, result in zip_longest(node.proto.output, results):
            # Empty constants are usual: a list of no axes, the shape of a scalar.
            if isinstance(result, Tensor) and 0 in result.shape:
                raise node.malformed(f"its output '{name}' of shape {result.shape} is empty")
            if name and result is None:
                self._missing[name] = node
            elif name:
                self._known[name] = result
                self._memory.add(result, node)

    def _branch(self, node: OnnxNode, operands: Sequence[Operand | None]) -> tuple[Operand, ...]:
        """Return the outputs of an If with a constant condition.

        Exporters write such an If around a Squeeze.
        """
        (condition,) = operands
        if not isinstance(condition, np.ndarray):
            raise node.unsupported(
                "its condition depends on the input of the network, and it is not continuous"
            )
        graph = node.graph("then_branch" if condition.any() else "else_branch")
        inner = TensorTable(self._proto, {}, graph, self)
        outputs = [info.name for info in graph.output]
        for each in needed_nodes(graph, find_producers(graph), *outputs):
            inner.evaluate(each)
        return tuple(inner[name] for name in outputs)


def _constant_tensor(node: OnnxNode, array: Constant) -> Tensor:
    """Return a constant as a tensor that is lowered, although it depends on no input."""
    value = Affine((), node.weights(array).ravel(), f"{node.name}_constant")
    return Tensor(value, array.shape)


def _operator_sets(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the version of each operator set that a model uses, by domain."""
    opsets = {canonical_domain(entry.domain): entry.version for entry in proto.opset_import}
    versions = {(canonical_domain(entry.domain), entry.version) for entry in proto.opset_import}
    if len(versions) > len(opsets) or min(opsets.values(), default=1) < 1:
        raise ModelError(
            "the model's operator sets must have one version each, from 1 on; export it again"
        )
    if opsets.get("", 1) > NEWEST_OPSET:
        raise UnsupportedOperatorError(
            f"the model uses opset {opsets['']}, and lipexact knows opsets up to {NEWEST_OPSET}: "
            "export it for an older one, or convert it with onnx.version_converter"
        )
    return opsets
