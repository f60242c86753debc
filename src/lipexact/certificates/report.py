"""What the checker says of a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Claim:
    """One bound of a certificate.

    Attributes
    ----------
    claim
        The bound, or None where none is claimed.
    proven
        Whether the certificate proves it.
    reason
        Why not, and at which node; empty where it is proven.
    """

    claim: float | None
    proven: bool
    reason: str = ""


@dataclass(frozen=True)
class Check:
    """What :func:`check` found.

    Attributes
    ----------
    lower, upper
        The two bounds.
    nodes
        The number of nodes of the proof of the upper bound.
    statement
        What the constant is of: the domain, and the bodies of functionals and directions, as in the file.
    """

    lower: Claim
    upper: Claim
    nodes: int
    statement: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether every bound that is claimed is proven, and at least one is."""
        claims = [each for each in (self.lower, self.upper) if each.claim is not None]
        return bool(claims) and all(each.proven for each in claims)

    @property
    def exact(self) -> bool:
        """Whether both are proven, and as near to each other as an answer that is called EXACT."""
        low, high = self.lower.claim, self.upper.claim
        both = self.lower.proven and self.upper.proven and low is not None and high is not None
        return bool(both) and Fraction(high) - Fraction(low) <= Fraction(1e-9) * Fraction(high)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Everything as strings, numbers, lists and dictionaries."""
        bounds = {
            name: vars(claim) for name, claim in (("lower", self.lower), ("upper", self.upper))
        }
        return {
            "ok": self.ok,
            "exact": self.exact,
            **bounds,
            "nodes": self.nodes,
            "statement": self.statement,
        }

    def describe(self) -> dict[str, str]:
        """What is proven, and of what, in words."""
        domain, words = self.statement["domain"], {}
        if "reals" in domain:
            words["domain"] = f"all of R^{len(domain['reals'])}"
        else:
            box = f"{min(domain['lower']):.9g} to {max(domain['upper']):.9g} in {len(domain['lower'])} coordinates"
            words["domain"] = (
                f"{box}, with {len(domain['limits'])} half-spaces and {len(domain['balls'])} l1 balls"
            )
        for name, kind, dual in (
            ("directions", "input norm", False),
            ("functionals", "functionals", True),
        ):
            body = self.statement[name]
            norms = {"cube": "linf", "cross": "l1", "ball": "l2"}
            factors = set(body.get("factors", [1.0]))
            weighted = "" if factors == {1.0} else ", weighted"
            size = len(body.get("points", body.get("rows", [])))
            polytope = f"a polytope of {2 * size} {'vertices' if body['kind'] == 'hull' else 'half-spaces'}"
            ball = (
                f"{'those in the unit ball of ' if dual else ''}{norms.get(body['kind'])}{weighted}"
            )
            words[kind] = ball if body["kind"] in norms else polytope
        for name, bound in (("lower", self.lower), ("upper", self.upper)):
            claim = "" if bound.claim is None else f"{bound.claim:.17g}: "
            words[f"{name} bound"] = claim + (
                "proven" if bound.proven else f"not proven: {bound.reason}"
            )
        words["nodes"] = str(self.nodes)
        return words
