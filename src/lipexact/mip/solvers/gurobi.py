"""Gurobi, through Pyomo's v2 interfaces and ``gurobipy``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyomo.common.dependencies import attempt_import
from pyomo.common.errors import InvalidConstraintError
from pyomo.common.timing import HierarchicalTimer
from pyomo.contrib.solver.solvers.gurobi.gurobi_direct import GurobiDirect
from pyomo.contrib.solver.solvers.gurobi.gurobi_persistent import GurobiPersistent

from lipexact.errors import SolverUnavailableError
from lipexact.mip.solvers.base import (
    HANDOVER_LOCK,
    OptionNames,
    SolverOutcome,
    SolverSettings,
    Termination,
    Watch,
    load_solution,
    native_options,
    refused_option,
    register,
)
from lipexact.mip.solvers.watch import finite

gurobipy, has_gurobipy = attempt_import("gurobipy")  # imported when it is first used

_OPTIONS = OptionNames(
    gap="MIPGap",
    absolute_gap="MIPGapAbs",
    threads="Threads",
    time_limit="TimeLimit",
    seed="Seed",
    node_limit="NodeLimit",
)


def _is_present() -> bool:
    with HANDOVER_LOCK:  # Pyomo starts Gurobi to look for a licence
        return bool(has_gurobipy) and bool(GurobiDirect().available())


@register(
    "gurobi",
    remedy='pip install "lipexact[gurobi]", and a Gurobi licence (the one that comes with it '
    "covers small models)",
    present=_is_present,
    quadratic=True,
    option_names=_OPTIONS,
)
def solve_gurobi(model: Any, settings: SolverSettings, watch: Watch) -> SolverOutcome:
    """Solve a model by Gurobi."""
    with HANDOVER_LOCK:
        # The loader owns the Gurobi model and disposes of it: keep it until the outcome is read.
        translator, gurobi, _loader = _hand_over(model)
    _set_options(gurobi, native_options(settings, watch, _OPTIONS))
    optimise = _optimiser(gurobi, watch)
    watch.run(optimise, cancel=gurobi.terminate)
    if gurobi.Status == gurobipy.GRB.INF_OR_UNBD and not watch.cancelled:
        gurobi.setParam("DualReductions", 0)
        if (left := watch.remaining()) is not None:
            gurobi.setParam("TimeLimit", left)
        watch.run(optimise, cancel=gurobi.terminate)
    return _read_outcome(translator, gurobi, watch)


def _hand_over(model: Any) -> tuple[Any, Any, Any]:
    """Return Pyomo's translator, the Gurobi model, and the loader of its solution.

    The first translator takes linear models only, and is twice as fast as the other one.
    """
    translator = GurobiDirect()
    config = translator.config({"timer": HierarchicalTimer()})
    try:
        gurobi, loader, _ = translator._create_solver_model(model, config)
    except InvalidConstraintError:
        translator = GurobiPersistent()
        gurobi, loader, _ = translator._create_solver_model(model, {})
    return translator, gurobi, loader


def _set_options(gurobi: Any, options: dict[str, Any]) -> None:
    gurobi.setParam("OutputFlag", 0)
    for name, value in options.items():
        try:
            gurobi.setParam(name, value)
        except (gurobipy.GurobiError, TypeError, AttributeError) as error:
            raise refused_option("Gurobi", name, value, error) from error


def _optimiser(gurobi: Any, watch: Watch) -> Callable[[], None]:
    """Return a function that solves the model and reports its progress to the watch."""
    codes = gurobipy.GRB

    def on_event(running: Any, where: int) -> None:
        if where == codes.Callback.MIP:
            incumbent = running.cbGet(codes.Callback.MIP_OBJBST)
            bound = running.cbGet(codes.Callback.MIP_OBJBND)
            watch.record(incumbent, bound, int(running.cbGet(codes.Callback.MIP_NODCNT)))

    def optimise() -> None:
        try:
            gurobi.optimize(on_event)
        except gurobipy.GurobiError as error:
            if error.errno != codes.Error.SIZE_LIMIT_EXCEEDED:
                raise
            raise SolverUnavailableError(
                f"the model has {gurobi.NumVars} variables, {gurobi.NumConstrs} linear and "
                f"{gurobi.NumQConstrs} quadratic constraints; the size-limited Gurobi licence "
                "found here covers 2000 variables (200 with quadratic constraints) and 2000 "
                "linear constraints. Install a full licence, or use another solver."
            ) from error

    return optimise


def _read_outcome(translator: Any, gurobi: Any, watch: Watch) -> SolverOutcome:
    """Return the outcome of a solve that has ended, and load its solution."""
    statuses = gurobipy.GRB.Status
    status = next(name for name in dir(statuses) if getattr(statuses, name) == gurobi.Status)
    termination = _read_status(status, watch)
    incumbent = None
    bound = None
    if termination is not Termination.FAILED:
        if gurobi.SolCount > 0:
            incumbent = gurobi.ObjVal
            _load_best_solution(translator, gurobi)
        if gurobi.IsMIP or termination is Termination.OPTIMAL:  # an LP has no bound before its end
            bound = gurobi.ObjBound
        if gurobi.IsQCP and not gurobi.IsMIP and incumbent is not None and finite(bound) is None:
            # The barrier method proves no bound, but stops within this distance of its dual value.
            bound = incumbent - gurobi.Params.BarQCPConvTol * max(1.0, abs(incumbent))
    nodes = int(gurobi.NodeCount) if gurobi.IsMIP else None
    return SolverOutcome(termination, bound, incumbent, nodes, watch.seconds, f"Gurobi: {status}")


def _read_status(status: str, watch: Watch) -> Termination:
    """Return the termination of a status: FAILED, unless it is a known one ("LOADED" is not)."""
    terminations = {
        "OPTIMAL": Termination.OPTIMAL,
        "INFEASIBLE": Termination.INFEASIBLE,
        "TIME_LIMIT": Termination.TIME_LIMIT,
        "INTERRUPTED": watch.stop_reason,
        "CUTOFF": Termination.LIMIT,
    }
    other = Termination.LIMIT if status.endswith("_LIMIT") else Termination.FAILED
    return terminations.get(status, other)


def _load_best_solution(translator: Any, gurobi: Any) -> None:
    pairs = list(translator._pyomo_gurobi_var_iter())
    values = gurobi.getAttr("X", [column for _, column in pairs])
    load_solution((variable, value) for (variable, _), value in zip(pairs, values, strict=True))
