"""Branch and bound with other workers."""

from __future__ import annotations

import os
import pickle
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import lipexact as lx
from lipexact.bab import constants
from lipexact.bab import driver as tree
from lipexact.bab.expand import NodeExpander
from lipexact.bab.node import SearchNode
from lipexact.bab.propagation import Points
from lipexact.bab.tasks import Subtree, SubtreeResult, SubtreeSearch, expand_subtree, pack, unpack
from lipexact.bounds.formulation import checked_norm_sets, formulate
from lipexact.graph.pattern import ON
from lipexact.workers import WorkerPool
from tests.support import oracle
from tests.support.executors import CopyingWorkers, Held
from tests.support.networks import case, random_weights, to_network

pytestmark = pytest.mark.slow  # searches with several workers


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers take part from the start, and answer often."""
    monkeypatch.setattr(constants, "ALONE_SECONDS", -1.0)
    monkeypatch.setattr(constants, "WORTHWHILE_SECONDS", 0.0)
    monkeypatch.setattr(constants, "SHORT_SLICE_SECONDS", 0.05)
    monkeypatch.setattr(constants, "LONG_SLICE_SECONDS", 0.1)


@cache
def question(seed: int = 3) -> tuple[lx.Network, lx.Box]:
    """Some hundred nodes."""
    net = to_network(random_weights(np.random.default_rng(seed), (4, 12, 10, 2)))
    return net, lx.Box(-np.ones(4), np.ones(4))


@cache
def small() -> tuple[lx.Network, lx.Box]:
    """About fifty nodes, but for some norms."""
    return to_network(random_weights(np.random.default_rng(4), (3, 8, 8, 2))), lx.Box(
        -np.ones(3), np.ones(3)
    )


@cache
def alone(**options: Any) -> lx.LipschitzResult:
    return lx.lipschitz(*question(), method="bab", **options)


def same(both: lx.LipschitzResult, one: lx.LipschitzResult) -> None:
    """Both have the constant, and others had a share in it."""
    assert one.status is both.status is lx.Status.EXACT
    assert both.value == pytest.approx(one.value, rel=1e-9)
    assert both.lower <= one.upper * (1 + 1e-12)
    assert both.upper >= one.lower * (1 - 1e-12)
    assert both.witness is not None


@pytest.mark.parametrize(
    ("workers", "norms"), [(1, ("l2", "l1")), (2, ("l1", "l2")), (3, ("linf", "linf"))]
)
def test_the_constant_is_the_same(workers: int, norms: tuple[str, str]) -> None:
    here, options = (
        CopyingWorkers(workers),
        {"input_norm": norms[0], "output_norm": norms[1], "method": "bab"},
    )
    both, one = (lx.lipschitz(*small(), executor=each, **options) for each in (here, None))
    same(both, one)
    assert both.stats["nodes"] >= 0.5 * one.stats["nodes"] > 5
    assert not both.diagnostics
    assert all(here.memories)


def test_the_constant_is_the_same_with_threads() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert not solved(pool).diagnostics
        assert pool.submit(os.getpid).result() == os.getpid()  # it stays open


def test_the_constant_is_the_same_with_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    pids, original = set(), WorkerPool.ready.fget

    def ready(self: WorkerPool) -> bool:
        while not original(self):  # type: ignore[misc]
            time.sleep(0.01)
        pids.update(pid for slot in self._slots for pid in slot.executor._processes)  # type: ignore[attr-defined]
        return True

    monkeypatch.setattr(WorkerPool, "ready", property(ready))
    both = solved(None, threads=2)
    assert len(pids) == 2
    assert both.stats["nodes"] > 50
    assert not both.diagnostics


@pytest.mark.parametrize("family", ["general", "sign_pairs", "small_integers", "late_coincidence"])
def test_degenerate_networks(family: str) -> None:
    weights, low, high = case(family, 2)
    truth = oracle.constant(oracle.regions(weights, low, high), None)
    result = lx.lipschitz(
        to_network(weights), lx.Box(low, high), method="bab", executor=CopyingWorkers(2)
    )
    assert result.status is lx.Status.EXACT
    assert result.value == pytest.approx(truth, rel=1e-9)


def test_polytopes_are_sent() -> None:
    net, box = small()
    cut = box & lx.Polytope(np.ones((1, 3)), [1.0], lower=-1, upper=1)
    cut.support(np.eye(3))  # which makes a linear program, that cannot be sent
    here = CopyingWorkers(2)
    one = lx.lipschitz(net, cut, functional=0, method="bab")
    same(lx.lipschitz(net, cut, functional=0, method="bab", executor=here), one)
    assert here.shared


def test_all_of_space_is_sent() -> None:
    net = to_network(random_weights(np.random.default_rng(5), (2, 7, 6, 2)))
    here = CopyingWorkers(2)
    one, both = (
        lx.lipschitz(net, lx.Reals(2), method="bab", executor=each) for each in (None, here)
    )
    same(both, one)
    assert here.shared


# --- Certificates ---------------------------------------------------------------------------------


def proven(executor: Executor | None) -> lx.LipschitzResult:
    result = lx.lipschitz(*small(), functional=0, method="bab", certificate=True, executor=executor)
    assert result.proof == "certificate"
    return result


@pytest.mark.parametrize("fault", [None, CancelledError()])
def test_a_tree_that_others_grew_is_proven(fault: Exception | None) -> None:
    here = CopyingWorkers(2, fault=lambda number: fault if number in (1, 4, 5) else None)
    both, one = proven(here), proven(None)
    same(both, one)
    assert both.certificate is not None
    report = lx.check(small()[0], both.certificate)
    assert report.ok
    assert report.exact
    assert (report.lower.claim, report.upper.claim) == (both.lower, both.upper)
    assert both.lower == one.lower
    assert both.upper == pytest.approx(one.upper, rel=1e-9)
    assert len(here.shared) > 6


def test_the_prover_needs_no_other_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers say of their nodes is enough: without it, there would be nothing for it to go
    by.
    """
    trees: list[Any] = []
    original = tree.branch

    def branch(state: Any, task: Any) -> Any:
        found = original(state, task)
        trees.append(found.trace)
        return found

    monkeypatch.setattr("lipexact.engines.bab.branch", branch)
    monkeypatch.setattr("lipexact.bab.prover.branch", branch)
    proven(CopyingWorkers(2))
    (trace,) = trees
    split = {decisions for decisions, step in trace.items() if step.split is not None}
    assert len(split) > 20
    for decisions in split - {
        ()
    }:  # all nodes on the way to one were split by the gate that it was decided by
        assert trace[decisions[:-1]].split == decisions[-1][:2]


# --- Ends before the end --------------------------------------------------------------------------


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@cache
def larger() -> tuple[lx.Network, lx.Box, float]:
    """Some seconds of work, and the constant."""
    net = to_network(random_weights(np.random.default_rng(0), (6, 14, 14, 1)))
    return net, lx.Box(-np.ones(6), np.ones(6)), 7.867232384781503


def holds(result: lx.LipschitzResult) -> None:
    known = larger()[2]
    assert result.lower <= known * (1 + 1e-9)
    assert result.upper >= known * (1 - 1e-9)


@pytest.mark.parametrize("limit", [0.2, 0.8])
def test_a_time_limit(limit: float, pool: Executor) -> None:
    start = time.perf_counter()
    result = lx.lipschitz(*larger()[:2], method="bab", executor=pool, time_limit=limit)
    assert time.perf_counter() - start < limit + 5
    assert (result.status, result.termination) == (lx.Status.BOUNDED, "time limit")
    assert 0 < result.lower < result.upper
    holds(result)


class Hoarder(CopyingWorkers):
    """Keeps its second task for itself."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        future = super().submit(function, *arguments)
        return Future() if len(self.shared) == 2 else future


def test_what_is_not_answered_counts() -> None:
    """All other nodes are done long before: the best region may be in what is away."""
    hoarder = Hoarder(2)
    result = lx.lipschitz(*question(), functional=0, method="bab", executor=hoarder, time_limit=1.0)
    known = alone(functional=0).value
    assert (result.status, result.termination) == (lx.Status.BOUNDED, "time limit")
    assert result.lower <= known * (1 + 1e-9)
    assert result.upper >= known * (1 - 1e-9)
    assert len(hoarder.shared) > 3


def test_workers_that_do_nothing_are_given_up_at_the_deadline() -> None:
    held = Held()
    result = lx.lipschitz(*larger()[:2], method="bab", executor=held, time_limit=0.8)
    assert (result.status, result.termination) == (lx.Status.BOUNDED, "time limit")
    assert held.futures
    assert all(future.cancelled() for future in held.futures)
    holds(result)


def test_a_gap() -> None:
    here = CopyingWorkers(2)
    result = lx.lipschitz(*question(), method="bab", functional=0, executor=here, gap=0.05)
    assert here.shared
    assert (result.status, result.termination) == (lx.Status.BOUNDED, "gap")
    assert result.gap <= 0.05
    assert result.lower <= alone(functional=0).upper
    assert result.upper >= alone(functional=0).lower


@pytest.mark.parametrize(("share", "within"), [(1.05, True), (0.99, False)])
def test_a_target(share: float, within: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipexact.solve.best_region", lambda *_, **__: None)
    known, here = alone(functional=0).value, CopyingWorkers(2)
    result = lx.lipschitz(
        *question(), method="bab", functional=0, executor=here, target=share * known
    )
    assert here.shared
    assert result.within_target is within
    assert result.lower <= known * (1 + 1e-9)
    assert result.upper >= known * (1 - 1e-9)


def test_a_callback_stops_the_search(pool: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "REPORT_SECONDS", 0.05)
    seen: list[lx.Progress] = []

    def enough(moment: lx.Progress) -> bool:
        seen.append(moment)
        return len(seen) > 4

    result = lx.lipschitz(*larger()[:2], method="bab", executor=pool, progress=enough)
    assert (result.status, result.termination) == (lx.Status.BOUNDED, "interrupted")
    assert [one.bound for one in seen] == sorted((one.bound for one in seen), reverse=True)
    assert seen[-1].nodes > seen[0].nodes
    holds(result)


# --- Workers that fail ----------------------------------------------------------------------------


def solved(executor: Executor | None, **options: Any) -> lx.LipschitzResult:
    """The constant is the one that is found alone."""
    both = lx.lipschitz(*question(), functional=0, method="bab", executor=executor, **options)
    same(both, alone(functional=0))
    return both


def explored(monkeypatch: pytest.MonkeyPatch, change: Callable[[list[Any], Subtree], None]) -> None:
    """Do something before each task, which is told all before."""
    tasks: list[Any] = []
    original = SubtreeSearch.expand

    def explore(self: SubtreeSearch, task: Subtree) -> SubtreeResult:
        tasks.append(task)
        change(tasks, task)
        return original(self, task)

    monkeypatch.setattr(SubtreeSearch, "expand", explore)


@pytest.mark.parametrize("always", [False, True])
def test_nodes_that_cannot_be_looked_at_elsewhere_are_looked_at_here(
    always: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(tasks: list[Any], task: Subtree) -> None:
        if always or len(tasks) == 2:
            raise MemoryError("no room in the worker")

    explored(monkeypatch, fails)
    assert "no room in the worker" in solved(CopyingWorkers(2)).diagnostics[-1].message


def test_a_task_that_kills_workers_is_done_here() -> None:
    class KilledWorker(Exception):  # noqa: N818 - as that of Dask
        pass

    here = CopyingWorkers(2, fault=lambda number: KilledWorker("it died") if number == 1 else None)
    message = solved(here).diagnostics[-1].message
    assert "some nodes were expanded here: the task was given up" in message
    assert len(here.shared) > 3


def test_what_is_lost_goes_out_again_and_nothing_is_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []
    original = WorkerPool.wait

    def wait(self: WorkerPool, seconds: float | None) -> list[Any]:
        found = original(self, seconds)
        told.extend(each.task_id for each in found)
        return found

    monkeypatch.setattr(WorkerPool, "wait", wait)
    lost = np.random.default_rng(0).random(10_000) < 0.3
    here = CopyingWorkers(3, fault=lambda number: CancelledError() if lost[number] else None)
    assert not solved(here).diagnostics
    assert len(told) >= 3
    assert max(Counter(told).values()) == 1
    assert len(here.shared) > len(told)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_the_search_goes_on_alone(after: int) -> None:
    refuses = CopyingWorkers(
        2, refusal=lambda number: RuntimeError("after shutdown") if number >= after else None
    )
    message = solved(refuses).diagnostics[-1].message
    assert (
        message
        == "the search went on alone: the executor takes no more tasks: RuntimeError: after "
        "shutdown"
    )


@pytest.mark.parametrize("where", ["fault", "refusal"])
def test_processes_go_on_where_an_executor_breaks(where: str) -> None:
    here = CopyingWorkers(1, **{where: lambda number: BrokenExecutor("broken") if number else None})
    assert not solved(here).diagnostics
    assert len(here.shared) > 1


@pytest.mark.parametrize("sent", [False, True])
def test_processes_that_cannot_be_replaced(sent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search hears of it, even where all nodes had been handed out."""

    def refuse() -> Executor:
        if sent:
            time.sleep(0.1)
        raise OSError("no semaphores left")

    batches: list[int] = []
    original = NodeExpander.expand

    def explore(self: NodeExpander, batch: list[SearchNode]) -> Any:
        batches.append(len(batch))
        return original(self, batch)

    alone(functional=0)
    monkeypatch.setattr(constants, "REPORT_SECONDS", 0.01)
    monkeypatch.setattr(NodeExpander, "expand", explore)
    monkeypatch.setattr("lipexact.workers.pool.local_process", refuse)
    here = CopyingWorkers(
        1, fault=lambda number: BrokenExecutor("broken") if number >= 1 - sent else None
    )
    message = solved(here).diagnostics[-1].message
    assert min(batches) > 0  # it waits meanwhile
    assert message == "the search went on alone: tasks cannot be handed out: no semaphores left"


# --- Subtrees -------------------------------------------------------------------------------------


def planted(
    least: int, seed: int = 3, *norms: Any, traced: bool = False
) -> tuple[NodeExpander, list[SearchNode], SubtreeSearch]:
    """An expander, some nodes, and what all subtrees are parts of."""
    net, box = question(seed)
    programs = formulate(
        net, box, *checked_norm_sets(net, box, *(norms or ("linf", None, 0))), "auto", np.inf
    )
    expander = NodeExpander(programs, None, np.inf, keep_trace=traced)
    nodes = [expander.root(programs[0].root_bound)]
    while len(nodes) < least:
        nodes = expander.expand(nodes).children
        assert nodes
    return expander, nodes, SubtreeSearch(programs, traced)


def consistent(nodes: list[SearchNode], points: Points) -> int:
    """The points of nodes lie in them, as far as linear programs tell; how many were looked at."""
    looked = 0
    for node in nodes:
        for layer, i, state in node.decisions:
            values = points.read(layer, node.points)[:, i]
            assert ((values if state == ON else -values) > -1e-6).all()
            looked += values.size
    return looked


def test_nodes_travel_with_points_of_their_own() -> None:
    expander, nodes, _ = planted(8)
    pool = Points(expander.problem.network)
    pool.add(np.zeros((5, 4)))  # so that no index stays what it was
    packet = pickle.loads(pickle.dumps(pack(nodes, expander.propagator.points)))
    there = unpack(packet, pool)
    assert consistent(there, pool) == consistent(nodes, expander.propagator.points) > 100
    for before, after in zip(nodes, there, strict=True):
        assert np.array_equal(pool.of(after.points), expander.propagator.points.of(before.points))
        assert (before.bound, before.decisions) == (after.bound, after.decisions)
        assert all(map(np.array_equal, before.states, after.states))
    assert (
        pool.count
        == 5 + len(packet.points)
        == 5 + len({k for node in nodes for k in node.points.tolist()})
    )


def test_few_points_are_sent_and_none_are_kept_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expander, nodes, _ = planted(8)
    monkeypatch.setattr(constants, "MAX_SENT_NUMBERS", 3 * 4)
    packet = pack(nodes, expander.propagator.points)
    pool = Points(expander.problem.network)
    there = unpack(packet, pool)
    assert max(node.points.size for node in there) == 3
    assert consistent(there, pool) > 10
    full = Points(expander.problem.network)
    monkeypatch.setattr(Points, "full", property(lambda self: True))
    assert [node.points.size for node in unpack(packet, full)] == [0] * len(nodes)
    assert full.count == 0
    assert unpack(pack([], pool), pool) == []


def test_nodes_come_back_with_points_of_their_own() -> None:
    expander, nodes, search = planted(8)
    looked = 0
    for _ in range(3):
        task = Subtree(pack(nodes, expander.propagator.points), None, 0.0, 0.0, 0.0, 0.0)
        answer = pickle.loads(
            pickle.dumps(expand_subtree(search, pickle.loads(pickle.dumps(task))))
        )
        assert answer.expansion.children == []
        nodes = unpack(answer.batch, expander.propagator.points)
        looked += consistent(nodes, expander.propagator.points)
    assert looked > 100


def test_nodes_have_points_of_their_own_in_the_callers_tree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked, original = 0, tree._SearchTree._push

    def push(self: tree._SearchTree, outcome: Any) -> None:
        nonlocal looked
        looked += consistent(outcome.children, self.expander.propagator.points)
        original(self, outcome)

    monkeypatch.setattr(tree._SearchTree, "_push", push)
    solved(CopyingWorkers(2))
    assert looked > 100


def said(answer: SubtreeResult) -> tuple[Any, ...]:
    """All that an answer says but how long it took."""
    nodes = [(node.bound, node.decisions, node.points.tolist()) for node in answer.batch.nodes]
    weights = [weights.tobytes() for node in answer.batch.nodes for weights in node.weights]
    found, trace = answer.expansion.incumbent, answer.expansion.trace
    region = None if found is None else (found.norm.lower, found.region.point.tobytes())
    steps = [
        (decisions, step.split, step.bound, repr(step.deductions))
        for decisions, step in trace.items()
    ]
    counts = {name: count for name, count in answer.stats.items() if not name.endswith("seconds")}
    return (
        nodes,
        weights,
        answer.batch.points.tobytes(),
        region,
        answer.expansion.closed_bound,
        steps,
        counts,
    )


@pytest.mark.parametrize("seconds", [0.0, np.inf])
def test_an_answer_depends_on_its_task_alone(seconds: float) -> None:
    expander, nodes, search = planted(12, 1, "l1", "linf", None, traced=True)
    first = pickle.dumps(
        Subtree(pack(nodes, expander.propagator.points), None, 0.0, 0.0, 0.0, seconds)
    )
    other = pickle.dumps(
        Subtree(pack(nodes[:3], expander.propagator.points), None, 0.0, 0.0, 0.0, 0.0)
    )
    answers, points = [], []
    for task in (first, other, first, first):
        answers.append(said(search.expand(pickle.loads(task))))
        (used,) = search._idle
        points.append(used.propagator.points.count)
    fresh = pickle.loads(pickle.dumps(search))
    assert answers[0] == answers[2] == answers[3] == said(fresh.expand(pickle.loads(first)))
    assert answers[0] != answers[1]
    assert answers[0][5]  # the trace
    assert points[0] == points[2] == points[3] > points[1]


def test_which_bounds_were_the_smallest_before_does_not_matter_in_the_end() -> None:
    expander, nodes, search = planted(8)
    task = pickle.dumps(
        Subtree(pack(nodes, expander.propagator.points), None, 0.0, 0.0, 0.0, np.inf)
    )
    answers = [
        each.expand(pickle.loads(task))
        for each in (search, search, pickle.loads(pickle.dumps(search)))
    ]
    known = alone(functional=0).value
    assert [answer.batch.nodes for answer in answers] == [[]] * 3
    for answer in answers:
        assert answer.expansion.incumbent is not None
        assert answer.expansion.incumbent.norm.lower == pytest.approx(known, rel=1e-9)
        assert answer.expansion.closed_bound == pytest.approx(known, rel=1e-9)


def test_what_waits_comes_back() -> None:
    expander, nodes, search = planted(8)
    middle = float(np.median([node.bound for node in nodes]))
    packet = pack(nodes, expander.propagator.points)
    answer = search.expand(Subtree(packet, None, 0.0, middle, 0.0, np.inf))
    left = {node.decisions for node in answer.batch.nodes}
    assert all(node.bound <= middle for node in answer.batch.nodes)
    assert left >= {node.decisions for node in nodes if node.bound <= middle}
    answer = search.expand(Subtree(packet, None, 100.0, 0.0, 0.0, np.inf))  # a target beyond all
    assert answer.batch.nodes == []
    assert answer.expansion.closed_bound == max(node.bound for node in nodes)
    assert answer.stats["leaves"] == 0


def test_the_best_region_is_told_and_retold() -> None:
    expander, nodes, search = planted(8)
    packet = pack(nodes, expander.propagator.points)
    found = search.expand(Subtree(packet, None, 0.0, 0.0, 0.0, np.inf)).expansion.incumbent
    assert found is not None
    again = search.expand(Subtree(packet, found, 0.0, 0.0, 0.0, 0.0)).expansion.incumbent
    assert again is not None
    assert again.norm.lower == found.norm.lower
    assert found.norm.lower == pytest.approx(alone(functional=0).value, rel=1e-9)


def test_the_largest_closed_bound_of_all_batches_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also that of a batch that others followed: what was closed there may hold the constant."""
    expander, nodes, search = planted(8)
    closed: list[float] = []
    original = NodeExpander.expand

    def expand(self: NodeExpander, batch: list[SearchNode]) -> Any:
        expansion = original(self, batch)
        # Each batch closes less than the one before, as far as the search is told.
        closed.append(100.0 - len(closed))
        return replace(expansion, closed_bound=closed[-1])

    batch = pack(nodes, expander.propagator.points)
    monkeypatch.setattr(NodeExpander, "expand", expand)
    result = search.expand(Subtree(batch, None, 0.0, 0.0, 0.0, np.inf))
    assert len(closed) > 1
    assert result.expansion.closed_bound == closed[0]
