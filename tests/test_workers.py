"""Branch and bound in several processes."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

import lipexact as lx
from lipexact.bab import workers
from lipexact.bab.explore import Explorer, Node
from lipexact.bounds.interval import Bounds
from lipexact.pattern import ON
from lipexact.problem import Problem
from lipexact.programs import bodies_of, programs_of
from tests.networks import random_weights, to_network


class Here:
    """Loky's pool in this process, which still sees copies alone, and may break."""

    broken_after = 10**9

    def __init__(self, *, initializer: Callable[..., None], initargs: tuple[object, ...], **_: object) -> None:
        initializer(*pickle.loads(pickle.dumps(initargs)))
        self.tasks = 0

    def submit(self, task: Callable[..., object], *arguments: object) -> Future[object]:
        self.tasks += 1
        answer: Future[object] = Future()
        if self.tasks > self.broken_after:
            answer.set_exception(RuntimeError("died"))
        else:
            answer.set_result(pickle.loads(pickle.dumps(task(*pickle.loads(pickle.dumps(arguments))))))
        return answer

    def shutdown(self, **_: object) -> None:
        workers._explorer = None


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    monkeypatch.setattr(workers, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(workers, "threadpool_limits", lambda _: None)
    monkeypatch.setattr("lipexact.bab.tree._ALONE", 0.0)
    return Here


def question() -> tuple[lx.Network, lx.Domain]:
    """Some hundred nodes."""
    net = to_network(random_weights(np.random.default_rng(3), (4, 12, 10, 2)))
    return net, lx.Box(-np.ones(4), np.ones(4))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("norms", [("linf", "linf"), ("l2", "l1")])
def test_the_constant_is_the_same(threads: int, norms: tuple[str, str], here: type[Here]) -> None:
    net, box = question()
    alone = lx.lipschitz(net, box, input_norm=norms[0], output_norm=norms[1], method="bab")
    both = lx.lipschitz(net, box, input_norm=norms[0], output_norm=norms[1], method="bab", threads=threads)
    assert alone.status is both.status is lx.Status.EXACT
    assert both.value == pytest.approx(alone.value, rel=1e-9)
    assert both.stats["nodes"] >= 0.5 * alone.stats["nodes"] > 50
    assert both.witness is not None


def test_polytopes_are_sent(here: type[Here]) -> None:
    net, box = question()
    cut = box & lx.Polytope(np.ones((1, 4)), [1.0], lower=-1, upper=1)
    cut.support(np.eye(4))  # which makes a linear program, that cannot be sent
    alone, both = (lx.lipschitz(net, cut, functional=0, method="bab", threads=n) for n in (1, 2))
    assert both.value == pytest.approx(alone.value, rel=1e-9)


@pytest.mark.parametrize("after", [1, 3])  # the first task asks whether the process has started
def test_nothing_is_lost_with_a_process(after: int, here: type[Here], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "broken_after", after)
    net, box = question()
    alone, both = (lx.lipschitz(net, box, functional=0, method="bab", threads=n) for n in (1, 2))
    assert both.status is lx.Status.EXACT
    assert both.value == pytest.approx(alone.value, rel=1e-9)


def planted(least: int) -> tuple[Explorer, list[Node], tuple[list[Problem], list[Bounds]]]:
    """An explorer, some nodes, and what both were made of."""
    net, box = question()
    programs = programs_of(net, box, *bodies_of(net, box, "linf", None, 0), "auto", np.inf)
    asked = [program.problem for program in programs], [program.bounds for program in programs]
    explorer = Explorer(*asked, None, np.inf)
    nodes = [explorer.root(programs[0].root)]
    while len(nodes) < least:
        nodes = explorer.explore(nodes).children
    return explorer, nodes, asked


def test_the_nodes_of_a_process_that_dies_are_looked_at(here: type[Here], monkeypatch: pytest.MonkeyPatch) -> None:
    explorer, nodes, asked = planted(8)
    before = explorer.stats["nodes"]
    monkeypatch.setattr(here, "broken_after", 1)
    with workers.Workers(1, *asked) as others:
        assert others.ready
        others.explore(explorer, nodes, np.inf)
        assert not others.ready
    assert explorer.stats["nodes"] == before + len(nodes)


def test_nodes_come_back_with_points_of_their_own(here: type[Here]) -> None:
    explorer, nodes, asked = planted(8)
    looked = 0
    with workers.Workers(2, *asked) as others:
        for _ in range(3):
            nodes = others.explore(explorer, nodes, np.inf).children
            for node in nodes:
                for layer, i, state in node.decisions:
                    values = explorer.cells.points.read(layer, node.points)[:, i]
                    assert ((values if state == ON else -values) > -1e-6).all()  # as far as linear programs tell
                    looked += values.size
    assert looked > 100


def test_other_processes_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipexact.bab.tree._ALONE", 0.0)
    turns = 0

    def ready(self: workers.Workers) -> bool:
        return all(each.result() for each in self._first)

    def explore(self: workers.Workers, *arguments: object) -> object:
        nonlocal turns
        turns += 1
        return original(self, *arguments)  # type: ignore[arg-type]

    original = workers.Workers.explore
    monkeypatch.setattr(workers.Workers, "ready", property(ready))
    monkeypatch.setattr(workers.Workers, "explore", explore)
    net, box = question()
    alone, both = (lx.lipschitz(net, box, functional=0, method="bab", threads=n) for n in (1, 2))
    assert turns > 1
    assert both.value == pytest.approx(alone.value, rel=1e-9)
    assert both.stats["lps"] > 0
