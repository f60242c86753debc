"""Pictures: that they show the numbers that they are about."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

import lipexact as lx
from lipexact import plot
from lipexact.bounds.formulation import checked_norm_sets
from lipexact.plot import linear_regions, polygons, region_map
from lipexact.plot.labels import label_points
from lipexact.plot.region_map import jacobian_norms
from tests.support.networks import duplicated, random_weights, relu_of_relu, to_network, vanishing
from tests.support.oracle import constant, l1_ball_halfspaces, regions


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def area(polygon):
    x, y = polygon.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def patterns(net, polygons):
    centres = np.array([polygon.mean(axis=0) for polygon in polygons])
    from lipexact.graph.evaluate import evaluate

    values = evaluate(net.graph, {net.input: centres})
    return [
        tuple(np.concatenate([values[gate][k] for gate in net.gates])) for k in range(len(polygons))
    ]


BALL = lx.Ball([0.1, -0.2], 0.7, norm="l1")
CUT = lx.Polytope([[1.0, 1.0]], [0.4], [-1, -1], [1, 1])
WHERE = {
    "box": (lx.Box([-1, -1], [1, 1]), [-1, -1], [1, 1], [], 4.0),
    "ball": (BALL, BALL.lower, BALL.upper, l1_ball_halfspaces([0.1, -0.2], 0.7), 2 * 0.7**2),
    "polytope": (CUT, [-1, -1], [1, 1], [([1.0, 1.0], 0.4)], 4 - 1.6**2 / 2),
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("sizes", [(2, 5, 1), (2, 4, 3, 2), (2, 3, 3, 2, 2)])
def test_regions_are_those_of_the_enumeration(where, sizes):
    domain, lower, upper, halfspaces, size = WHERE[where]
    weights = random_weights(np.random.default_rng(len(sizes)), sizes)
    net = to_network(weights)
    polygons = linear_regions(net, domain)
    assert sum(map(area, polygons)) == pytest.approx(size, rel=1e-9)
    assert all(area(polygon) > 0 for polygon in polygons)
    found = regions(weights, lower, upper, halfspaces)
    assert len(set(patterns(net, polygons))) == len(polygons) == len(found)
    ax = plot.regions(net, domain, functional=0)
    shown = ax.collections[0].get_array()
    known = float(constant(found, [1] + [0] * (sizes[-1] - 1), "linf"))
    assert shown.max() == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("where", WHERE)
def test_the_largest_norm_is_the_constant(where, seed):
    domain = WHERE[where][0]
    net = to_network(random_weights(np.random.default_rng(seed), (2, 5, 3, 3)))
    result = lx.lipschitz(net, domain, input_norm="l1")
    ax = plot.regions(net, domain, input_norm="l1")
    assert ax.collections[0].get_array().max() == pytest.approx(result.value, rel=1e-9)


@pytest.mark.parametrize(
    ("output_norm", "functional"),
    [
        ("l1", None),
        ("linf", None),
        ("l2", None),
        (None, lx.CrossLipschitz()),
        (None, np.eye(4)[[0, 1, 2, 3, 0]]),
    ],
)
def test_norms_are_not_local_maxima(output_norm, functional):
    rng = np.random.default_rng(0)
    jacobians = rng.normal(size=(50, 4, 2))
    net = to_network([(jacobians[0], np.zeros(4))])
    asked = net, lx.Box.unit(2), "l2", output_norm, functional
    angles = np.linspace(0, np.pi, 20_001)
    pushed = jacobians @ np.stack([np.cos(angles), np.sin(angles)])
    lengths = {
        "l1": np.abs(pushed).sum(axis=1),
        "l2": np.sqrt((pushed**2).sum(axis=1)),
        "linf": np.abs(pushed).max(axis=1),
        None: np.ptp(pushed, axis=1)
        if isinstance(functional, lx.CrossLipschitz)
        else np.abs(pushed).max(axis=1),
    }
    norms = jacobian_norms(jacobians, *checked_norm_sets(*asked))
    np.testing.assert_allclose(
        norms, lengths[output_norm].max(axis=1), rtol=1e-7
    )  # of that many angles


@pytest.mark.parametrize(("family", "seed"), [(duplicated, 6), (relu_of_relu, 1), (vanishing, 12)])
def test_degenerate_networks_are_not_cut_by_rounding(family, seed):
    case = family(np.random.default_rng(seed))
    net, box = to_network(case.weights), lx.Box(case.lower, case.upper)
    polygons = linear_regions(net, box)
    assert sum(map(area, polygons)) == pytest.approx(np.prod(case.upper - case.lower), rel=1e-9)
    assert len(polygons) == len(regions(case.weights, case.lower, case.upper))


def test_rounding_behind_a_relu_is_no_kink():
    # 3 relu(x / 3 + 7) - relu(x + 21) is 0, but for rounding.
    first = [[1 / 3, 1 / 7], [1.0, 3 / 7]], [7.0, 21.0]
    net = to_network([first, ([[3.0, -1.0]], [0.0]), ([[1.0]], [0.0])])
    assert len(linear_regions(net, lx.Box.unit(2))) == 1


def test_slivers_are_no_regions():
    net = to_network([([[1.0, 0.0]], [1e-12 - 1]), ([[1.0]], [0.0])])
    assert len(linear_regions(net, lx.Box.unit(2))) == 1
    assert len(linear_regions(net, lx.Box([1 - 2e-9, 0], [1 + 2e-9, 1]))) == 2  # where it is none


def test_polygons_of_several_chunks(monkeypatch):
    net = to_network(random_weights(np.random.default_rng(2), (2, 8, 6, 1)))
    whole = linear_regions(net, lx.Box([-1, -1], [1, 1]))
    monkeypatch.setattr(polygons, "_POLYGONS_AT_ONCE", 3)
    parts = linear_regions(net, lx.Box([-1, -1], [1, 1]))
    assert len(whole) > 20
    assert [part.tolist() for part in parts] == [part.tolist() for part in whole]


def test_regions_show_the_witness():
    net = to_network(random_weights(np.random.default_rng(1), (2, 4, 2)))
    box = lx.Box([-1, -1], [1, 1])
    result = lx.lipschitz(net, box, input_norm="l2")
    ax = plot.regions(net, box, result, input_norm="l2")
    (star,) = [line for line in ax.lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == tuple(result.witness.point)
    (square,) = ax.patches
    assert square.get_width() == pytest.approx(2 * result.witness.radius)
    assert ax.collections[0].get_array().max() == pytest.approx(result.value, rel=1e-9)
    assert ax.get_xlabel() == "input 0"
    assert "norm" in ax.figure.axes[1].get_ylabel()


def test_a_network_without_a_kink_has_one_region():
    net = lx.Network.from_layers([([[1.0, 2.0]], [0.0])])
    (only,) = linear_regions(net, lx.Box.unit(2))
    assert area(only) == 1.0
    shown = plot.regions(net, lx.Box.unit(2)).collections[0]
    assert shown.get_array().tolist() == [3.0]
    assert shown.get_clim() == (0.0, 3.0)


def test_regions_that_are_refused(monkeypatch):
    net = to_network(random_weights(np.random.default_rng(1), (3, 4, 2)))
    with pytest.raises(lx.ModelError, match="two inputs, not 3"):
        plot.regions(net, lx.Box.unit(3))
    flat = to_network(random_weights(np.random.default_rng(1), (2, 6, 2)))
    with pytest.raises(lx.DomainError, match="bounds"):
        plot.regions(flat, lx.Reals(2))
    monkeypatch.setattr(polygons, "_MAX_REGIONS", 3)
    with pytest.raises(lx.ModelError, match="more than 3"):
        plot.regions(flat, lx.Box([-1, -1], [1, 1]))


def test_bounds_over_time():
    history = [
        lx.Progress(0.01, None, None, None),
        lx.Progress(0.1, 1.0, 9.0, 1),
        lx.Progress(2.0, 2.0, 4.0, 5),
        lx.Progress(3.0, 1.5, 5.0, 6),  # bounds that were better once are bounds still
    ]
    ax = plot.bounds(history)
    upper, lower = ax.lines
    assert lower.get_xdata().tolist() == [0.01, 0.1, 2.0, 3.0]
    assert lower.get_ydata().tolist() == [0.0, 1.0, 2.0, 2.0]
    assert upper.get_ydata().tolist()[1:] == [9.0, 4.0, 4.0]
    assert ax.get_xscale() == "log"
    net = to_network(random_weights(np.random.default_rng(1), (2, 4, 2)))
    collected = []
    result = lx.lipschitz(net, lx.Box.unit(2), method="mip", progress=collected.append)
    ax = plot.bounds(collected, result)
    assert ax.lines[0].get_ydata()[-1] == result.upper
    assert ax.lines[1].get_ydata()[-1] == result.lower
    assert ax.lines[2].get_ydata()[0] == result.value
    alone = plot.bounds([], result)  # one point, on an axis from 0
    assert alone.get_ylim() == (0, pytest.approx(1.3 * result.upper))
    with pytest.raises(lx.OptionError, match="no bounds"):
        plot.bounds([])


def test_a_certified_radius():
    net = to_network(random_weights(np.random.default_rng(3), (2, 6, 3)))
    certified = lx.certified_radius(net, [0.2, 0.1])
    ax = plot.radius(certified)
    points = {
        (float(x), float(y))
        for line in ax.lines
        if line.get_marker() in ("o", "x", "s")
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert points == {
        (step.radius, step.result.upper)
        for step in certified.steps
        if np.isfinite(step.result.upper)
    }
    curve = ax.lines[0]
    np.testing.assert_allclose(curve.get_xdata() * curve.get_ydata(), 1.0)
    for step in certified.steps:
        assert step.certified is None or (step.result.upper <= 1 / step.radius) == step.certified
    (line,) = [line for line in ax.lines if str(line.get_label()).startswith("certified radius")]
    assert line.get_xdata()[0] == certified.radius
    (limit,) = [line for line in ax.lines if str(line.get_label()).startswith("none above")]
    assert limit.get_xdata()[0] == certified.upper
    (span,) = ax.patches
    assert span.get_x() + span.get_width() == pytest.approx(certified.radius, rel=1e-12)
    low, high = ax.get_xlim()
    assert low < min(step.radius for step in certified.steps)
    assert high > max(certified.upper, *(step.radius for step in certified.steps))
    with pytest.raises(lx.OptionError, match="nothing to draw"):
        plot.radius(lx.CertifiedRadius(0.0, 0.0, "tolerance", 0, np.zeros(2), (), 0.0))


def test_training():
    net = to_network(random_weights(np.random.default_rng(3), (2, 6, 3)))
    result = lx.lipschitz(net, lx.Box.unit(2))
    ax = plot.training([0, 1, 2], [result, (1.0, 2.0), (50.0, 50.0)], label="plain")
    assert ax.get_yscale() == "log"
    middle, exact = ax.lines[0], ax.lines[1]
    assert middle.get_ydata().tolist() == [result.lower, 1.5, 50.0]
    assert exact.get_xdata().tolist() == [0, 2]
    assert ax.get_xlabel() == "epoch"
    plot.training([0, 1, 2], [(3.0, 3.0)] * 3, ax, label="other")
    colours = {line.get_color() for line in ax.lines if line.get_gid()}
    assert len(colours) == 2
    for steps, results in (([], []), ([1], [])):
        with pytest.raises(lx.OptionError, match="one result for each"):
            plot.training(steps, results)


def test_an_infinite_radius():
    flat = lx.Network.from_layers([([[1.0, 1.0], [1.0, -1.0]], [0.0, 0.0])])
    certified = lx.certified_radius(flat, [0.5, 0.5], domain_clip=(0.4, 0.6))
    assert certified.radius == np.inf
    ax = plot.radius(certified)
    labels = [str(line.get_label()) for line in ax.lines]
    assert "certified radius infinite" in labels
    assert not [label for label in labels if label.startswith("none above")]


def test_training_with_infinite_bounds():
    ax = plot.training([0, 1, 2], [(1.0, 1.0), (2.0, np.inf), (3.0, 4.0)], label="plain")
    shown = {str(line.get_label()): line.get_xdata().tolist() for line in ax.lines}
    assert shown["plain"] == [0]
    assert shown["plain: a lower bound only"] == [1]
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True, False]
    (bars,) = ax.containers
    assert bars.get_label() == "plain: an interval"
    assert bars.lines[0].get_xdata().tolist() == [2]
    (segment,) = bars.lines[2][0].get_segments()
    assert segment[:, 1].tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    "results",
    [[1.0], [(1.0, 2.0, 3.0)], [(2.0, 1.0)], [(np.nan, 1.0)], [("a", "b")], [(np.inf, np.inf)]],
)
def test_training_refuses_what_are_no_bounds(results):
    with pytest.raises(lx.OptionError, match="results"):
        plot.training([0], results)
    assert not plt.get_fignums()


@dataclass
class Row:
    method: str
    seconds: float
    error: float | None
    guarantee: str


def test_errors_of_estimators():
    rows = [
        Row("fast", 1e-3, 0.5, "upper"),
        Row("sampled", 1e-2, 0.2, "lower"),
        Row("guess", 0.1, 1e-3, "heuristic"),
        Row("exact", 1.0, 0.0, "exact"),
        Row("refused", 0.1, None, "upper"),
        Row("unbounded", 0.1, np.inf, "upper"),
    ]
    ax = plot.errors(rows)
    points = {each.get_label(): each.get_offsets().tolist() for each in ax.collections}
    floor = ax.lines[0].get_ydata()[0]
    assert points == {
        "upper bound": [[1e-3, 0.5]],
        "lower bound": [[1e-2, 0.2]],
        "heuristic": [[0.1, 1e-3]],
        "exact": [[1.0, floor]],
    }
    assert floor < 1e-3
    assert [text.get_text() for text in ax.texts] == ["fast", "sampled", "guess", "exact"]
    assert ax.get_yticklabels()[0].get_text() == "< 1e-9"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    with pytest.raises(lx.OptionError, match="finite relative error"):
        plot.errors(rows[4:])
    with pytest.raises(lx.OptionError, match="'guess'"):
        plot.errors([Row("odd", 1.0, 0.5, "guess")])


def test_errors_of_any_size_have_few_ticks():
    ax = plot.errors([Row("loose", 1e-3, 1e60, "upper"), Row("close", 1.0, 1e-8, "lower")])
    assert len(ax.get_yticks()) <= 11
    low, high = ax.get_ylim()
    assert low < 1e-8 < 1e60 < high


def test_names_are_placed_after_the_margins():
    rows = [Row("first", 1e-3, 0.5, "upper"), Row("a-name-of-some-length", 1.0, 0.5, "upper")]
    rows += [Row(f"{k}" * 20, 1.0, 0.5 * 1.5**k, "upper") for k in range(4)]
    ax = plot.errors(rows)
    before = ax.get_position().bounds
    places = [text.xyann for text in ax.texts]
    ax.figure.canvas.draw()
    assert ax.get_position().bounds == pytest.approx(before, abs=1e-9)
    for text in ax.texts:
        text.remove()
    label_points(
        ax,
        [row.method for row in rows],
        [(row.seconds, row.error) for row in rows],
        ax.lines[0].get_ydata()[0],
    )
    assert [text.xyann for text in ax.texts] == places


@pytest.mark.parametrize("size", [None, (6, 4)])
@pytest.mark.parametrize("spread", [2, 1e4])
def test_names_do_not_cover_each_other_nor_the_frame(size, spread):
    rng = np.random.default_rng(0)
    times = 0.1 * spread ** rng.uniform(0, 1, 8)
    rows = [
        Row(f"estimator-{k}", time, rng.uniform(0.1, 0.4), "upper") for k, time in enumerate(times)
    ]
    ax = plot.errors(
        rows, None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    )
    ax.figure.canvas.draw()
    frame = ax.get_window_extent()
    boxes = [mpl.text.Text.get_window_extent(text) for text in ax.texts]  # without the arrows
    for k, box in enumerate(boxes):
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1
        for other in boxes[:k]:
            overlap = (
                min(box.x1, other.x1) - max(box.x0, other.x0),
                min(box.y1, other.y1) - max(box.y0, other.y0),
            )
            assert min(overlap) < 2.0, (box, other)


def test_given_axes_are_used_and_nothing_else_is_opened():
    _, ax = plt.subplots()
    before = plt.get_fignums()
    assert plot.errors([Row("fast", 1e-3, 0.5, "upper")], ax=ax) is ax
    assert plot.training([0], [(1.0, 1.0)], ax) is ax
    assert plt.get_fignums() == before


def test_the_module_is_there_by_its_name():
    assert lx.plot is plot
    assert all(callable(getattr(plot, name)) for name in plot.__all__)


def test_matplotlib_is_imported_for_the_first_picture():
    code = "import sys, lipexact.plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(lx.OptionError, match=r"lipexact\[plot\]"):
        plot.training([0], [(1.0, 1.0)])
    early = "regions were cut before that was known"
    monkeypatch.setattr(region_map, "linear_regions", lambda *_: pytest.fail(early))
    with pytest.raises(lx.OptionError, match=r"lipexact\[plot\]"):
        plot.regions(lx.Network.from_layers([([[1.0, 2.0]], [0.0])]), lx.Box.unit(2))
