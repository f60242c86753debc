"""What a solver's bound may be off."""

from __future__ import annotations

from lipexact.mip.claims import claimed_bound, trusted
from lipexact.mip.solvers.base import SolverOutcome, Termination


class Stub:
    """A composition with an accuracy of 1e-5, whose objective is minus the norm."""

    def __init__(self, *, quadratic, parked):
        self.quadratic = quadratic
        self.is_parked = parked
        self.accuracy = 1e-5

    def to_norm(self, x):
        return -x


def test_a_quadratic_bound_is_raised_by_its_accuracy():
    assert trusted(Stub(quadratic=True, parked=False), 1.0) >= 1.0 + 1e-5


def test_a_linear_bound_is_at_least_its_accuracy():
    assert trusted(Stub(quadratic=False, parked=False), 0.0) >= 1e-5


def test_a_parked_solution_excludes_others_by_more_than_the_accuracy_only():
    composition = Stub(quadratic=True, parked=True)
    for bound, excluded in ((1 - 5e-6, False), (1 - 5e-5, True)):
        outcome = SolverOutcome(Termination.OPTIMAL, -bound, -bound, 0, 0.0)
        claim = claimed_bound(composition, outcome, 1.0)
        assert (claim == 0.0) if excluded else (claim > 1.0)
