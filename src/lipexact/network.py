"""Trained networks: graphs with one input and one output, their values and Jacobians."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lipexact.errors import ModelError
from lipexact.graph.derivative import reverse
from lipexact.graph.evaluate import batches, evaluate
from lipexact.graph.folding import fold
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Value
from lipexact.graph.lowering import relu
from lipexact.numerics.arrays import Vector, floats


@dataclass(frozen=True, eq=False)
class Network:
    """A continuous piecewise-linear function R^d -> R^m.

    Attributes
    ----------
    graph
        One input of size d, one output of size m, in the primitives of :mod:`lipexact.graph`.
    input_shape, output_shape
        The shapes of the tensors behind the two flat vectors (C order), without the batch axis.
    name
        A name for reports.
    """

    graph: Graph
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    name: str = "network"

    def __post_init__(self) -> None:
        if len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            raise ModelError(
                f"a network has one input and one output, not {len(self.graph.inputs)} "
                f"and {len(self.graph.outputs)}"
            )
        for what, shape, node in (
            ("input", self.input_shape, self.input),
            ("output", self.output_shape, self.output),
        ):
            if min(shape, default=1) < 1 or int(np.prod(shape, dtype=np.int64)) != node.size:
                raise ModelError(f"the {what} shape {shape} does not hold {node.size} entries")

    @classmethod
    def from_layers(
        cls, layers: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]], name: str = "network"
    ) -> Network:
        """Make a multilayer perceptron: affine layers with a ReLU between each two.

        Parameters
        ----------
        layers
            Pairs of weights, of shape (rows, columns), and biases, of shape (rows,).
        name
            A name for reports.

        Returns
        -------
        Network

        Raises
        ------
        ModelError
            If there is no layer, or shapes do not fit, or numbers are not finite.

        Examples
        --------
        >>> Network.from_layers([([[1], [-1]], [0, 0]), ([[1, 1]], [0])]).evaluate([-2.0])
        array([2.])
        """
        value: Value | None = None
        start = None
        for index, layer in enumerate(layers):
            if not isinstance(layer, Sequence) or len(layer) != 2:
                raise ModelError(f"layer {index} must be a pair of weights and biases")
            matrix = floats(layer[0], f"the weights of layer {index}", ModelError)
            if matrix.ndim != 2:
                raise ModelError(
                    f"the weights of layer {index} must be a matrix, not of shape {matrix.shape}"
                )
            if value is None:
                start = value = Input(matrix.shape[-1])
            else:
                value = relu(value, f"relu_{index - 1}")
            value = Affine(
                ((matrix, value),),
                floats(layer[1], f"the bias of layer {index}", ModelError),
                f"affine_{index}",
            )
        if value is None or start is None:
            raise ModelError("a network needs at least one layer")
        return network(
            Graph((start,), (value,)),
            input_shape=(start.size,),
            output_shape=(value.size,),
            name=name,
        )

    @property
    def input(self) -> Input:
        """The input node, of size d."""
        return self.graph.inputs[0]

    @property
    def output(self) -> Value:
        """The output node, of size m."""
        return self.graph.outputs[0]

    @property
    def gates(self) -> tuple[Conditional, ...]:
        """The conditionals of the network, in topological order."""
        return self.graph.gates

    @property
    def relus(self) -> int:
        """The number of gates: neurons with a kink, over all layers."""
        return sum(gate.size for gate in self.gates)

    @cached_property
    def parameters(self) -> int:
        """The number of weights other than 0, and of biases, of all affine layers."""
        affine = [node for node in self.graph.nodes if isinstance(node, Affine)]
        return sum(
            node.size + sum(int((weight != 0).sum()) for weight, _ in node.terms) for node in affine
        )

    def evaluate(self, x: npt.ArrayLike) -> Vector:
        """Evaluate f(x).

        Parameters
        ----------
        x
            One point, of shape (d,) or `input_shape`, or a batch (n, d) or (n, `*input_shape`).
            If both readings fit, it is one point.

        Returns
        -------
        numpy.ndarray
            Shape (m,) for one point, (n, m) for a batch.

        Raises
        ------
        ModelError
            If x has another shape, or is not finite.
        """
        batch, single = self._batch(x)
        values = np.empty((len(batch), self.output.size))
        for part in batches(self.graph, len(batch)):
            values[part] = evaluate(self.graph, {self.input: batch[part]})[self.output]
        return values[0] if single else values

    def jacobian(self, x: npt.ArrayLike) -> Vector:
        """Compute the Jacobian at x, with gates off where their input is exactly 0.

        Away from kinks it is the Jacobian of f. On a kink it need not be that of any region.

        Parameters
        ----------
        x
            One point, of shape (d,) or `input_shape`, or a batch (n, d) or (n, `*input_shape`).

        Returns
        -------
        numpy.ndarray
            Shape (m, d) for one point, (n, m, d) for a batch.

        Raises
        ------
        ModelError
            If x has another shape, or is not finite.
        """
        batch, single = self._batch(x)
        cotangent, gradient = self.pullback
        jacobians = np.empty((len(batch), self.output.size, self.input.size))
        for part in batches(gradient, len(batch)):
            for row in range(self.output.size):
                inputs = {self.input: batch[part], cotangent: np.eye(1, self.output.size, row)}
                jacobians[part, row, :] = evaluate(gradient, inputs)[gradient.outputs[0]]
        return jacobians[0] if single else jacobians

    @cached_property
    def pullback(self) -> tuple[Input, Graph]:
        """The input c of size m, and the graph of J^T c over x and c."""
        cotangent = Input(self.output.size, "c")
        gradient = reverse(self.graph, self.output, self.input, cotangent)
        return cotangent, Graph((self.input, cotangent), (gradient,))

    def _batch(self, x: npt.ArrayLike) -> tuple[Vector, bool]:
        """Return the points as a batch of shape (n, d), and whether x was a single one."""
        try:
            points = np.asarray(x, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ModelError(f"points must be arrays of numbers: {error}") from None
        if not np.isfinite(points).all():
            raise ModelError("points must be finite numbers; some are NaN or infinite")
        size = self.input.size
        if points.shape in ((size,), self.input_shape):
            return points.reshape(1, size), True
        if points.ndim >= 1 and points.shape[1:] in ((size,), self.input_shape):
            return points.reshape(len(points), size), False
        shapes = " or ".join(map(str, dict.fromkeys([(size,), self.input_shape])))
        raise ModelError(
            f"expected a point of shape {shapes}, or a batch of them, not {points.shape}"
        )


def network(
    graph: Graph, *, input_shape: tuple[int, ...], output_shape: tuple[int, ...], name: str
) -> Network:
    """Make the network of a graph, with folded nodes (:func:`lipexact.graph.folding.fold`)."""
    # The nodes refuse products that overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        return Network(fold(graph), input_shape, output_shape, name)
