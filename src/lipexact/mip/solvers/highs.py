"""HiGHS, through Pyomo's v2 interface and ``highspy``."""

from __future__ import annotations

from typing import Any

from pyomo.common.dependencies import attempt_import
from pyomo.contrib.solver.solvers.highs import Highs

from lipexact.errors import SolverError
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

highspy, has_highspy = attempt_import("highspy")  # imported when it is first used

_OPTIONS = OptionNames(
    gap="mip_rel_gap",
    absolute_gap="mip_abs_gap",
    threads="threads",
    time_limit="time_limit",
    seed="random_seed",
    node_limit="mip_max_nodes",
)


@register(
    "highs",
    remedy="pip install highspy",
    present=lambda: bool(has_highspy),
    bundled=True,
    option_names=_OPTIONS,
)
def solve_highs(model: Any, settings: SolverSettings, watch: Watch) -> SolverOutcome:
    """Solve a model by HiGHS."""
    translator = Highs()
    with HANDOVER_LOCK:
        translator.set_instance(model)
    highs = translator._solver_model
    _require_whole_model(translator, highs)
    _set_options(highs, native_options(settings, watch, _OPTIONS))
    _subscribe(highs, watch)
    watch.run(highs.run, cancel=lambda: None)  # the subscribed events interrupt HiGHS
    undetermined = highs.getModelStatus() == highspy.HighsModelStatus.kUnboundedOrInfeasible
    if undetermined and not watch.cancelled:
        highs.setOptionValue("presolve", "off")
        if (left := watch.remaining()) is not None:
            highs.zeroAllClocks()
            highs.setOptionValue("time_limit", left)
        watch.run(highs.run, cancel=lambda: None)
    return _read_outcome(translator, highs, watch)


def _require_whole_model(translator: Any, highs: Any) -> None:
    """Raise SolverError if HiGHS has not taken all of a model.

    Pyomo does not look at what HiGHS returns; a coefficient of 1e15 or more costs the rows.
    """
    columns = len(translator._vars)
    rows = len(translator._active_constraints)
    if highs.getNumCol() != columns or highs.getNumRow() != rows:
        raise SolverError(
            "HiGHS refused part of the model: is a coefficient as large as 1e15, or not a number?"
        )


def _set_options(highs: Any, options: dict[str, Any]) -> None:
    highs.setOptionValue("output_flag", False)
    for name, value in options.items():
        try:
            accepted = highs.setOptionValue(name, value) == highspy.HighsStatus.kOk
        except TypeError:
            accepted = False
        if not accepted:
            raise refused_option("HiGHS", name, value)


def _subscribe(highs: Any, watch: Watch) -> None:
    """Let HiGHS report its progress to the watch, and ask the watch whether to go on."""

    def on_mip(event: Any) -> None:
        progress = event.data_out
        watch.record(progress.mip_primal_bound, progress.mip_dual_bound, progress.mip_node_count)
        on_lp(event)

    def on_lp(event: Any) -> None:
        if watch.cancelled:
            event.interrupt()

    highs.cbMipInterrupt.subscribe(on_mip)
    highs.cbSimplexInterrupt.subscribe(on_lp)
    highs.cbIpmInterrupt.subscribe(on_lp)


def _read_outcome(translator: Any, highs: Any, watch: Watch) -> SolverOutcome:
    """Return the outcome of a solve that has ended, and load its solution."""
    status = highs.getModelStatus()
    termination = _read_status(status, watch)
    info = highs.getInfo()
    feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    incumbent = None
    if status == highspy.HighsModelStatus.kModelEmpty:
        _, incumbent = highs.getObjectiveOffset()
    elif feasible and termination is not Termination.FAILED:
        incumbent = info.objective_function_value
        columns = translator._pyomo_var_to_solver_var_map
        values = highs.getSolution().col_value
        load_solution((entry[0], values[columns[key]]) for key, entry in translator._vars.items())
    if info.mip_node_count >= 0:
        bound = info.mip_dual_bound
        nodes = int(info.mip_node_count)
    else:  # of an LP, or before the tree, mip_dual_bound is not set, and reads 0
        bound = incumbent if termination is Termination.OPTIMAL else None
        nodes = None
    message = f"HiGHS: {highs.modelStatusToString(status)}"
    return SolverOutcome(termination, bound, incumbent, nodes, watch.seconds, message)


def _read_status(status: Any, watch: Watch) -> Termination:
    """Return the termination of a status: FAILED, unless it is a known one ("Not Set" is not)."""
    statuses = highspy.HighsModelStatus
    terminations = {
        statuses.kOptimal: Termination.OPTIMAL,
        statuses.kModelEmpty: Termination.OPTIMAL,
        statuses.kInfeasible: Termination.INFEASIBLE,
        statuses.kTimeLimit: Termination.TIME_LIMIT,
        statuses.kInterrupt: watch.stop_reason,
        statuses.kHighsInterrupt: watch.stop_reason,
        statuses.kIterationLimit: Termination.LIMIT,
        statuses.kSolutionLimit: Termination.LIMIT,
        statuses.kMemoryLimit: Termination.LIMIT,
        statuses.kObjectiveBound: Termination.LIMIT,
        statuses.kObjectiveTarget: Termination.LIMIT,
    }
    return terminations.get(status, Termination.FAILED)
