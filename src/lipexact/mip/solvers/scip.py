"""SCIP, through Pyomo's v2 interface and PySCIPOpt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyomo.common.dependencies import attempt_import
from pyomo.common.tee import capture_output
from pyomo.common.timing import HierarchicalTimer
from pyomo.contrib.solver.solvers.scip.scip_direct import ScipDirect

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

pyscipopt, has_pyscipopt = attempt_import("pyscipopt")  # imported when it is first used

_OPTIONS = OptionNames(
    gap="limits/gap",
    absolute_gap="limits/absgap",
    threads="lp/threads",
    time_limit="limits/time",
    seed="randomization/randomseedshift",
    node_limit="limits/totalnodes",
)


class _Translator(ScipDirect):  # type: ignore[misc]
    """Pyomo's translator, but with the objective as it stands.

    Pyomo minimises a new variable t subject to t >= objective, and SCIP then accepts a t that is
    too small by its feasibility tolerance.
    """

    def _set_objective(self, obj: Any) -> None:
        expression = pyscipopt.quicksum([self._expr_visitor.walk_expression(obj.expr)])
        self._solver_model.setObjective(expression, "minimize")
        self._objective = obj


@register(
    "scip",
    remedy="pip install pyscipopt",
    present=lambda: bool(has_pyscipopt),
    quadratic=True,
    bundled=True,
    option_names=_OPTIONS,
)
def solve_scip(model: Any, settings: SolverSettings, watch: Watch) -> SolverOutcome:
    """Solve a model by SCIP."""
    translator = _Translator()
    with HANDOVER_LOCK:
        config = translator.config({"timer": HierarchicalTimer()})
        scip, _, _ = translator._create_solver_model(model, config)
    _set_options(scip, native_options(settings, watch, _OPTIONS))
    _report_progress(scip, watch)
    interrupt = _interrupter(scip)
    watch.run(scip.optimizeNogil, cancel=interrupt, new_thread=False)
    if scip.getStatus() == "inforunbd" and not watch.cancelled:
        scip.freeTransform()
        scip.setPresolve(pyscipopt.SCIP_PARAMSETTING.OFF)
        if (left := watch.remaining()) is not None:
            scip.setParam("limits/time", left)
        watch.run(scip.optimizeNogil, cancel=interrupt, new_thread=False)
    return _read_outcome(translator, scip, watch)


def _set_options(scip: Any, options: dict[str, Any]) -> None:
    scip.hideOutput()
    scip.setParam("misc/catchctrlc", False)  # ctrl-C belongs to Watch; SCIP would swallow it
    for name, value in options.items():
        try:
            # SCIP prints a value that it refuses to stderr.
            with HANDOVER_LOCK, capture_output(capture_fd=True):
                scip.setParam(name, value)
        except (LookupError, ValueError, TypeError, OverflowError) as error:
            raise refused_option("SCIP", name, value, error) from error


def _report_progress(scip: Any, watch: Watch) -> None:
    """Let SCIP report its progress to the watch."""

    class Reporter(pyscipopt.Eventhdlr):  # type: ignore[misc, name-defined]
        def eventinit(self) -> None:
            for event in (pyscipopt.SCIP_EVENTTYPE.NODESOLVED, pyscipopt.SCIP_EVENTTYPE.LPSOLVED):
                self.model.catchEvent(event, self)

        def eventexec(self, _event: Any) -> None:
            running = self.model
            watch.record(running.getPrimalbound(), running.getDualbound(), running.getNTotalNodes())

    scip.includeEventhdlr(Reporter(), "lipexact", "reports progress")


def _interrupter(scip: Any) -> Callable[[], bool]:
    """Return a function that interrupts SCIP; it returns False if SCIP refuses."""

    def interrupt() -> bool:
        try:
            scip.interruptSolve()
        except Exception:  # noqa: BLE001 (what PySCIPOpt raises where SCIP is between two stages)
            return False
        return True

    return interrupt


def _read_outcome(translator: Any, scip: Any, watch: Watch) -> SolverOutcome:
    """Return the outcome of a solve that has ended, and load its solution."""
    status = scip.getStatus()
    message = f"SCIP: {status}"
    termination = _read_status(status, watch)
    if termination is Termination.FAILED:  # asked for nodes before it has run, SCIP crashes
        return SolverOutcome(termination, None, None, None, watch.seconds, message)
    incumbent = None
    if scip.getNSols() > 0:
        solution = scip.getBestSol()
        incumbent = scip.getSolObjVal(solution)
        columns = translator._pyomo_var_to_solver_var_map
        load_solution((variable, solution[column]) for variable, column in columns.items())
    nodes = int(scip.getNTotalNodes())
    bound = scip.getDualbound()
    return SolverOutcome(termination, bound, incumbent, nodes, watch.seconds, message)


def _read_status(status: str, watch: Watch) -> Termination:
    """Return the termination of a status: FAILED, unless it is a known one ("unknown" is not)."""
    terminations = {
        "optimal": Termination.OPTIMAL,
        "gaplimit": Termination.OPTIMAL,
        "infeasible": Termination.INFEASIBLE,
        "timelimit": Termination.TIME_LIMIT,
        "userinterrupt": watch.stop_reason,
        "terminate": watch.stop_reason,
    }
    other = Termination.LIMIT if status.endswith("limit") else Termination.FAILED
    return terminations.get(status, other)
