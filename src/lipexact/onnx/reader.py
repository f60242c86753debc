"""From an ONNX model to a network.

Weights are read exactly and all arithmetic on them is in float64, whatever the types in the model.
Only nodes that the output depends on are looked at. A node whose inputs are all constant is evaluated
by the reference implementation of ONNX, in the model's own types: float32 constants are rounded as a
runtime would round them.

The first axis of an input of rank 2 or more is the batch axis, unless one says otherwise. A network is read for a
batch of one.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from itertools import chain, zip_longest
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
import scipy.sparse as sp
from onnx.reference import ReferenceEvaluator
from typing_extensions import assert_never

from lipexact.errors import LipExactError, ModelError, UnsupportedOperatorError
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.graph.ir import operands as operands_of
from lipexact.network import Network, network
from lipexact.numerics.arrays import Matrix
from lipexact.onnx.external import load_external
from lipexact.onnx.files import load_model
from lipexact.onnx.nodes import (
    FLOAT_TYPES,
    LARGEST,
    MOST_BYTES,
    WIDEST,
    Constant,
    OnnxNode,
    Operand,
    Shape,
    Tensor,
    canonical_domain,
    constant_array,
    dense_array,
    finite_array,
    held_here,
    subgraphs,
)
from lipexact.onnx.registry import FINAL, NEWEST_OPSET, find_operator
from lipexact.onnx.tensors import limit

# Not a function of their inputs alone.
_RANDOM = frozenset(
    ("Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike")
)

# Of these the reference implementation evaluates some wrongly: BatchNormalization of opset 9 as in training, groups of
# ConvTranspose, SAME_LOWER of pools, scales of Resize that are no whole numbers. Their lowerings do it.
_LOWERED = frozenset(
    ("AveragePool", "BatchNormalization", "ConvTranspose", "MaxPool", "Resize", "Upsample")
)

# Values of their inputs or attributes, and not the shapes, say how large their outputs are.
_SIZED_BY_VALUES = frozenset(
    "AffineGrid BlackmanWindow CenterCropPad Col2Im ConstantOfShape DFT Expand HammingWindow HannWindow "
    "MelWeightMatrix OneHot Pad Range Tile".split()
)

# Of these neither shapes nor sizes say how much memory or time the reference implementation takes.
_UNBOUNDED = frozenset(
    "DeformConv GridSample ImageDecoder MaxRoiPool MaxUnpool NonMaxSuppression RegexFullMatch RoiAlign STFT "
    "TfIdfVectorizer ai.onnx.ml.TreeEnsemble ai.onnx.ml.TreeEnsembleClassifier ai.onnx.ml.TreeEnsembleRegressor".split()
)

_LONGEST_MESSAGE, _LONGEST_NAME = 2000, 200

# What comes between the last activation of a classifier and its output: labels, one minus the probability.
_AROUND_FINAL = frozenset(
    "ArrayFeatureExtractor Binarizer Cast Concat Flatten Identity LabelEncoder Reshape Squeeze Sub Transpose Unsqueeze "
    "ZipMap".split()
)

_Path: TypeAlias = "str | os.PathLike[str]"


def read_onnx(
    model: _Path | onnx.ModelProto,
    *,
    input: str | None = None,  # noqa: A002 - what ONNX calls it
    output: str | None = None,
    fixed: Mapping[str, npt.ArrayLike] | None = None,
    drop_final: bool = False,
    batched: bool = True,
) -> Network:
    """Read a feed-forward piecewise-linear network.

    Parameters
    ----------
    model
        The path of an ONNX file, or a loaded model.
    input
        The name of the input x. None: the only one that the output depends on and that is not fixed.
    output
        The name of the output, or of an inner tensor, which cuts the network there. None: the model's only output.
    fixed
        Constants for further inputs, by name, of the shapes that the model declares, or flat, or without the batch
        axis.
    drop_final
        Whether to leave out what the output ends in: Softmax, LogSoftmax, Sigmoid, Tanh, Softplus, ArgMax or
        Hardmax, and what reshapes its result.
    batched
        Whether the first axis of inputs with two or more is the batch axis, which is then read as of length 1.

    Returns
    -------
    Network
        With the shapes of the model's input and output without their batch axis.

    Raises
    ------
    ModelError
        If the file cannot be read, the model is malformed, or it is not a function from one tensor of
        floats of known size to one tensor.
    UnsupportedOperatorError
        If the output depends on an operator, or a use of an operator, that lipexact does not support.
    """
    with _plain_messages():
        return _network(model, input, output, fixed or {}, drop_final=drop_final, batched=batched)


@contextmanager
def _plain_messages() -> Iterator[None]:
    """Errors of one line that is not too long, whatever names the file has."""
    try:
        yield
    except LipExactError as error:
        message = str(error)
        if len(message) > _LONGEST_MESSAGE:
            half = _LONGEST_MESSAGE // 2 - 20
            message = f"{message[:half]} [...] {message[-half:]}"
        message = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in message)
        if message == str(error):
            raise
        raise type(error)(message[:_LONGEST_MESSAGE]) from None


def _network(
    model: _Path | onnx.ModelProto,
    input_name: str | None,
    output: str | None,
    fixed: Mapping[str, npt.ArrayLike],
    *,
    drop_final: bool,
    batched: bool,
) -> Network:
    proto, name, path = load_model(model)
    graph = proto.graph
    producers = _producers(graph)
    target = _output(graph, producers, output)
    if drop_final:
        target = _before_final(graph, producers, target)
    nodes = list(_needed(graph, producers, target))
    constants = _fixed(graph, fixed, batched=batched)
    read = {*chain.from_iterable(map(_reads, nodes)), target}
    info = _input(graph, read, input_name, constants)
    shape = _input_shape(info, batched=batched)
    x = Input(math.prod(shape), info.name)
    if path is not None:
        load_external(graph, nodes, read, path)
    tensors = _Tensors(proto, {info.name: Tensor(x, shape), **constants})
    for node in nodes:
        tensors.evaluate(node)
    result = tensors[target]
    if 0 in result.shape:
        raise ModelError(f"the output '{target}' of shape {result.shape} is empty")
    if isinstance(result, Tensor):
        value = result.value
    else:
        value = Affine((), finite_array(result, f"the output '{target}'").ravel(), target)
    single = batched and len(shape) > 1
    return network(
        _named(Graph((x,), (value,))),
        input_shape=shape[1:] if single else shape,
        output_shape=result.shape[1:]
        if single and len(result.shape) > 1 and result.shape[0] == 1
        else result.shape,
        name=name,
    )


class _Memory:
    """How much memory the constants and the coefficients of a model take so far."""

    def __init__(self) -> None:
        self._bytes = 0
        self._seen: set[Node] = set()

    def add(self, operand: Operand | None, what: object) -> None:
        """Count an operand, and what it depends on.

        Raises
        ------
        ModelError
            If that is too much.
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
        if self._bytes > MOST_BYTES:
            raise ModelError(
                f"{what}: up to there the model needs more than {MOST_BYTES / 2**30:g} GiB for its constants and "
                "coefficients, which is all that lipexact takes; read a smaller part, lipexact.load(model, output=...)"
            )


def _bytes(matrix: Matrix) -> int:
    parts = (matrix.data, matrix.indices, matrix.indptr) if sp.issparse(matrix) else (matrix,)
    return sum(part.nbytes for part in parts)


class _Tensors:
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
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        known: dict[str, Operand],
        graph: onnx.GraphProto | None = None,
        outer: _Tensors | None = None,
    ) -> None:
        graph = proto.graph if graph is None else graph
        self._proto = proto
        self._known = known
        self._inputs = frozenset(known)
        self._outer = outer
        self._memory: _Memory = _Memory() if outer is None else outer._memory
        self._missing: dict[str, OnnxNode] = {}
        self._dense = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self._opsets = {
            canonical_domain(entry.domain): entry.version for entry in proto.opset_import
        }
        versions = {(canonical_domain(entry.domain), entry.version) for entry in proto.opset_import}
        if len(versions) > len(self._opsets) or min(self._opsets.values(), default=1) < 1:
            raise ModelError(
                "the model's operator sets must have one version each, from 1 on; export it again"
            )
        if self._opsets.get("", 1) > NEWEST_OPSET:
            raise UnsupportedOperatorError(
                f"the model uses opset {self._opsets['']}, and lipexact knows opsets up to {NEWEST_OPSET}: "
                "export it for an older one, or convert it with onnx.version_converter"
            )

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
        # Files older than IR version 3 name no operator sets.
        operands = [self[name] if name else None for name in proto.input]
        below = (
            name
            for name in proto.input
            if isinstance(self._known.get(name), Tensor) and name not in self._inputs
        )
        node = OnnxNode(proto, self._opsets.get(canonical_domain(proto.domain), 1), next(below, ""))
        constants = [operand for operand in operands if not isinstance(operand, Tensor)]
        foldable = len(constants) == len(operands) and any(
            operand is not None for operand in constants
        )
        foldable = foldable and not subgraphs(proto) and proto.op_type not in _RANDOM
        if foldable and node.operator in _LOWERED and isinstance(constants[0], np.ndarray):
            values = Affine((), node.weights(constants[0]).ravel(), f"{node.name}_constant")
            operands[0], foldable = Tensor(values, constants[0].shape), False
        try:
            with np.errstate(all="ignore"):
                if node.operator == "If":
                    results = self._branch(node, operands)
                elif foldable:
                    results = self._folded(node, constants)
                else:
                    results = find_operator(node).lower(node, operands)
        except LipExactError:
            raise
        except MemoryError as error:
            raise node.unsupported(f"it needs too much memory: {error}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # What the lowerings do not check by themselves, such as an axis without sense.
            raise node.malformed(f"it is malformed: {error}") from error
        for name, result in zip_longest(proto.output, results):
            # Empty constants are usual: a list of no axes, the shape of a scalar.
            if isinstance(result, Tensor) and 0 in result.shape:
                raise node.malformed(f"its output '{name}' of shape {result.shape} is empty")
            if name and result is None:
                self._missing[name] = node
            elif name:
                self._known[name] = result
                self._memory.add(result, node)

    def _branch(self, node: OnnxNode, operands: Sequence[Operand | None]) -> tuple[Operand, ...]:
        """The outputs of an If whose condition is constant, as exporters write it around a Squeeze."""
        (condition,) = operands
        if not isinstance(condition, np.ndarray):
            raise node.unsupported(
                "its condition depends on the input of the network, and it is not continuous"
            )
        graph = node.graph("then_branch" if condition.any() else "else_branch")
        inner = _Tensors(self._proto, {}, graph, self)
        producers = _producers(graph)
        outputs = [info.name for info in graph.output]
        for each in _needed(graph, producers, *outputs):
            inner.evaluate(each)
        return tuple(inner[name] for name in outputs)

    def _folded(self, node: OnnxNode, constants: list[Constant | None]) -> tuple[Constant, ...]:
        feeds = {
            name: array
            for name, array in zip(node.proto.input, constants, strict=True)
            if array is not None
        }
        read = sum(array.size for array in constants if array is not None)
        _check_foldable(node, feeds, read)
        try:
            model = onnx.helper.make_model(
                onnx.helper.make_graph(
                    [node.proto],
                    "folded",
                    [
                        onnx.helper.make_tensor_value_info(
                            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                        )
                        for name, array in feeds.items()
                    ],
                    [
                        onnx.helper.make_empty_tensor_value_info(name)
                        for name in node.proto.output
                        if name
                    ],
                ),
                opset_imports=[onnx.helper.make_opsetid(node.domain, node.opset)],
                ir_version=max(self._proto.ir_version, 3),
            )
            _limit_folded(node, _size(model, feeds, propagate=read <= 2**16))
            results = ReferenceEvaluator(model).run(None, feeds)
            arrays = iter([np.asarray(result) for result in results])
        except LipExactError:
            raise
        except Exception as error:  # whatever the implementation of that operator raises
            raise node.unsupported(
                f"it cannot be evaluated on its constant inputs, perhaps for its opset: {error}"
            ) from error
        return tuple(next(arrays) if name else np.zeros(1) for name in node.proto.output)


def _check_foldable(node: OnnxNode, feeds: Mapping[str, Constant], read: int) -> None:
    # What the reference implementation had better not be given.
    limit(node, read)
    if node.operator in _UNBOUNDED:
        raise node.unsupported(
            "lipexact does not evaluate it, not on constants either: it may take any time or memory"
        )
    if node.operator != "Identity" and any(array.dtype.kind in "OSUT" for array in feeds.values()):
        raise node.unsupported("it cannot be evaluated on its constant inputs, which are strings")
    for attribute in node.proto.attribute:
        for tensor in (attribute.t, *attribute.tensors, attribute.sparse_tensor.values):
            held_here(tensor, f"{node}: attribute '{attribute.name}'")


def _limit_folded(node: OnnxNode, size: int | None) -> None:
    if size is None and node.operator in _SIZED_BY_VALUES:
        raise node.unsupported(
            "it cannot be evaluated on its constant inputs: how large its output is, ONNX cannot tell"
        )
    limit(node, size or 0)


def _size(model: onnx.ModelProto, feeds: Mapping[str, Constant], *, propagate: bool) -> int | None:
    """How many entries the outputs of a model of one node have; None if ONNX cannot tell without computing them.

    Propagating values of large inputs takes hundreds of bytes for each.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    small = {
        name: array
        for name, array in feeds.items()
        if array.dtype.kind in "iuf" and array.size <= 1024
    }
    sized.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in small.items()
    )
    try:
        inferred = onnx.shape_inference.infer_shapes(sized, data_prop=propagate)
    except (
        onnx.shape_inference.InferenceError,
        RuntimeError,
        ValueError,
    ):  # the reference implementation will say what is wrong
        return None
    tensors = [info.type.tensor_type for info in inferred.graph.output]
    if not all(tensor.HasField("shape") for tensor in tensors):
        return None
    dims = [tensor.shape.dim for tensor in tensors]
    if not all(dim.HasField("dim_value") for shape in dims for dim in shape):
        return None
    return max((math.prod(dim.dim_value for dim in shape) for shape in dims), default=0)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node reads, those in its subgraphs included that these do not compute themselves."""
    yield from filter(None, node.input)
    for graph in subgraphs(node):
        own = {name for each in graph.node for name in each.output} | {
            info.name for info in graph.input
        }
        own |= {tensor.name for tensor in graph.initializer}
        used = {
            *chain.from_iterable(map(_reads, graph.node)),
            *(info.name for info in graph.output),
        }
        yield from sorted(used - own)


def _input_infos(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    # Before IR version 4 the weights had to be listed among the inputs.
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [info for info in graph.input if info.name not in weights]


def _lengths(info: onnx.ValueInfoProto, *, batched: bool) -> list[int]:
    """The lengths of an input's axes, 0 where the model does not say; of a batch axis 1, then."""
    dims = info.type.tensor_type.shape.dim
    lengths = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else 0 for dim in dims]
    if batched and len(lengths) > 1 and lengths[0] < 1:
        lengths[0] = 1
    return lengths


def _fixed(
    graph: onnx.GraphProto, fixed: Mapping[str, npt.ArrayLike], *, batched: bool
) -> dict[str, Operand]:
    infos = {info.name: info for info in graph.input}
    constants: dict[str, Operand] = {}
    for name, value in fixed.items():
        if name not in infos:
            raise ModelError(
                f"fixed names '{name}', which is not an input of the model: {_listed(infos)}"
            )
        tensor = infos[name].type.tensor_type
        lengths = _lengths(infos[name], batched=batched)
        array = _of_type(value, tensor.elem_type, f"the value fixed for input '{name}'")
        if array.size == 1 and 0 not in lengths:
            if math.prod(lengths) > LARGEST:
                raise ModelError(
                    f"input '{name}' of shape {lengths} has more than {LARGEST} entries"
                )
            array = np.full(lengths, array.item(), dtype=array.dtype)
        elif array.ndim == 1 and array.size == math.prod(lengths):
            array = array.reshape(lengths)
        elif batched and array.ndim == len(lengths) - 1:
            array = array[None]
        fits = len(lengths) == array.ndim and all(
            length in (0, got) for length, got in zip(lengths, array.shape, strict=True)
        )
        if tensor.HasField("shape") and not fits:
            shown = [length or "?" for length in lengths]
            raise ModelError(
                f"the value fixed for input '{name}' has shape {np.shape(value)}; it needs {shown}"
            )
        constants[name] = array
    return constants


def _of_type(value: npt.ArrayLike, kind: int, what: str) -> Constant:
    """An array of an ONNX element type, which holds the very numbers, but for the rounding of floats."""
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


def _input(
    graph: onnx.GraphProto, read: Container[str], name: str | None, fixed: Container[str]
) -> onnx.ValueInfoProto:
    """The input of the given name, or the only one that is read and not fixed."""
    infos = _input_infos(graph)
    if name is not None:
        info: onnx.ValueInfoProto | None = next(
            (info for info in graph.input if info.name == name), None
        )
        if info is None:
            raise ModelError(
                f"the model has no input '{name}': {_listed(info.name for info in graph.input)}"
            )
        if name in fixed:
            raise ModelError(f"input '{name}' cannot be both the network's input and fixed")
        missing = [
            info.name
            for info in infos
            if info.name in read and info.name not in fixed and info.name != name
        ]
        if missing:
            raise ModelError(
                f"the output depends on the input{'s' * (len(missing) > 1)} {_listed(missing)}, too: give a constant, "
                f"fixed={{'{missing[0]}': ...}}"
            )
        return info
    if not infos:
        raise ModelError("the model has no input: every entry of graph.input has an initializer")
    free = [info for info in infos if info.name not in fixed]
    # An output that depends on no input is a constant function of the only one.
    used = [info for info in free if info.name in read] or free
    if not used:
        raise ModelError(
            f"fixed names all inputs ({_listed(info.name for info in infos)}); leave one of them free"
        )
    if len(used) > 1:
        names = [info.name for info in used]
        raise ModelError(
            f"the output depends on {len(used)} inputs ({_listed(names)}), and a network has one: fix the others to "
            f"constants, lipexact.load(model, input='{names[0]}', fixed={{'{names[1]}': ...}})"
        )
    return used[0]


def _input_shape(info: onnx.ValueInfoProto, *, batched: bool) -> Shape:
    """The shape of the input, with a batch axis of length 1."""
    kind = info.type.WhichOneof("value")
    tensor = info.type.tensor_type
    if kind != "tensor_type" or tensor.elem_type not in FLOAT_TYPES:
        types = {number: name for name, number in onnx.TensorProto.DataType.items()}
        held = (
            types.get(tensor.elem_type, "an unknown type")
            if kind == "tensor_type"
            else kind or "nothing"
        )
        raise ModelError(f"input '{info.name}' holds {held}; it must be a tensor of floats")
    dims = list(tensor.shape.dim)
    lengths = _lengths(info, batched=batched)
    batched = batched and len(lengths) > 1
    if not tensor.HasField("shape") or any(length < 1 for length in lengths):
        shown = [dim.dim_param or length or "?" for dim, length in zip(dims, lengths, strict=True)]
        shape = f"[{', '.join(map(str, shown))}]" if tensor.HasField("shape") else "unknown"
        raise ModelError(
            f"input '{info.name}' has the shape {shape}: every axis but the batch axis, which is the first of two or "
            "more, must have a known length; onnx.tools.update_model_dims can set them"
        )
    if batched and lengths[0] > 1:
        raise ModelError(
            f"input '{info.name}' of shape {lengths} has a batch of {lengths[0]}: export the model with a batch of 1 "
            "or a dynamic batch axis, or set it with onnx.tools.update_model_dims; if its first axis is no batch axis, "
            "lipexact.load(model, batched=False)"
        )
    if math.prod(lengths) > WIDEST:
        raise ModelError(f"input '{info.name}' of shape {lengths} has more than {WIDEST} entries")
    return tuple(lengths)


def _output(graph: onnx.GraphProto, producers: Mapping[str, int], name: str | None) -> str:
    names: list[str] = [info.name for info in graph.output]
    if name is not None:
        tensors = {*producers, *names, *(info.name for info in graph.input)}
        if name not in tensors:
            close = difflib.get_close_matches(str(name), sorted(tensors), n=3)
            hint = f"; did you mean {_listed(close)}?" if close else ""
            raise ModelError(
                f"the model computes no tensor '{name}'; its outputs are {_listed(names)}{hint}"
            )
        return name
    if len(names) != 1:
        listed = f" ({_listed(names)})" if names else ""
        # Labels are integers, and of no use here.
        floats = (
            info.name for info in graph.output if info.type.tensor_type.elem_type in FLOAT_TYPES
        )
        others = (info.name for info in graph.output if not info.type.HasField("tensor_type"))
        first = next(chain(floats, others, names), "")
        hint = (
            f": choose one, lipexact.load(model, output='{first}'), with drop_final=True if it ends in a Softmax"
            if names
            else ""
        )
        raise ModelError(
            f"the model has {len(names) or 'no'} output{'s' * bool(names)}{listed}, and a network has one{hint}"
        )
    return names[0]


def _before_final(graph: onnx.GraphProto, producers: Mapping[str, int], target: str) -> str:
    """What the last activation reads, or the one below that if there are several, through which all else goes."""
    nodes = list(_needed(graph, producers, target))
    varying = {info.name for info in _input_infos(graph)}
    for node in nodes:
        if node.op_type not in ("Shape", "Size") and not varying.isdisjoint(_reads(node)):
            varying.update(node.output)
    reached, ending = {target}, "is an input"
    found: str | None = None
    for node in reversed(nodes):
        outputs = reached.intersection(node.output)
        if not outputs:
            continue
        if node.op_type in FINAL and not (node.input and reached == outputs):
            ending = f"depends on more than its {node.op_type}"
            break
        if node.op_type in FINAL:
            found = node.input[0]
        elif node.op_type not in _AROUND_FINAL or (
            node.op_type == "Sub" and node.input[0] in varying
        ):
            ending = f"ends in {node.op_type}"
            break
        reached = (reached - outputs) | varying.intersection(node.input)
    if found is None:
        raise ModelError(
            f"drop_final leaves out one of {', '.join(sorted(FINAL))}, and the output '{target}' {ending}; "
            "name the tensor that shall be the output: lipexact.load(model, output='NAME')"
        )
    return found


def _listed(names: Iterable[str]) -> str:
    listed = [f"'{name}'" for name in names]
    more = [f"and {len(listed) - 10} others"] if len(listed) > 11 else []
    return ", ".join([*listed[:10], *more] if more else listed) or "none"


def _producers(graph: onnx.GraphProto) -> dict[str, int]:
    """For each tensor that the graph computes the index of its node."""
    producers: dict[str, int] = {}
    weights = [tensor.name for tensor in graph.initializer] + [
        each.values.name for each in graph.sparse_initializer
    ]
    for names in (weights, [info.name for info in graph.input]):
        if len(set(names)) < len(names):
            twice = (name for name, count in Counter(names).items() if count > 1)
            raise ModelError(
                f"the model has several inputs, or several initializers, of the name {_listed(twice)}"
            )
    inputs = {info.name for info in graph.input}.union(weights)
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in producers or name in inputs:
                raise ModelError(
                    f"the model computes tensor '{name}' twice, or it is an input or an initializer, too"
                )
            producers[name] = index
    return producers


def _needed(
    graph: onnx.GraphProto, producers: Mapping[str, int], *targets: str
) -> Iterator[onnx.NodeProto]:
    """The nodes that the targets depend on, each after those that it depends on."""
    dependencies: dict[int, list[int]] = {}
    stack = [producers[target] for target in targets if target in producers]
    while stack:
        index = stack.pop()
        if index not in dependencies:
            dependencies[index] = [
                producers[name] for name in _reads(graph.node[index]) if name in producers
            ]
            stack += dependencies[index]
    try:
        order = list(TopologicalSorter(dict(sorted(dependencies.items()))).static_order())
    except CycleError as error:
        names = _listed(graph.node[index].output[0] for index in error.args[1])
        raise ModelError(
            f"the model has a cycle through {names}; lipexact reads feed-forward networks"
        ) from None
    return (graph.node[index] for index in order)


def _named(graph: Graph) -> Graph:
    # The same graph under unique names of letters, digits and underscores, for models in text formats.
    taken: set[str] = set()
    counts: Counter[str] = Counter()

    def name(node: Node) -> str:
        plain = (
            re.sub(r"[^A-Za-z0-9_]+", "_", node.name[:_LONGEST_NAME]).strip("_")
            or type(node).__name__.lower()
        )
        # A leading digit would make a number of some names.
        base = candidate = f"t{plain}" if plain[0].isdigit() else plain
        counts[base] += 1
        while candidate in taken:
            counts[base] += 1
            candidate = f"{base}_{counts[base]}"
        taken.add(candidate)
        return candidate

    inputs = tuple(replace(node, name=name(node)) for node in graph.inputs)
    new: dict[Node, Node] = dict(zip(graph.inputs, inputs, strict=True))

    def value(node: Value) -> Value:
        renamed = new[node]
        assert not isinstance(renamed, Conditional)
        return renamed

    for node in graph.nodes:
        match node:
            case Input():
                pass
            case Affine():
                new[node] = replace(
                    node, terms=tuple((w, value(x)) for w, x in node.terms), name=name(node)
                )
            case Conditional():
                new[node] = replace(node, x=value(node.x), name=name(node))
            case Switch():
                gate = new[node.gate]
                assert isinstance(gate, Conditional)
                new[node] = replace(node, x=value(node.x), gate=gate, name=name(node))
            case _:
                assert_never(node)
    return Graph(inputs, tuple(value(output) for output in graph.outputs))
