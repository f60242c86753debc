"""Certificates against exact enumeration, and what is done to them against the checker."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lipexact as lx
from lipexact.certificates.checker.dyadic import Dyadic
from lipexact.certificates.checker.symmetric_sets import positive_semidefinite
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.graph.lowering import add, relu
from lipexact.network import network
from tests.support.networks import (
    CUTS,
    EXTREME,
    FAMILIES,
    case,
    cut_domain,
    halfspaces_of,
    to_network,
)
from tests.support.oracle import regions
from tests.support.paths import EXAMPLES
from tests.support.soak import Truth, truth

PAIRS = tuple(itertools.product(("linf", "l1", "l2"), repeat=2))
EXAMPLE = EXAMPLES / "wine_13_16_16_3.onnx"
STATEMENT = ("format", "version", "model", "domain", "functionals", "directions")


def holds(report: lx.Check, known: Truth) -> None:
    """Whatever is proven is true, without any tolerance."""
    if report.lower.proven:
        assert known.at_least(Fraction(report.lower.claim or 0.0)), (report, float(known))
    if report.upper.proven:
        assert known.at_most(Fraction(report.upper.claim or 0.0)), (report, float(known))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", sorted({**FAMILIES, **EXTREME}))
def test_exact_answers_are_proven(family: str, seed: int) -> None:
    drawn = {**FAMILIES, **EXTREME}[family](np.random.default_rng(300 + seed))
    alpha, beta = PAIRS[(sorted({**FAMILIES, **EXTREME}).index(family) + 4 * seed) % 9]
    net = to_network(drawn.weights)
    result = lx.lipschitz(
        net,
        lx.Box(drawn.lower, drawn.upper),
        input_norm=alpha,
        output_norm=beta,
        method="bab",
        certificate=True,
    )
    assert (result.status, result.proof) == (lx.Status.EXACT, "certificate")
    report = lx.check(net, result.certificate)
    assert report.ok
    assert report.exact
    assert (report.lower.claim, report.upper.claim) == (result.lower, result.upper)
    holds(report, truth(regions(*drawn), None, alpha, beta))


@pytest.mark.parametrize("cut", CUTS)
def test_domains_that_are_no_boxes(cut: str) -> None:
    drawn = case("small_integers", CUTS.index(cut))
    domain = cut_domain(cut, np.array(drawn.lower), np.array(drawn.upper), CUTS.index(cut))
    net = to_network(drawn.weights)
    result = lx.lipschitz(net, domain, method="bab", certificate=True)
    report = lx.check(net, result.certificate)
    assert report.exact
    found = regions(drawn.weights, domain.lower, domain.upper, halfspaces_of(domain))
    holds(report, truth(found, None, "linf", "linf"))


def test_a_program_rests_on_its_proof(solver: str) -> None:
    drawn = case("sign_pairs", 3)
    net = to_network(drawn.weights)
    result = lx.lipschitz(
        net, lx.Box(drawn.lower, drawn.upper), method="mip", solver=solver, certificate=True
    )
    assert (result.status, result.proof, result.method) == (lx.Status.EXACT, "certificate", "mip")
    assert lx.check(net, result.certificate).exact


def made(kind: str) -> tuple[lx.Network, dict[str, Any], Truth]:
    """A certificate with many kinds of steps, and the constant."""
    alpha, beta = {
        "linf": ("linf", "l1"),
        "l2": ("l2", "l2"),
        "ball": ("l1", "linf"),
        "space": ("linf", "linf"),
    }[kind]
    drawn = case("general" if kind != "ball" else "duplicated", 12)
    domain: lx.Domain = lx.Box(drawn.lower, drawn.upper)
    if kind == "ball":
        domain = cut_domain("both", np.array(drawn.lower), np.array(drawn.upper), 1)
    found = regions(drawn.weights, domain.lower, domain.upper, halfspaces_of(domain))
    if kind == "space":
        domain = lx.Reals(len(drawn.lower))
        found = regions(drawn.weights, [-1e40] * domain.dim, [1e40] * domain.dim)
    net = to_network(drawn.weights)
    result = lx.lipschitz(
        net, domain, input_norm=alpha, output_norm=beta, method="bab", certificate=True
    )
    assert result.certificate is not None
    assert lx.check(net, result.certificate).exact
    return net, result.certificate.data, truth(found, None, alpha, beta)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a tree of JSON."""
    yield path
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def mutants(value: Any) -> list[Any]:
    """Other values in its place."""
    if isinstance(value, bool) or value is None:
        return [not value, 0, 1.5]
    if isinstance(value, int | float):
        return [value + 1, value * 1.5, -value, 0, value * (1 + 1e-7), "1", None]
    if isinstance(value, str):
        return [value[:-1], value + "0", value.swapcase()[::-1], 0]
    if isinstance(value, dict):
        return [{key: value[key] for key in value if key != gone} for gone in value] + [[]]
    return [value[1:], value[:-1], value + value[-1:], value[::-1], 0, {}]


def put(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The same with another value somewhere."""
    changed = copy.deepcopy(data)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linf", "l2", "ball", "space"])
def test_every_mutant_is_refused(kind: str) -> None:
    net, data, known = made(kind)
    whole = lx.Certificate(data)
    packed = whole.to_bytes()
    assert lx.check(net, packed).exact
    refused = kept = 0
    for path in places(data):
        if not path:
            continue
        value = data
        for key in path:
            value = value[key]
        for mutant in mutants(value):
            if type(mutant) is type(value) and mutant == value:
                continue
            changed = put(data, path, mutant)
            with pytest.raises(lx.CertificateError):  # as it was written, its digest does not fit
                lx.read_certificate(_with_old_digest(changed, data))
            try:
                report = lx.check(net, lx.Certificate(changed))
            except lx.CertificateError:
                refused += 1
                continue
            if path[0] not in STATEMENT:  # the statement is the same: what is proven must be true
                holds(report, known)
            refused, kept = refused + (not report.ok), kept + report.ok
    assert refused > kept


def _with_old_digest(changed: Any, data: dict[str, Any]) -> bytes:
    old = json.loads(gzip.decompress(lx.Certificate(data).to_bytes()))["digest"]
    return gzip.compress(json.dumps({**changed, "digest": old}).encode())


@pytest.mark.parametrize("kind", ["linf", "l2", "ball", "space"])
def test_false_claims_are_refuted(kind: str) -> None:
    net, data, _ = made(kind)
    low = lx.check(net, lx.Certificate({**data, "upper": data["lower"] * (1 - 1e-6)}))
    assert not low.upper.proven
    assert "node" in low.upper.reason
    assert low.lower.proven
    assert not low.ok
    high = lx.check(net, lx.Certificate({**data, "lower": data["upper"] * (1 + 1e-6)}))
    assert not high.lower.proven
    assert high.upper.proven


FORGED: dict[str, Callable[[list[Any]], list[Any]]] = {
    "nothing": lambda _: [],
    "a child is missing": lambda nodes: nodes[:-1],
    "a node too many": lambda nodes: [*nodes, nodes[-1]],
    "not closed": lambda nodes: [[], *nodes[1:]],
    "a step after the last": lambda nodes: [[*nodes[0], ["relax"]], *nodes[1:]],
    "empty for no reason": lambda _: [[["empty", [], [], []]]],
    "bounded at once": lambda _: [[["bound"]]],
    "deduced for no reason": lambda nodes: [
        [["deduce", 0, 0, 1, [[0, 0, 1]], [], []], *nodes[0]],
        *nodes[1:],
    ],
    "split by no gate": lambda nodes: [[["split", 0, -1]], *nodes[1:]],
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_proofs_are_refused(name: str) -> None:
    net = to_network([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, -1.0]], [0.0])])  # the identity
    certificate = lx.lipschitz(net, lx.Box([-1], [1]), method="bab", certificate=True).certificate
    assert certificate is not None
    nodes = FORGED[name](certificate.data["proof"]["nodes"])
    try:
        assert not lx.check(
            net, lx.Certificate({**certificate.data, "proof": {"nodes": nodes}})
        ).upper.proven
    except lx.CertificateError:
        assert name == "split by no gate"


@pytest.mark.parametrize(
    ("point", "over", "pattern", "direction"),
    [
        (0.5, 1, ["110"], 1.0),  # the pattern is not that of the point
        (0.0, 1, ["110"], 1.0),  # a kink
        (3.0, 1, ["101"], 1.0),  # outside
        (2.0, 1, ["101"], 1.0),  # on the border of the domain, and a kink
        (1, 0, ["100"], 1.0),
        (0.5, 1, ["10"], 1.0),
        (0.5, 1, ["100"], 3.0),  # a direction that is too long
        (0.5, 1, ["100"], 0.0),
    ],
)
def test_forged_witnesses_are_refused(
    point: float, over: int, pattern: list[str], direction: float
) -> None:
    layers = [
        ([[1.0], [-1.0], [1.0]], [0.0, 0.0, -2.0]),
        ([[1.0, -1.0, 1.0]], [0.0]),
    ]  # slopes 1, and 2 beyond 2
    net = to_network(layers)
    certificate = lx.lipschitz(net, lx.Box([-2], [2]), method="bab", certificate=True).certificate
    assert certificate is not None
    shown = {
        **certificate.data["witness"],
        "point": [point],
        "over": over,
        "pattern": pattern,
        "direction": [direction],
    }
    forged = lx.Certificate({**certificate.data, "lower": 2.0, "witness": shown})
    assert not lx.check(net, forged).lower.proven
    assert lx.check(net, certificate).exact


@pytest.mark.parametrize(
    "nodes",
    [
        [[["deduce", 0, 1, 0, [[0, 0, 1]], [], []], ["bound"]]],  # the gate itself takes no part
        [[["empty", [[0, 0, 1]], [], []]]],  # what is 0 shows nothing
        [[["split", 0, 1]], [["bound"]], [["deduce", 0, 1, 1, [[0, 0, 1]], [], []], ["bound"]]],
    ],
)
def test_a_neuron_that_vanishes_rules_nothing_out(nodes: list[Any]) -> None:
    net = to_network([([[0.0], [1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    certificate = lx.lipschitz(net, lx.Box([-1], [1]), method="bab", certificate=True).certificate
    assert certificate is not None
    forged = {**certificate.data, "upper": 0.5, "proof": {"nodes": nodes}}
    assert not lx.check(net, lx.Certificate(forged)).upper.proven


def test_open_gates_have_no_sign() -> None:
    net = to_network([([[1.0], [-1.0]], [0.0, 0.1]), ([[1.0, 1.0]], [0.0])])
    certificate = lx.lipschitz(net, lx.Box([-1], [1]), method="bab", certificate=True).certificate
    assert certificate is not None
    nodes = [[["empty", [[0, 0, 1], [0, 1, 1]], [], []]]]  # that both are off is what is impossible
    assert not lx.check(
        net, lx.Certificate({**certificate.data, "proof": {"nodes": nodes}})
    ).upper.proven


def refuses(net: lx.Network, domain: lx.Domain, steps: list[Any], **question: Any) -> None:
    """The checker does not take these steps for a proof that the constant is next to nothing."""
    certificate = lx.lipschitz(net, domain, method="bab", certificate=True, **question).certificate
    assert certificate is not None
    assert lx.check(net, certificate).exact
    forged = {**certificate.data, "upper": 1e-3, "proof": {"nodes": [steps]}}
    report = lx.check(net, lx.Certificate(forged))
    assert not report.upper.proven
    assert report.upper.reason.startswith("node 0")


def test_multipliers_have_to_fit() -> None:
    net = to_network([(np.eye(2), np.zeros(2)), (np.ones((1, 2)), [0.0])])
    box = lx.Box([-1, -1], [1, 1])
    refuses(net, box, [["bound", [[[1e-9] * 3]]]], input_norm="l2")
    refuses(net, box, [["bound", [[[1e-9] * 3, [1e9] * 2]]]], input_norm="linf")
    refuses(net, box, [["bound", [[[-1.0] * 3, [1e9] * 2]]]], input_norm="linf")


def test_a_guessed_factor_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    indefinite = Dyadic(np.array([[1, 2], [2, 1]]))
    assert not positive_semidefinite(indefinite)
    monkeypatch.setattr(np.linalg, "cholesky", lambda matrix: np.eye(len(matrix)))
    assert not positive_semidefinite(indefinite)
    assert positive_semidefinite(Dyadic(np.array([[1, 0], [0, 1]])))


def test_multipliers_are_positive() -> None:
    net = to_network([([[1.0], [1.0]], [2.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    refuses(net, lx.Box([-1], [1]), [["empty", [[0, 0, -1]], [], []]])
    refuses(net, lx.Box([-1], [1]), [["empty", [[0, 0, 0]], [], []]])


def test_limits_of_the_domain_count() -> None:
    net = to_network([([[1.0, 1.0]], [0.0])])
    refuses(net, lx.Polytope([[1, 1]], [3], lower=1, upper=2), [["empty", [], [[0, 1]], []]])
    refuses(net, lx.Ball([0, 0], 1, "l1"), [["empty", [], [], [[0, 1]]]])


@pytest.mark.parametrize("what", ["halfspaces", "vertices"])
def test_polyhedral_norms(what: str) -> None:
    rows = np.array([[2.0, 1.0, 0.0], [1.0, -3.0, 0.5], [0.0, 1.0, 1.0], [1.0, 0.0, -2.0]])
    one = lx.PolyhedralNorm(**{what: np.vstack([rows, -rows])})
    drawn = case("general", 21)
    weights = [
        (np.ones((len(drawn.weights[0][0]), 3)) * np.arange(1, 4), drawn.weights[0][1]),
        *drawn.weights[1:],
    ]
    net = to_network(weights)
    for question in ({"input_norm": one}, {"input_norm": "l1", "functional": 0}):
        if "functional" not in question and net.output.size != 3:
            question["functional"] = 0
        result = lx.lipschitz(
            net, lx.Box([-1] * 3, [1] * 3), method="bab", certificate=True, **question
        )  # type: ignore[arg-type]
        assert result.proof == "certificate"
        assert lx.check(net, result.certificate).exact


def test_gates_of_different_switches_are_independent() -> None:
    """Two branches that join: their open gates must not share a generator's sign."""
    rng = np.random.default_rng(5)
    for _ in range(8):
        x = Input(2)
        first, second = (
            relu(Affine(((rng.normal(size=(3, 2)), x),), rng.normal(size=3) / 4)) for _ in range(2)
        )
        joined = add((rng.normal(size=(2, 3)), first), (rng.normal(size=(2, 3)), second))
        output = Affine(((rng.normal(size=(1, 2)), relu(joined)),), np.zeros(1))
        net = network(Graph((x,), (output,)), input_shape=(2,), output_shape=(1,), name="joined")
        points = rng.uniform(-1, 1, (4000, 2))
        steepest = float(np.abs(net.jacobian(points)).sum(axis=(1, 2)).max())
        result = lx.lipschitz(net, lx.Box([-1, -1], [1, 1]), method="bab", certificate=True)
        report = lx.check(net, result.certificate)
        assert report.exact
        assert result.value >= steepest * (1 - 1e-12)
        data = result.certificate.data if result.certificate else {}
        at_once = {**data, "upper": steepest * (1 - 1e-9), "proof": {"nodes": [[["bound"]]]}}
        assert not lx.check(net, lx.Certificate(at_once)).upper.proven


def test_the_checker_needs_no_solver(tmp_path: Path) -> None:
    file = tmp_path / "proof"
    result = lx.lipschitz(EXAMPLE, lx.Ball(np.full(13, 0.5), 0.05), functional=0, certificate=file)
    assert result.proof == "certificate"
    code = (
        "import sys\n"
        "for name in ('highspy', 'pyomo', 'pyscipopt', 'gurobipy', 'loky'):\n"
        "    sys.modules[name] = None\n"
        "import lipexact\n"
        f"assert lipexact.check({str(EXAMPLE)!r}, {str(file)!r}).exact\n"
        "search = ('bab', 'mip', 'bounds', 'regions', 'lp', 'domains', 'bodies', 'api')\n"
        "assert not {f'lipexact.{name}' for name in search} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_certificate(tmp_path: Path) -> None:
    net = to_network([([[1.0]], [0.0])])
    other = to_network([([[2.0]], [0.0])])
    made = lx.lipschitz(net, lx.Box([-1], [1]), certificate=tmp_path / "file").certificate
    assert made is not None
    assert made.to_bytes() == (tmp_path / "file").read_bytes()
    with pytest.raises(lx.CertificateError, match="another network"):
        lx.check(other, made)
    whole = made.to_bytes()
    for wrong in (b"", b"{}", whole[:-9], whole[: len(whole) // 2], whole[:30] + b"x" + whole[31:]):
        with pytest.raises(lx.CertificateError):
            lx.read_certificate(wrong)
    with pytest.raises(lx.CertificateError, match="cannot be read"):
        lx.read_certificate(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(lx.CertificateError, match="regular"):
        lx.read_certificate(tmp_path / "pipe")
    with pytest.raises(lx.OptionError, match="folder"):
        lx.lipschitz(net, lx.Box([-1], [1]), certificate=tmp_path / "no" / "file")
    with pytest.raises(lx.OptionError, match="path"):
        lx.lipschitz(net, lx.Box([-1], [1]), certificate=3)  # type: ignore[arg-type]


def test_a_full_disk_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: object, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lipexact.certificates.certificate.write_whole", full)
    net = to_network([([[1.0]], [0.0])])
    with pytest.warns(RuntimeWarning, match="No space left"):
        result = lx.lipschitz(net, lx.Box([-1], [1]), certificate=tmp_path / "file")
    assert result.certificate is not None
    assert result.value == 1.0
    assert not list(tmp_path.iterdir())
