"""Networks beyond plain layers, and the exact value of every node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import scipy.sparse as sp

from lipexact.graph import lowering as lower
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.graph.lowering import relu, scaled
from lipexact.network import Network, network
from lipexact.numerics.arrays import dense
from lipexact.onnx.naming import with_unique_names

Numbers = Callable[..., np.ndarray]


def gaussian(rng: np.random.Generator) -> Numbers:
    return lambda *shape: rng.normal(size=shape)


def integers(rng: np.random.Generator) -> Numbers:
    """Ties and kinks of every sort at integer points."""
    return lambda *shape: rng.integers(-2, 3, shape).astype(np.float64)


def random_network(
    rng: np.random.Generator, numbers: Numbers, steps: int, inputs: int, width: int = 5
) -> Network:
    """A graph of dense, sparse and several-term affine nodes, residual sums and every lowering."""
    x = Input(inputs)
    nodes: list[Value] = [x]
    for _ in range(steps):
        a = nodes[int(rng.integers(max(0, len(nodes) - 3), len(nodes)))]
        same = [node for node in nodes if node.size == a.size]
        b = same[int(rng.integers(len(same)))]
        kind = rng.choice(
            ["affine", "affine", "relu", "relu", "residual", "leaky", "abs", "max", "min", "reduce"]
        )
        match str(kind):
            case "affine":
                rows = int(rng.integers(1, width + 1))
                reads = {a, nodes[int(rng.integers(len(nodes)))]}
                terms = []
                for node in sorted(reads, key=nodes.index):
                    weight = numbers(rows, node.size) * (
                        rng.random((rows, node.size)) < rng.choice([0.4, 1.0])
                    )
                    terms.append((sp.csr_array(weight) if rng.random() < 0.5 else weight, node))
                nodes.append(Affine(tuple(terms), numbers(1, rows)[0] * (rng.random() < 0.8)))
            case "relu":
                nodes.append(relu(a))
            case "residual":
                nodes.append(lower.add(scaled(1.0, a), scaled(numbers(1, a.size)[0], b)))
            case "leaky":
                nodes.append(lower.leaky_relu(a, rng.choice([0.0, 0.25, -0.5, 0.01])))
            case "abs":
                nodes.append(lower.absolute(a))
            case "max":
                nodes.append(lower.maximum(a, b))
            case "min":
                nodes.append(lower.minimum(a, b))
            case "reduce":
                nodes.append(lower.reduce_max(a))
    last = nodes[-1]
    output = Affine(((numbers(2, last.size), last),), numbers(1, 2)[0])
    return network(Graph((x,), (output,)), input_shape=(inputs,), output_shape=(2,), name="random")


def evaluate_exactly(
    graph: Graph, inputs: Mapping[Input, np.ndarray], gate: Callable[[Conditional, int], int]
) -> dict[Node, list[Fraction]]:
    """The value of every node at one point in rationals; `gate` chooses where a gate's input is
    0.
    """
    values: dict[Node, list[Fraction]] = {}
    for node in graph.nodes:
        match node:
            case Input():
                values[node] = [Fraction(entry) for entry in inputs[node].tolist()]
            case Affine():
                total = [Fraction(entry) for entry in node.bias.tolist()]
                for weight, x in node.terms:
                    for i, row in enumerate(dense(weight).tolist()):
                        products = (
                            Fraction(w) * v for w, v in zip(row, values[x], strict=True) if w
                        )
                        total[i] += sum(products, Fraction(0))
                values[node] = total
            case Conditional():
                states = [
                    gate(node, i) if z == 0 else int(z > 0) for i, z in enumerate(values[node.x])
                ]
                values[node] = [Fraction(state) for state in states]
            case Switch():
                values[node] = [
                    z if a else Fraction(0)
                    for z, a in zip(values[node.x], values[node.gate], strict=True)
                ]
    return values


def branched() -> Network:
    """A graph with residual adds, leaky relus, abs, max and a switch under another value's gate."""
    rng = np.random.default_rng(7)
    x = Input(3)
    a = Affine(((rng.normal(size=(4, 3)), x),), rng.normal(size=4), "a")
    b = lower.add(
        (np.eye(4), lower.leaky_relu(a, 0.1, "b")), (rng.normal(size=(4, 3)), x), name="b_add"
    )
    c = lower.maximum(lower.absolute(b, "c_abs"), a, "c")
    d = lower.relu(x, "d")  # reads the input itself
    gate = lower.relu(c, "e").gate
    e = Switch(b, gate, "e_other")
    output = Affine(
        ((rng.normal(size=(2, 4)), c), (rng.normal(size=(2, 3)), d), (rng.normal(size=(2, 4)), e)),
        np.ones(2),
    )
    return network(Graph((x,), (output,)), input_shape=(3,), output_shape=(2,), name="branched")


def stacked(networks: Sequence[Network]) -> Network:
    """Side by side: a network whose input and output are those of the given ones, end to end."""
    sizes = [each.input.size for each in networks]
    x = Input(sum(sizes))
    offsets = np.cumsum([0, *sizes])
    blocks: list[Value] = []
    for number, each in enumerate(networks):
        selection = sp.csr_array(sp.eye_array(sizes[number], x.size, k=int(offsets[number])))
        own = Affine(((selection, x),), np.zeros(sizes[number]), "part")
        blocks.append(_with_input(each.graph, own))
    ends = np.cumsum([0, *(block.size for block in blocks)])
    terms = [
        (sp.csr_array(sp.eye_array(int(ends[-1]), block.size, k=-int(start))), block)
        for block, start in zip(blocks, ends[:-1], strict=True)
    ]
    graph = with_unique_names(Graph((x,), (lower.add(*terms),)))
    return network(graph, input_shape=(x.size,), output_shape=(int(ends[-1]),), name="stacked")


def _with_input(graph: Graph, x: Value) -> Value:
    """The only output of a graph, read of x instead of its own input."""
    (own,), (output,) = graph.inputs, graph.outputs
    new: dict[Node, Node] = {own: x}
    for node in graph.nodes:
        match node:
            case Affine():
                new[node] = replace(node, terms=tuple((w, new[a]) for w, a in node.terms))
            case Conditional():
                new[node] = replace(node, x=new[node.x])
            case Switch():
                new[node] = replace(node, x=new[node.x], gate=new[node.gate])
    return new[output]
