"""Weights that a model keeps in files beside its own.

onnx has guards of its own, which differ from version to version; these hold for all of them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container, Iterable, Iterator
from itertools import chain
from pathlib import Path

import onnx

from lipexact.errors import ModelError
from lipexact.onnx import constants
from lipexact.onnx.nodes import stored_bytes, subgraphs


def load_external(
    graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto], read: Container[str], model: Path
) -> None:
    """Read the data that lie in other files into the tensors of a graph.

    Parameters
    ----------
    graph
        The graph; only its initializers of the names in `read` are filled.
    nodes
        Nodes of the graph; their attributes and subgraphs are filled, too.
    read
        Names of tensors.
    model
        The model's path; the files must lie in the same folder, or below.

    Raises
    ------
    ModelError
        If a file lies elsewhere, is missing, or does not hold what the tensor needs.
    """
    total = 0
    for tensor in chain(_initializers(graph, read), *map(_attributes, nodes)):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        what = f"'{model}': the data of tensor '{tensor.name}'"
        count = stored_bytes(tensor, what)
        total += count
        if total > constants.MAX_MODEL_BYTES:
            raise ModelError(
                f"'{model}' reads more than {constants.MAX_MODEL_BYTES / 2**30:g} GiB of weights "
                "from other files"
            )
        entries = {entry.key: entry.value for entry in tensor.external_data}
        tensor.raw_data = _data(entries, model.parent, count, what)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _initializers(
    graph: onnx.GraphProto, read: Container[str] | None = None
) -> Iterator[onnx.TensorProto]:
    """Yield the initializers of the names in `read`; all of them if it is None."""
    yield from (tensor for tensor in graph.initializer if read is None or tensor.name in read)
    for sparse in graph.sparse_initializer:
        if read is None or sparse.values.name in read:
            yield from (sparse.values, sparse.indices)


def _attributes(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors in a node's attributes and subgraphs."""
    for attribute in node.attribute:
        yield from ([attribute.t] if attribute.HasField("t") else [])
        yield from attribute.tensors
        for sparse in [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []:
            yield from (sparse.values, sparse.indices)
    for graph in subgraphs(node):
        yield from chain(_initializers(graph), *map(_attributes, graph.node))


def _data(entries: dict[str, str], folder: Path, count: int, what: str) -> bytes:
    """Return the `count` bytes that the entries of a tensor's external_data point to."""
    path = _inside(folder, entries.get("location", ""), what)
    for key in ("offset", "length"):
        if not re.fullmatch("[0-9]{1,18}", entries.get(key, "0")):
            raise ModelError(f"{what} has the {key} '{entries[key]}'; it must be a number of bytes")
    offset = int(entries.get("offset", "0"))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would not end, nor some devices
            raise ModelError(f"{what} should be in '{path}', which is not a regular file")
        if status.st_nlink > 1:
            raise ModelError(
                f"{what} should be in '{path}', which is a hard link, perhaps to a file elsewhere; "
                "copy it"
            )
        length = int(entries.get("length", max(status.st_size - offset, 0)))
        if length != count or offset + count > status.st_size:
            raise ModelError(
                f"{what} has {count} bytes by its shape and type, and {length} from byte {offset} "
                f"on in the file '{path}' of {status.st_size} bytes; one of them is wrong, or the "
                "file is truncated"
            )
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(count)
    except OSError as error:
        raise ModelError(
            f"{what} cannot be read from '{path}': {error.strerror or error}"
        ) from error
    if len(data) < count:
        raise ModelError(f"{what} cannot be read from '{path}', which became shorter")
    return data


def _inside(folder: Path, location: str, what: str) -> Path:
    """Return the path of a file in a folder, with links followed.

    A path that leads out of the folder is refused.
    """
    if not location or "\0" in location or Path(location).is_absolute():
        raise ModelError(f"{what} is in '{location}', which is not a path relative to the model")
    root = os.path.realpath(folder)
    path = Path(os.path.realpath(Path(root, location)))
    if not path.is_relative_to(root):
        raise ModelError(
            f"{what} is in '{location}', which is outside the model's folder, and is not read; if "
            "you trust the model, copy that file beside it"
        )
    return path
