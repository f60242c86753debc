"""From a file to a model without local functions, with limits on sizes for untrusted files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeAlias

import onnx
import onnx.inliner

from lipexact.errors import LipExactError, ModelError
from lipexact.onnx import constants
from lipexact.onnx.nodes import canonical_domain, qualified_name, subgraphs

# Domain, name and overload of an operator or a function.
_Key: TypeAlias = tuple[str, str, str]


def load_model(
    model: str | os.PathLike[str] | onnx.ModelProto,
) -> tuple[onnx.ModelProto, str, Path | None]:
    """Read a model, and inline its local functions.

    Data in other files are left there.

    Parameters
    ----------
    model
        The path of a file, or a model, which is not changed.

    Returns
    -------
    tuple
        The model, a name for it, and its path if it comes from a file.

    Raises
    ------
    ModelError
        If there is no such model, or its functions or subgraphs are too many.
    """
    path = None
    if isinstance(model, onnx.ModelProto):
        proto = model
        name = model.graph.name or "network"
        what = "the model"
    else:
        try:
            path = Path(model)
        except TypeError:
            raise ModelError(
                "expected the path of an ONNX file or an onnx.ModelProto, not "
                f"{type(model).__name__}; a model of PyTorch or Keras is to be exported first"
            ) from None
        proto = _read(path)
        name = path.stem
        what = f"'{path}'"
    if not (proto.graph.node or proto.graph.input or proto.graph.output):
        raise ModelError(f"{what} is empty, or is not an ONNX model")
    _check_depth([proto.graph.node, *(function.node for function in proto.functions)])
    if proto.functions:
        proto = _inlined(proto)
        _check_depth([proto.graph.node])
    return proto, name, path


def _read(path: Path) -> onnx.ModelProto:
    """Read a file in any of ONNX's formats, without the data in other files."""
    try:
        _check_file(path)
        return onnx.load(path, load_external_data=False)
    except LipExactError:
        raise
    except OSError as error:
        raise ModelError(f"cannot read '{path}': {error.strerror or error}") from error
    except Exception as error:  # protobuf and the text formats each have errors of their own
        raise ModelError(f"'{path}' is not an ONNX model, or is corrupt: {error}") from error


def _check_file(path: Path) -> None:
    """Refuse what is not a regular file of a size that protobuf reads."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe may not end, nor some devices
        raise ModelError(
            f"cannot read '{path}': it is not a regular file; give the path of an ONNX file"
        )
    if status.st_size >= constants.MAX_FILE_BYTES:
        raise ModelError(
            f"'{path}' has {status.st_size} bytes, and an ONNX file has less than "
            f"{constants.MAX_FILE_BYTES}: weights that take more lie in a file beside the model "
            "(onnx.save with save_as_external_data=True)"
        )


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without local functions, unless it grows too large."""
    try:
        size = _inlined_bytes(proto)
        if size <= constants.MAX_INLINED_BYTES:
            return onnx.inliner.inline_local_functions(proto)
    except LipExactError:
        raise
    except Exception as error:  # errors from C++, of several types
        raise ModelError(f"the functions in the model cannot be inlined: {error}") from error
    raise ModelError(
        "the functions in the model call each other so often that without them its nodes take "
        f"{size:.3g} bytes; lipexact takes {constants.MAX_INLINED_BYTES} at most: "
        "export it without functions"
    )


def _inlined_bytes(proto: onnx.ModelProto) -> float:
    """Estimate how many bytes the nodes of a model take once its local functions are inlined.

    Nothing is inlined for that: a function that calls another one twice takes its own bytes and
    twice those of the other.
    """
    functions = {_key(function): list(_calls(function.node)) for function in proto.functions}
    below = {
        key: {call for call, _ in calls if call in functions} for key, calls in functions.items()
    }
    sizes: dict[_Key, float] = {}
    try:
        for key in TopologicalSorter(below).static_order():
            sizes[key] = sum(size + sizes.get(call, 0.0) for call, size in functions[key])
    except CycleError as error:
        names = ", ".join(f"'{qualified_name(*key[:2])}'" for key in error.args[1][:10])
        raise ModelError(f"functions in the model call each other in a circle: {names}") from None
    return sum(size + sizes.get(call, 0.0) for call, size in _calls(proto.graph.node))


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[_Key, float]]:
    """Yield for every node, also in subgraphs, what it calls and about how many bytes it takes."""
    stack = [*nodes]
    while stack:
        node = stack.pop()
        # Nodes in subgraphs count once on every level, which overestimates them a few times.
        yield (canonical_domain(node.domain), node.op_type, node.overload), 100.0 + node.ByteSize()
        stack += [each for graph in subgraphs(node) for each in graph.node]


def _key(function: onnx.FunctionProto) -> _Key:
    return canonical_domain(function.domain), function.name, function.overload


def _check_depth(graphs: Iterable[Iterable[onnx.NodeProto]]) -> None:
    """Refuse graphs, given by their nodes, with too many levels of subgraphs."""
    level = [*graphs]
    for _ in range(constants.MAX_GRAPH_LEVELS):
        level = [below.node for nodes in level for node in nodes for below in subgraphs(node)]
        if not level:
            return
    raise ModelError(
        f"the model has graphs within graphs, over {constants.MAX_GRAPH_LEVELS} levels; export it "
        "without subgraphs"
    )
