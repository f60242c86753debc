"""SCIP: its threads."""

from __future__ import annotations

import pytest

from lipexact.mip.solvers.base import (
    solve,
)
from tests.support.mip_models import (
    QUADRATIC,
    check,
    longest_in_the_ball,
)
from tests.support.solvers import require


@pytest.mark.slow
def test_many_quadratic_solves_in_one_process():
    # SCIP's CppAD crashes in the 64th thread that it meets.
    for _ in range(66):
        model, optimum = longest_in_the_ball()
        check(model, solve(model, require("scip")), optimum, QUADRATIC)
