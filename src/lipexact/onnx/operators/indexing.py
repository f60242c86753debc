"""Entries read from, or written to, places that constant indices name."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from lipexact.graph import lowering as lower
from lipexact.graph.ir import Value
from lipexact.numerics.arrays import Matrix
from lipexact.onnx.nodes import Constant, Indices, OnnxNode, Operand, Tensor
from lipexact.onnx.registry import lowers
from lipexact.onnx.tensors import (
    axis_of,
    indices_of,
    limit_entries,
    picked,
    positions_of,
    rearranged,
)


@lowers("Gather")
def _gather(node: OnnxNode, x: Operand, indices: Constant) -> Operand:
    """Take the entries at constant indices along an axis."""
    axis = axis_of(node, node.int("axis", 0), len(x.shape))
    limit_entries(node, math.prod(x.shape) // max(x.shape[axis], 1) * indices.size)
    return rearranged(
        node, x, np.take(positions_of(x), indices_of(node, indices, x.shape[axis]), axis)
    )


@lowers("GatherElements")
def _gather_elements(node: OnnxNode, x: Operand, indices: Constant) -> Operand:
    """Take the entry at each of an array of constant indices along an axis."""
    rank = len(x.shape)
    axis = axis_of(node, node.int("axis", 0), rank)
    outside = [each for each in range(rank) if each != axis]
    if indices.ndim != rank or any(indices.shape[each] > x.shape[each] for each in outside):
        raise node.malformed(
            f"the indices of shape {indices.shape} do not fit a tensor of shape {x.shape}"
        )
    rows = tuple(
        slice(None) if each == axis else slice(indices.shape[each]) for each in range(rank)
    )
    places = indices_of(node, indices, x.shape[axis])
    return rearranged(node, x, np.take_along_axis(positions_of(x)[rows], places, axis))


@lowers("GatherND")
def _gather_nd(node: OnnxNode, x: Operand, indices: Constant) -> Operand:
    """Take the entries, or parts, at tuples of constant indices."""
    batch = node.int("batch_dims", 0)
    if not 0 <= batch < min(indices.ndim, len(x.shape)) or indices.shape[:batch] != x.shape[:batch]:
        raise node.malformed(
            f"{batch} batch axes do not fit the shapes {x.shape} and {indices.shape}"
        )
    depth = indices.shape[-1]
    if not 1 <= depth <= len(x.shape) - batch:
        raise node.malformed(f"tuples of {depth} indices do not fit a tensor of shape {x.shape}")
    limit_entries(node, indices.size // depth * math.prod(x.shape[batch + depth :]))
    places: list[Indices] = list(np.ogrid[tuple(slice(length) for length in x.shape[:batch])])
    places = [place.reshape(*place.shape, *[1] * (indices.ndim - 1 - batch)) for place in places]
    places += [indices_of(node, indices[..., k], x.shape[batch + k]) for k in range(depth)]
    return rearranged(node, x, positions_of(x)[tuple(places)])


@lowers("ScatterElements")
def _scatter_elements(node: OnnxNode, x: Operand, indices: Constant, updates: Operand) -> Operand:
    """Replace, or add to, the entries at constant indices along an axis.

    Other reductions are refused.
    """
    rank = len(x.shape)
    axis = axis_of(node, node.int("axis", 0), rank)
    fits = indices.ndim == rank and all(
        each == axis or indices.shape[each] <= x.shape[each] for each in range(indices.ndim)
    )
    if not fits or indices.shape != updates.shape:
        raise node.malformed(
            f"indices {indices.shape} and updates {updates.shape} do not fit the shape {x.shape}"
        )
    places: list[Indices] = list(np.ogrid[tuple(slice(length) for length in indices.shape)])
    places[axis] = indices_of(node, indices, x.shape[axis])
    return _scattered(node, x, positions_of(x)[tuple(places)], updates)


@lowers("ScatterND")
def _scatter_nd(node: OnnxNode, x: Operand, indices: Constant, updates: Operand) -> Operand:
    """Replace, or add to, the entries, or parts, at tuples of constant indices.

    Other reductions are refused.
    """
    depth = indices.shape[-1] if indices.ndim else 0
    if not 1 <= depth <= len(x.shape) or updates.shape != (*indices.shape[:-1], *x.shape[depth:]):
        raise node.malformed(
            f"indices {indices.shape} and updates {updates.shape} do not fit the shape {x.shape}"
        )
    places = tuple(indices_of(node, indices[..., k], x.shape[k]) for k in range(depth))
    return _scattered(node, x, positions_of(x)[places], updates)


def _scattered(node: OnnxNode, x: Operand, places: Indices, updates: Operand) -> Operand:
    """Return x with the updates at the given places of the flat x, or added there."""
    reduction = node.string("reduction", "none")
    places = places.ravel()
    if reduction not in ("none", "add"):
        raise node.unsupported(
            f"lipexact does not know the reduction '{reduction}'; it knows 'none' and 'add'"
        )
    if reduction == "none" and np.unique(places).size < places.size:
        raise node.malformed("its indices name an entry twice")
    kept = np.ones(x.shape)
    if reduction == "none":
        kept.ravel()[places] = 0.0
    moved = sp.csr_array(
        (np.ones(places.size), (places, np.arange(places.size))), shape=(kept.size, places.size)
    )
    terms: list[tuple[Matrix, Value]] = []
    bias = np.zeros(kept.size)
    if isinstance(x, Tensor):
        terms.append(picked(x, x.positions, kept))
    else:
        bias += (kept * node.weights(x)).ravel()
    if isinstance(updates, Tensor):
        terms.append((moved, updates.value))
    else:
        bias += moved @ node.weights(updates).ravel()
    return Tensor(lower.add(*terms, bias=bias, name=node.name), x.shape)
