"""Check a certificate: read the file, and walk through the tree of its proof."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

from lipexact.certificates.certificate import Certificate, fingerprint, read_certificate
from lipexact.certificates.checker.cell import Cell
from lipexact.certificates.checker.reading import number
from lipexact.certificates.checker.refutation import RefutedError
from lipexact.certificates.checker.verifier import Verifier
from lipexact.certificates.report import Check, Claim
from lipexact.errors import CertificateError
from lipexact.network import Network
from lipexact.onnx.reader import read_onnx


def check(
    model: str | os.PathLike[str] | Network | Any,
    certificate: str | os.PathLike[str] | bytes | Certificate,
) -> Check:
    """Check a certificate against a network, in exact rational arithmetic and without a solver.

    Parameters
    ----------
    model
        A path to an ONNX file, an ``onnx.ModelProto``, or a :class:`Network`, as it was given to
        :func:`lipschitz`.
    certificate
        A path, the bytes of such a file, or a :class:`Certificate`.

    Returns
    -------
    Check

    Raises
    ------
    CertificateError
        If the certificate is malformed, or of another network.
    ModelError, UnsupportedOperatorError
        If the network cannot be read.
    """
    network = model if isinstance(model, Network) else read_onnx(model)
    data = (
        certificate if isinstance(certificate, Certificate) else read_certificate(certificate)
    ).data
    try:
        if data["model"]["fingerprint"] != fingerprint(network):
            raise CertificateError(
                "the certificate is of another network, or of one that was loaded in another way"
            )
        verifier = Verifier(network, data)
        nodes = [] if data["proof"] is None else data["proof"]["nodes"]
        statement = {name: data[name] for name in ("domain", "functionals", "directions")}
        return Check(_lower(verifier, data), _upper(verifier, data, nodes), len(nodes), statement)
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as failure:
        if isinstance(failure, CertificateError):
            raise
        raise CertificateError(
            f"the certificate is malformed: {type(failure).__name__}: {failure}"
        ) from None


def _lower(verifier: Verifier, data: dict[str, Any]) -> Claim:
    """Check the lower bound by its witness; 0 needs none."""
    if data["lower"] is None:
        return Claim(None, False, "no lower bound is claimed")
    claim = float(number(data["lower"]))
    try:
        attained = Fraction(0) if claim == 0 else verifier.attained(data["witness"])
    except RefutedError as failure:
        return Claim(claim, False, str(failure))
    if attained >= claim:
        return Claim(claim, True)
    return Claim(claim, False, f"the witness attains {float(attained):.17g} only")


def _upper(verifier: Verifier, data: dict[str, Any], nodes: list[Any]) -> Claim:
    """Check the upper bound by the nodes of its tree, in preorder."""
    if data["upper"] is None:
        return Claim(
            None,
            False,
            "no upper bound is claimed: it rests on floating-point arithmetic, or on a solver",
        )
    claim = float(number(data["upper"]))
    stack = [verifier.root()]
    for position, steps in enumerate(nodes):
        if not stack:
            return Claim(claim, False, f"node {position}: the tree ends before it")
        try:
            stack += _children(verifier, stack.pop(), steps, Fraction(claim))
        except RefutedError as failure:
            return Claim(claim, False, f"node {position}: {failure}")
    if stack:
        reason = f"the domain is not covered: nodes are missing after {len(nodes)}"
        return Claim(claim, False, reason)
    return Claim(claim, True)


def _children(verifier: Verifier, cell: Cell, steps: list[Any], claim: Fraction) -> list[Cell]:
    """Check a node's steps, and return its children, the one with the gate off first.

    Raises
    ------
    RefutedError
        If a step does not prove what it should, or the node is neither split nor closed.
    """
    for position, (name, *arguments) in enumerate(steps):
        if name == "relax":
            verifier.relax(cell, *arguments)
        elif name == "deduce":
            verifier.deduce(cell, *arguments)
        elif position < len(steps) - 1:
            raise RefutedError(f"{name} is not its last step")
        elif name == "split":
            return list(reversed(verifier.split(cell, *arguments)))
        elif name == "empty":
            verifier.empty(cell, *arguments)
            return []
        elif name == "bound":
            bound = verifier.norm(*verifier.zonotopes(cell), *arguments)
            if bound > claim:
                raise RefutedError(f"its norms are at most {float(bound):.17g} only")
            return []
        else:
            raise RefutedError(f"{name!r} is no step")
    raise RefutedError("it is not closed")
