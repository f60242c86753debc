"""Nodes of the search tree, what expanding them yields, and the trace of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from lipexact.bab.propagation import Indices
from lipexact.graph.pattern import States
from lipexact.numerics.arrays import Vector
from lipexact.regions.heuristics import Incumbent
from lipexact.state import Decisions, Trace, TraceStep


@dataclass(eq=False)
class SearchNode:
    """A set of linear regions: those whose gates have these states.

    Whoever expands a node owns it and may refine it.

    Attributes
    ----------
    bound
        An upper bound of the norms of their Jacobians.
    states
        The states of all gates, a layer an array; they follow from `decisions`.
    decisions
        The gates that branching chose.
    points
        Indices of some points that lie in these regions.
    weights
        For each gate its share in the bound, relative to the largest share of its layer.
    """

    bound: float
    states: list[States]
    decisions: Decisions
    points: Indices
    weights: list[Vector]


@dataclass(frozen=True, eq=False)
class Expansion:
    """The result of expanding some nodes.

    Attributes
    ----------
    children
        The nodes that remain to be expanded.
    closed_bound
        The largest bound of the regions that need no further look, or that could not be decided.
    incumbent
        The best region so far.
    trace
        How the nodes were split, where that is kept.
    """

    children: list[SearchNode]
    closed_bound: float
    incumbent: Incumbent | None
    trace: Trace = field(default_factory=dict)


def merged(parts: Iterable[Mapping[Decisions, TraceStep]]) -> Trace:
    """Return one trace of several, where the deductions of a node add up in order.

    A node may occur twice: an earlier turn may have returned it whole, with some gates fixed.
    """
    whole: Trace = {}
    for part in parts:
        for decisions, step in part.items():
            before = whole[decisions].deductions if decisions in whole else ()
            whole[decisions] = replace(step, deductions=before + step.deductions)
    return whole
