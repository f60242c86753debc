"""The checker's report on a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lipexact.serialise import to_plain


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
    """The report of :func:`check`.

    Attributes
    ----------
    lower, upper
        The two bounds.
    nodes
        The number of nodes of the proof of the upper bound.
    statement
        The domain, and the sets of functionals and directions of the constant, as in the file.
    """

    lower: Claim
    upper: Claim
    nodes: int
    statement: dict[str, Any]

    @property
    def ok(self) -> bool:
        """True if every bound that is claimed is proven, and at least one is claimed."""
        claims = [each for each in (self.lower, self.upper) if each.claim is not None]
        return bool(claims) and all(each.proven for each in claims)

    @property
    def exact(self) -> bool:
        """True if both bounds are proven, and as near to each other as those of an EXACT result."""
        low = self.lower.claim
        high = self.upper.claim
        both = self.lower.proven and self.upper.proven and low is not None and high is not None
        return bool(both) and Fraction(high) - Fraction(low) <= Fraction(1e-9) * Fraction(high)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as strings, numbers, lists and dictionaries."""
        plain: dict[str, Any] = to_plain(self)
        return {"ok": self.ok, "exact": self.exact, **plain}

    def describe(self) -> dict[str, str]:
        """Return in words what is proven, and of what."""
        words = {
            "domain": _domain_in_words(self.statement["domain"]),
            "input norm": _set_in_words(self.statement["directions"], ""),
            "functionals": _set_in_words(
                self.statement["functionals"], "those in the unit ball of "
            ),
        }
        for name, bound in (("lower", self.lower), ("upper", self.upper)):
            claim = "" if bound.claim is None else f"{bound.claim:.17g}: "
            words[f"{name} bound"] = claim + (
                "proven" if bound.proven else f"not proven: {bound.reason}"
            )
        words["nodes"] = str(self.nodes)
        return words


def _domain_in_words(domain: dict[str, Any]) -> str:
    """Return what a statement says of the domain."""
    if "reals" in domain:
        return f"all of R^{len(domain['reals'])}"
    return (
        f"{min(domain['lower']):.9g} to {max(domain['upper']):.9g} in {len(domain['lower'])} "
        f"coordinates, with {len(domain['limits'])} half-spaces and {len(domain['balls'])} l1 balls"
    )


def _set_in_words(symmetric_set: dict[str, Any], prefix: str) -> str:
    """Return what a statement says of a set: the norm of its unit ball, or its size."""
    norms = {"cube": "linf", "cross": "l1", "ball": "l2"}
    kind = symmetric_set["kind"]
    if kind in norms:
        weighted = "" if set(symmetric_set["factors"]) == {1.0} else ", weighted"
        return f"{prefix}{norms[kind]}{weighted}"
    size = len(symmetric_set.get("points", symmetric_set.get("rows", [])))
    return f"a polytope of {2 * size} {'vertices' if kind == 'hull' else 'half-spaces'}"
