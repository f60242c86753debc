"""One adapter for every MIP solver that Pyomo reaches.

Pyomo translates the model and maps its variables: its v2 interfaces (``pyomo.contrib.solver``) for HiGHS, SCIP and
Gurobi, its legacy one for CBC. Starting the solver and reading its answer happen here, for three reasons. Pyomo
captures the output of the whole process during a solve, so a progress display would vanish into the solver's log.
Its status tables merge what must stay apart: "Not Set" with "unknown", and for CBC a time-out with infeasibility.
And its run cannot be stopped from outside.

Every solver runs on a thread of its own, while the calling thread reports progress and waits for ctrl-C. HiGHS keeps
its scheduler per thread, and refuses another number of threads in a thread that has one ("global scheduler has
already been initialized"): a fresh thread for each solve has no such history. SCIP needs the opposite: with quadratic
constraints it calls CppAD, which numbers all threads that it ever meets, and the process dies with the 64th.

How far an answer can be trusted. A bound is the solver's floating-point claim, and tolerances are absolute. Measured
with a gap of 0 against enumeration and against each other, the "optimum" lay above the true one by up to 1e-7 (HiGHS,
SCIP), 9e-7 (Gurobi) and 1.3e-6 (CBC, of an objective of 4e-4): scale the objective to the hundreds before a relative
error counts. CBC is that good only because ``increment`` is 0 here; by default it passes over solutions that are
better by less than 1e-5. Feasibility tolerances stay at each solver's default; tighter ones made HiGHS claim false
infeasibility (HiGHS issue 2033).

With quadratic constraints the bound lay above the true maximum, as it should, or below it by less than 1e-9 of it. A
violation by 1e-6 of a sum of squares moved it up: by 1e-6 of itself (Gurobi: 4e-6) for vectors of norm 1, and by 1e-8
(Gurobi: mostly 1e-10, once 1e-5) for vectors of norm 64.
"""

from __future__ import annotations

import math
import os
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyomo.environ as pyo
from pyomo.common import Executable
from pyomo.common.dependencies import attempt_import
from pyomo.common.errors import InfeasibleConstraintException, InvalidConstraintError
from pyomo.common.tee import capture_output
from pyomo.common.tempfiles import TempfileManager
from pyomo.common.timing import HierarchicalTimer
from pyomo.contrib.solver.solvers.gurobi.gurobi_direct import GurobiDirect
from pyomo.contrib.solver.solvers.gurobi.gurobi_persistent import GurobiPersistent
from pyomo.contrib.solver.solvers.highs import Highs
from pyomo.contrib.solver.solvers.scip.scip_direct import ScipDirect
from pyomo.opt.results import SolverResults
from pyomo.solvers.plugins.solvers.CBCplugin import CBCSHELL

from lipexact.errors import LipExactError, OptionError, SolverError, SolverUnavailableError
from lipexact.state import Progress, ProgressCallback, Termination

# Imported when first used: none of the three need be installed.
highspy, has_highspy = attempt_import("highspy")
pyscipopt, has_pyscipopt = attempt_import("pyscipopt")
gurobipy, has_gurobipy = attempt_import("gurobipy")

__all__ = [
    "SOLVERS",
    "Progress",
    "ProgressCallback",
    "Solver",
    "SolverOutcome",
    "SolverSettings",
    "Termination",
    "Watch",
    "available",
    "quadratic_solvers",
    "register",
    "require_solver",
    "solve",
    "solver_names",
]

_HEARTBEAT = 0.5  # seconds between two calls of on_progress without a new incumbent
_PULSE = 0.1  # seconds between two looks for one
_GRACE = 3.0  # seconds past its time limit after which a solver is told to stop, and told again
_HANDING_OVER = (
    threading.RLock()
)  # Pyomo redirects the output of the whole process while it hands a model over
_CBC_FILES = threading.RLock()  # Pyomo keeps its temporary files on one stack
_CONTRADICTION = 1e-6  # how far an incumbent may lie below the bound: solvers accept points violated by about this


@dataclass(frozen=True)
class SolverSettings:
    """The settings of one solve, whichever the solver.

    Parameters
    ----------
    time_limit : float, optional
        Wall-clock seconds, including those of handing the model over.
    gap : float
        Relative gap at which the solver stops. The absolute gap is always 0.
    threads : int, optional
        Number of threads; None leaves it to the solver.
    extra : Mapping[str, Any]
        Options under the solver's own names. They win over the three above.
    """

    time_limit: float | None = None
    gap: float = 0.0
    threads: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SolverOutcome:
    """What a solver claims about a minimisation.

    `bound` is a lower bound on the optimum (None: no claim; +inf: infeasible), `incumbent` the objective of the
    solution that was loaded into the model's variables (None: there is no solution, and none was loaded). `bound`
    never exceeds `incumbent`. `message` has the solver's own words where it did not reach an optimum.
    """

    termination: Termination
    bound: float | None
    incumbent: float | None
    nodes: int | None
    seconds: float
    message: str = ""


class Watch:
    """The clock of one solve: its time limit, its progress, and the ways to stop it.

    Parameters
    ----------
    time_limit : float, optional
        Wall-clock seconds from now.
    on_progress : ProgressCallback, optional
        Called on the thread that called `run`; True stops the solve.
    """

    def __init__(self, time_limit: float | None, on_progress: ProgressCallback | None) -> None:
        self._start = time.perf_counter()
        self._limit = time_limit
        self._on_progress = on_progress
        self._latest: tuple[float | None, float | None, int | None] = (None, None, None)
        self._expired = False
        self.cancelled = False
        self.error: Exception | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the solve began."""
        return time.perf_counter() - self._start

    def remaining(self) -> float | None:
        """Seconds left, at least 0; None without a limit."""
        return None if self._limit is None else max(0.0, self._limit - self.seconds)

    @property
    def overdue(self) -> bool:
        """Whether the time limit has passed."""
        return self._limit is not None and self.seconds >= self._limit

    @property
    def stopped(self) -> Termination:
        """How to call the end of a solve that was told to stop."""
        return Termination.TIME_LIMIT if self._expired else Termination.INTERRUPTED

    def record(self, incumbent: float | None, bound: float | None, nodes: int | None) -> None:
        """Keep the latest news; called on the solver's thread."""
        self._latest = (_finite(incumbent), _finite(bound), nodes)

    def run(
        self, job: Callable[[], object], cancel: Callable[[], object], fresh: bool = True
    ) -> None:
        """Run `job` on a thread of its own until it returns; `cancel`, called from outside, asks it to.

        With `fresh` the thread is new; otherwise it is one that an earlier job has left, if there is any.
        A `cancel` that returns False was refused, and is asked again soon.
        Ctrl-C, the progress callback (by True or an exception), or a time limit long overdue stop the job. Another
        ctrl-C while a job is slow to stop goes to the caller, and leaves the job behind.
        """
        failures: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                job()
            except BaseException as failure:  # noqa: BLE001 (raised again below, on the caller's thread)
                failures.append(failure)
            finally:
                done.set()

        def stop() -> bool:
            self.cancelled = True
            return cancel() is not False

        _reclaim_ctrl_c()
        _start(work, fresh)
        incumbent, due = None, self.seconds + _HEARTBEAT
        try:
            while not done.wait(_PULSE):
                if self._limit is not None and self.seconds > self._limit + _GRACE:
                    self._expired = True
                    break
                news = self._latest
                if self._on_progress is None or (news[0] == incumbent and self.seconds < due):
                    continue
                incumbent, due = news[0], self.seconds + _HEARTBEAT
                if self._on_progress(Progress(self.seconds, *news)):
                    break
        except KeyboardInterrupt:
            pass
        except Exception as error:  # noqa: BLE001 (the callback's own: the solve stops first, then it is raised)
            self.error = error
        while not done.is_set():
            done.wait(_GRACE if stop() else _PULSE)
        _reclaim_ctrl_c()
        if failures:
            raise failures[0]


_idle: list[
    SimpleQueue[Callable[[], None]]
] = []  # the inboxes of the threads that wait for another job
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a child process has none of the threads


def _start(job: Callable[[], None], fresh: bool) -> None:
    """Run `job` on a new thread, or let an idle one have it."""
    if fresh:
        threading.Thread(target=job, name="lipexact-solver", daemon=True).start()
        return
    try:
        inbox = _idle.pop()
    except IndexError:
        inbox = SimpleQueue()
        threading.Thread(target=_serve, args=(inbox,), name="lipexact-solver", daemon=True).start()
    inbox.put(job)


def _serve(inbox: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        inbox.get()()
        _idle.append(inbox)


def _reclaim_ctrl_c() -> None:
    """Make ctrl-C go to Python's handler again.

    Gurobi takes the signal for as long as it runs (and then stops by itself). Two of its solves at a time, on two
    threads, each put back what they found, and may leave Gurobi's handler behind for good.
    """
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGINT)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


@dataclass(frozen=True)
class Solver:
    """An entry of the registry: how to find a solver, how to get it, and how to run it."""

    name: str
    remedy: str
    present: Callable[[], bool]
    run: Callable[[Any, SolverSettings, Watch], SolverOutcome]
    quadratic: bool = False


SOLVERS: dict[str, Solver] = {}


_Run = Callable[[Any, SolverSettings, Watch], SolverOutcome]


def register(
    name: str, *, remedy: str, present: Callable[[], bool], quadratic: bool = False
) -> Callable[[_Run], _Run]:
    """Add a solver to the registry.

    Parameters
    ----------
    name : str
        The name that callers use.
    remedy : str
        What to do where the solver is missing.
    present : Callable[[], bool]
        Whether the solver can be used here.
    quadratic : bool
        Whether it takes quadratic constraints, convex or not.

    Returns
    -------
    Callable
        A decorator for the function that solves: it gets the model, the options and the watch, loads the best
        solution into the model's variables, and returns the outcome.
    """

    def add(run: _Run) -> _Run:
        SOLVERS[name] = Solver(name, remedy, present, run, quadratic)
        return run

    return add


def solver_names() -> tuple[str, ...]:
    """Return the names of all registered solvers, present or not."""
    return tuple(SOLVERS)


def quadratic_solvers() -> tuple[str, ...]:
    """Return the names of the registered solvers that take quadratic constraints, present or not."""
    return tuple(name for name, entry in SOLVERS.items() if entry.quadratic)


def available(solver: str) -> bool:
    """Tell whether a solver can be used here.

    Parameters
    ----------
    solver : str
        A name from `solver_names`.

    Returns
    -------
    bool
        True when the solver is installed and, for Gurobi, some licence is found; the licence may still be too
        small for a given model.

    Raises
    ------
    OptionError
        For an unknown name.
    """
    return _entry(solver).present()


def require_solver(solver: str, quadratic: bool = False) -> None:
    """Refuse a solver that cannot be used here.

    Parameters
    ----------
    solver : str
        A name from `solver_names`.
    quadratic : bool
        Whether the model will have quadratic constraints.

    Raises
    ------
    OptionError
        For an unknown name.
    SolverUnavailableError
        When the solver does not take quadratic constraints, and they are needed; the message says which ones do. When
        the solver is not installed; the message says what to install.
    """
    entry = _entry(solver)
    if quadratic and not entry.quadratic:
        raise _not_quadratic(solver)
    if not entry.present():
        raise SolverUnavailableError(f"the solver {solver!r} is not available here: {entry.remedy}")


def solve(
    model: Any,
    solver: str,
    options: SolverSettings | None = None,
    on_progress: ProgressCallback | None = None,
) -> SolverOutcome:
    """Minimise a Pyomo model and load the best solution into its variables.

    Parameters
    ----------
    model : pyo.ConcreteModel
        A mixed-integer linear model with exactly one active objective, of sense minimize; for the solvers of
        `quadratic_solvers` with quadratic constraints too, convex or not. (Maximising, CBC's interface returned bounds
        of the wrong sign under a time limit: state a maximisation as the minimisation of the negative.)
    solver : str
        A name from `solver_names`.
    options : SolverSettings, optional
        Time limit, gap, threads, and options under the solver's own names.
    on_progress : ProgressCallback, optional
        Called on the calling thread twice a second, and within a tenth of a second of a new incumbent. HiGHS, SCIP and
        Gurobi report incumbent, bound and nodes; CBC what its log says, which in long stretches is the elapsed time
        only. When the callback returns True, or on ctrl-C, or when the callback raises KeyboardInterrupt, the solve
        stops, and the outcome is INTERRUPTED with the bounds reached; any other exception of the callback stops the
        solve and is raised.

    Returns
    -------
    Outcome
        OPTIMAL also where the gap that was asked for is reached: look at the bounds. INFEASIBLE is returned only
        where the solver says just that; an unbounded model, or one that is "infeasible or unbounded" even without
        presolve, is FAILED.

    Raises
    ------
    OptionError
        For an unknown solver, or an option or value that is not valid.
    SolverUnavailableError
        When the solver is not installed, does not take the model's quadratic constraints, or its licence does not
        cover the model.
    SolverError
        When the model is not a minimisation, cannot be handed over, or the solver contradicts itself.
    MemoryError
        When there is not enough of it.

    Notes
    -----
    Solvers look at the clock now and then only. HiGHS may overstay its limit, in presolve above all; for a hard
    limit, solve in a process of its own. CBC is killed a few seconds after its limit if need be.
    """
    entry = _entry(solver)
    options = _valid(options or SolverSettings())
    _require_minimisation(model)
    require_solver(solver)
    if options.time_limit is not None and options.time_limit <= 0:
        return SolverOutcome(
            Termination.TIME_LIMIT, None, None, None, 0.0, "the time limit leaves no time to solve"
        )
    watch = Watch(options.time_limit, on_progress)
    try:
        outcome = _sane(entry.run(model, options, watch), solver)
    except InfeasibleConstraintException as error:
        # Pyomo found a constraint without variables, or with all of them fixed, that does not hold.
        outcome = SolverOutcome(
            Termination.INFEASIBLE, math.inf, None, 0, watch.seconds, str(error)
        )
    except (LipExactError, MemoryError):
        raise
    except Exception as error:
        if not entry.quadratic and _is_quadratic(model):
            raise _not_quadratic(solver) from error
        raise SolverError(f"{solver} failed: {type(error).__name__}: {error}") from error
    if watch.error is not None:
        raise watch.error
    return outcome


def _entry(solver: str) -> Solver:
    try:
        return SOLVERS[solver]
    except KeyError:
        raise OptionError(f"unknown solver {solver!r}; known are {', '.join(SOLVERS)}") from None


def _not_quadratic(solver: str) -> SolverUnavailableError:
    others = " or ".join(f"solver={name!r}" for name in quadratic_solvers())
    return SolverUnavailableError(
        f"{solver} cannot solve the quadratic program that an l2 norm makes; use {others}"
    )


def _is_quadratic(model: Any) -> bool:
    constraints = model.component_data_objects(pyo.Constraint, active=True, descend_into=True)
    return any(constraint.body.polynomial_degree() == 2 for constraint in constraints)


def _valid(options: SolverSettings) -> SolverSettings:
    """Check what is common to all solvers; an infinite time limit becomes none."""
    if options.time_limit is not None and math.isnan(options.time_limit):
        raise OptionError("time_limit is not a number")
    if not options.gap >= 0 or math.isinf(options.gap):
        raise OptionError(f"gap must be a number >= 0, not {options.gap}")
    if options.threads is not None and options.threads < 1:
        raise OptionError(f"threads must be at least 1, not {options.threads}")
    return replace(options, time_limit=None) if options.time_limit == math.inf else options


def _require_minimisation(model: Any) -> None:
    objectives = list(model.component_data_objects(pyo.Objective, active=True, descend_into=True))
    if len(objectives) != 1:
        raise SolverError(
            f"the model must have exactly one active objective, not {len(objectives)}"
        )
    if objectives[0].sense != pyo.minimize:
        raise SolverError(
            "the model must be a minimisation: minimise the negative of the objective"
        )


def _sane(outcome: SolverOutcome, solver: str) -> SolverOutcome:
    """Refuse an outcome that contradicts itself, or is none; claim nothing where the solver claims nothing."""
    if not isinstance(outcome, SolverOutcome):
        raise SolverError(f"{solver} returned no outcome, but {outcome!r}")
    outcome = replace(
        outcome, termination=Termination(outcome.termination), nodes=_count(outcome.nodes)
    )
    if outcome.termination is Termination.FAILED:
        return replace(outcome, bound=None, incumbent=None)
    if outcome.termination is Termination.INFEASIBLE:
        return replace(outcome, bound=math.inf, incumbent=None)
    bound, incumbent = _finite(outcome.bound), _finite(outcome.incumbent)
    if bound is not None and incumbent is not None:
        if incumbent < bound - _CONTRADICTION * max(1.0, abs(bound), abs(incumbent)):
            raise SolverError(
                f"{solver} contradicts itself: a solution of {incumbent} below its bound of {bound}"
            )
        bound = min(bound, incumbent)
    elif outcome.termination is Termination.OPTIMAL:
        message = f"{outcome.message}, but without a {'bound' if bound is None else 'solution'}"
        return replace(
            outcome, termination=Termination.FAILED, bound=None, incumbent=None, message=message
        )
    message = "" if outcome.termination is Termination.OPTIMAL else outcome.message
    return replace(outcome, bound=bound, incumbent=incumbent, message=message)


def _finite(value: float | None) -> float | None:
    """Drop what stands for infinity: 1e20 (SCIP), 1e50 (CBC), 1e100 (Gurobi), inf (HiGHS)."""
    return None if value is None or math.isnan(value) or abs(value) >= 1e20 else float(value)


def _count(nodes: float | None) -> int | None:
    return None if nodes is None or not math.isfinite(nodes) else int(nodes)


def _load(values: Iterable[tuple[Any, float]]) -> None:
    for variable, value in values:
        if not variable.fixed:
            variable.set_value(value, skip_validation=True)


def _settings(
    options: SolverSettings,
    watch: Watch,
    *,
    gap: str,
    absolute_gap: str,
    threads: str,
    time_limit: str,
) -> dict[str, Any]:
    """Put the options under a solver's own names; the caller's own come last, and win."""
    settings: dict[str, Any] = {gap: options.gap, absolute_gap: 0.0}
    if options.threads is not None:
        settings[threads] = options.threads
    if (left := watch.remaining()) is not None:
        settings[time_limit] = left
    return settings | dict(options.extra)


def _refusal(solver: str, name: str, value: object, reason: object = "") -> OptionError:
    return OptionError(
        f"{solver} does not take the option {name!r} with the value {value!r}. {reason}".rstrip(
            ". "
        )
    )


# ---------------------------------------------------------------------------------------------------------- HiGHS


@register("highs", remedy="pip install highspy", present=lambda: bool(has_highspy))
def _solve_highs(model: Any, options: SolverSettings, watch: Watch) -> SolverOutcome:
    translator = Highs()
    with _HANDING_OVER:
        translator.set_instance(model)
    highs = translator._solver_model
    if highs.getNumCol() != len(translator._vars) or highs.getNumRow() != len(
        translator._active_constraints
    ):
        # Pyomo does not look at what HiGHS answers; a coefficient of 1e15 or more costs the rows.
        raise SolverError(
            "HiGHS refused part of the model: is a coefficient as large as 1e15, or not a number?"
        )
    highs.setOptionValue("output_flag", False)
    names = {
        "gap": "mip_rel_gap",
        "absolute_gap": "mip_abs_gap",
        "threads": "threads",
        "time_limit": "time_limit",
    }
    for name, value in _settings(options, watch, **names).items():
        try:
            accepted = highs.setOptionValue(name, value) == highspy.HighsStatus.kOk
        except TypeError:
            accepted = False
        if not accepted:
            raise _refusal("HiGHS", name, value)

    def on_mip(event: Any) -> None:
        news = event.data_out
        watch.record(news.mip_primal_bound, news.mip_dual_bound, news.mip_node_count)
        on_lp(event)

    def on_lp(event: Any) -> None:
        if watch.cancelled:
            event.interrupt()

    highs.cbMipInterrupt.subscribe(on_mip)
    highs.cbSimplexInterrupt.subscribe(on_lp)
    highs.cbIpmInterrupt.subscribe(on_lp)

    watch.run(highs.run, cancel=lambda: None)  # the events above do it
    if (
        highs.getModelStatus() == highspy.HighsModelStatus.kUnboundedOrInfeasible
        and not watch.cancelled
    ):
        highs.setOptionValue("presolve", "off")
        if (left := watch.remaining()) is not None:
            highs.zeroAllClocks()
            highs.setOptionValue("time_limit", left)
        watch.run(highs.run, cancel=lambda: None)
    return _read_highs(translator, highs, watch)


def _read_highs(translator: Any, highs: Any, watch: Watch) -> SolverOutcome:
    states = highspy.HighsModelStatus
    status = highs.getModelStatus()
    # All others, "Not Set" and "Unknown" among them, are no answer.
    termination = {
        states.kOptimal: Termination.OPTIMAL,
        states.kModelEmpty: Termination.OPTIMAL,
        states.kInfeasible: Termination.INFEASIBLE,
        states.kTimeLimit: Termination.TIME_LIMIT,
        states.kInterrupt: watch.stopped,
        states.kHighsInterrupt: watch.stopped,
        states.kIterationLimit: Termination.LIMIT,
        states.kSolutionLimit: Termination.LIMIT,
        states.kMemoryLimit: Termination.LIMIT,
        states.kObjectiveBound: Termination.LIMIT,
        states.kObjectiveTarget: Termination.LIMIT,
    }.get(status, Termination.FAILED)
    info = highs.getInfo()
    incumbent = None
    if status == states.kModelEmpty:
        _, incumbent = highs.getObjectiveOffset()
    elif (
        info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        and termination is not Termination.FAILED
    ):
        incumbent = info.objective_function_value
        columns = translator._pyomo_var_to_solver_var_map
        solution = highs.getSolution().col_value
        _load((entry[0], solution[columns[key]]) for key, entry in translator._vars.items())
    if info.mip_node_count >= 0:
        bound, nodes = info.mip_dual_bound, int(info.mip_node_count)
    else:  # an LP, or the tree was not entered: mip_dual_bound is not set, and reads 0
        bound, nodes = (incumbent if termination is Termination.OPTIMAL else None), None
    return SolverOutcome(
        termination,
        bound,
        incumbent,
        nodes,
        watch.seconds,
        f"HiGHS: {highs.modelStatusToString(status)}",
    )


# ----------------------------------------------------------------------------------------------------------- SCIP


class _Scip(ScipDirect):  # type: ignore[misc]
    """Pyomo's SCIP with the objective as it stands.

    Pyomo minimises a new variable t subject to t >= objective, and SCIP then accepts a t that is too small by its
    feasibility tolerance.
    """

    def _set_objective(self, obj: Any) -> None:
        expression = pyscipopt.quicksum([self._expr_visitor.walk_expression(obj.expr)])
        self._solver_model.setObjective(expression, "minimize")
        self._objective = obj


@register(
    "scip", remedy="pip install pyscipopt", present=lambda: bool(has_pyscipopt), quadratic=True
)
def _solve_scip(model: Any, options: SolverSettings, watch: Watch) -> SolverOutcome:
    translator = _Scip()
    with _HANDING_OVER:
        scip, _, _ = translator._create_solver_model(
            model, translator.config({"timer": HierarchicalTimer()})
        )
    scip.hideOutput()
    scip.setParam("misc/catchctrlc", False)  # ctrl-C belongs to Watch; SCIP would swallow it
    names = {
        "gap": "limits/gap",
        "absolute_gap": "limits/absgap",
        "threads": "lp/threads",
        "time_limit": "limits/time",
    }
    for name, value in _settings(options, watch, **names).items():
        try:
            with (
                _HANDING_OVER,
                capture_output(capture_fd=True),
            ):  # SCIP prints a value that it refuses to stderr
                scip.setParam(name, value)
        except (LookupError, ValueError, TypeError, OverflowError) as error:
            raise _refusal("SCIP", name, value, error) from error

    class Reporter(pyscipopt.Eventhdlr):  # type: ignore[misc, name-defined]
        def eventinit(self) -> None:
            for event in (pyscipopt.SCIP_EVENTTYPE.NODESOLVED, pyscipopt.SCIP_EVENTTYPE.LPSOLVED):
                self.model.catchEvent(event, self)

        def eventexec(self, _event: Any) -> None:
            watch.record(
                self.model.getPrimalbound(), self.model.getDualbound(), self.model.getNTotalNodes()
            )

    def interrupt() -> bool:
        try:
            scip.interruptSolve()
        except Exception:  # noqa: BLE001 (what PySCIPOpt raises where SCIP, between two stages, takes no interrupt)
            return False
        return True

    scip.includeEventhdlr(Reporter(), "lipexact", "reports progress")
    watch.run(scip.optimizeNogil, cancel=interrupt, fresh=False)
    if scip.getStatus() == "inforunbd" and not watch.cancelled:
        scip.freeTransform()
        scip.setPresolve(pyscipopt.SCIP_PARAMSETTING.OFF)
        if (left := watch.remaining()) is not None:
            scip.setParam("limits/time", left)
        watch.run(scip.optimizeNogil, cancel=interrupt, fresh=False)
    status = scip.getStatus()
    termination = {
        "optimal": Termination.OPTIMAL,
        "gaplimit": Termination.OPTIMAL,
        "infeasible": Termination.INFEASIBLE,
        "timelimit": Termination.TIME_LIMIT,
        "userinterrupt": watch.stopped,
        "terminate": watch.stopped,
    }.get(status, Termination.LIMIT if status.endswith("limit") else Termination.FAILED)
    if termination is Termination.FAILED:  # asked for nodes before it has run, SCIP crashes
        return SolverOutcome(termination, None, None, None, watch.seconds, f"SCIP: {status}")
    incumbent = None
    if scip.getNSols() > 0:
        solution = scip.getBestSol()
        incumbent = scip.getSolObjVal(solution)
        _load(
            (variable, solution[column])
            for variable, column in translator._pyomo_var_to_solver_var_map.items()
        )
    nodes = int(scip.getNTotalNodes())
    return SolverOutcome(
        termination, scip.getDualbound(), incumbent, nodes, watch.seconds, f"SCIP: {status}"
    )


# --------------------------------------------------------------------------------------------------------- Gurobi


def _has_gurobi() -> bool:
    with _HANDING_OVER:  # Pyomo starts Gurobi to look for a licence
        return bool(has_gurobipy) and bool(GurobiDirect().available())


@register(
    "gurobi",
    remedy='pip install "lipexact[gurobi]", and a Gurobi licence (the one that comes with it covers small models)',
    present=_has_gurobi,
    quadratic=True,
)
def _solve_gurobi(model: Any, options: SolverSettings, watch: Watch) -> SolverOutcome:
    with _HANDING_OVER:
        # The loader owns the Gurobi model and disposes of it: keep it until the answer is read.
        translator, gurobi, _loader = _hand_to_gurobi(model)
    gurobi.setParam("OutputFlag", 0)
    names = {
        "gap": "MIPGap",
        "absolute_gap": "MIPGapAbs",
        "threads": "Threads",
        "time_limit": "TimeLimit",
    }
    for name, value in _settings(options, watch, **names).items():
        try:
            gurobi.setParam(name, value)
        except (gurobipy.GurobiError, TypeError, AttributeError) as error:
            raise _refusal("Gurobi", name, value, error) from error
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
                f"the model has {gurobi.NumVars} variables, {gurobi.NumConstrs} linear and {gurobi.NumQConstrs} "
                "quadratic constraints; the size-limited Gurobi licence found here covers 2000 variables (200 with "
                "quadratic constraints) and 2000 linear constraints. Install a full licence, or use another solver."
            ) from error

    watch.run(optimise, cancel=gurobi.terminate)
    if gurobi.Status == codes.INF_OR_UNBD and not watch.cancelled:
        gurobi.setParam("DualReductions", 0)
        if (left := watch.remaining()) is not None:
            gurobi.setParam("TimeLimit", left)
        watch.run(optimise, cancel=gurobi.terminate)
    return _read_gurobi(translator, gurobi, watch)


def _hand_to_gurobi(model: Any) -> tuple[Any, Any, Any]:
    translator = GurobiDirect()
    config = translator.config({"timer": HierarchicalTimer()})
    try:
        gurobi, loader, _ = translator._create_solver_model(model, config)
    except (
        InvalidConstraintError
    ):  # linear models only, but twice as fast as the one that takes quadratic ones
        translator = GurobiPersistent()
        gurobi, loader, _ = translator._create_solver_model(model, {})
    return translator, gurobi, loader


def _read_gurobi(translator: Any, gurobi: Any, watch: Watch) -> SolverOutcome:
    status = next(
        name
        for name in dir(gurobipy.GRB.Status)
        if getattr(gurobipy.GRB.Status, name) == gurobi.Status
    )
    termination = {
        "OPTIMAL": Termination.OPTIMAL,
        "INFEASIBLE": Termination.INFEASIBLE,
        "TIME_LIMIT": Termination.TIME_LIMIT,
        "INTERRUPTED": watch.stopped,
        "CUTOFF": Termination.LIMIT,
    }.get(status, Termination.LIMIT if status.endswith("_LIMIT") else Termination.FAILED)
    bound = incumbent = None
    if termination is not Termination.FAILED:
        if gurobi.SolCount > 0:
            incumbent = gurobi.ObjVal
            pairs = list(translator._pyomo_gurobi_var_iter())
            values = gurobi.getAttr("X", [column for _, column in pairs])
            _load((variable, value) for (variable, _), value in zip(pairs, values, strict=True))
        if gurobi.IsMIP or termination is Termination.OPTIMAL:  # an LP has no bound before its end
            bound = gurobi.ObjBound
        if gurobi.IsQCP and not gurobi.IsMIP and incumbent is not None and _finite(bound) is None:
            # The barrier method proves nothing, but stops within this distance of its dual objective.
            bound = incumbent - gurobi.Params.BarQCPConvTol * max(1.0, abs(incumbent))
    nodes = int(gurobi.NodeCount) if gurobi.IsMIP else None
    return SolverOutcome(termination, bound, incumbent, nodes, watch.seconds, f"Gurobi: {status}")


# ------------------------------------------------------------------------------------------------------------ CBC

_CBC_NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?)"
_CBC_TREE = re.compile(
    rf"After (\d+) nodes, \d+ on tree, {_CBC_NUMBER} best solution, best possible {_CBC_NUMBER}"
)
_CBC_SOLUTION = re.compile(rf"Integer solution of {_CBC_NUMBER} found .* (\d+) nodes")
_CBC_PARTIAL = re.compile(rf"Partial search - best objective .*\(best possible {_CBC_NUMBER}\)")
_CBC_LOWER = re.compile(rf"Lower bound: +{_CBC_NUMBER}")
_CBC_RESULT = re.compile(r"Result - (.*)")
_CBC_NODES = re.compile(r"Enumerated nodes: +(\d+)")
_CBC_OBJECTIVE = re.compile(rf"Objective value: +{_CBC_NUMBER}")
_CBC_REFUSED = re.compile(
    r"No match for|Multiple matches for|was provided for .* valid range|is illegal for \w+ parameter|"
    r"Possible options for"
)


class _Cbc(CBCSHELL):  # type: ignore[misc]
    """Pyomo's CBC, under a watch, with log and solution file handed on as they are.

    Pyomo's reading of both is left out: it calls a time-out without a solution infeasible, and takes a rounded lower
    bound.
    """

    def __init__(self, watch: Watch, refuses: bool) -> None:
        super().__init__()
        self.watch = watch
        self.refuses = (
            refuses  # whether the caller gave options of its own, so that CBC can refuse one
        )
        self.lines: list[str] = []
        self.refused: str | None = None
        self.asked = self.ended = False
        self.code: int | None = None
        self.text = ""
        self.doubles = b""

    def create_command_line(self, executable: Any, problem_files: Any) -> Any:
        # Writing the file took its share of the time. Pyomo drops a limit of 0.
        left = self.watch.remaining()
        self._timelimit = None if left is None else max(left, 0.01)
        command = super().create_command_line(executable, problem_files)
        # The solution file that Pyomo asks for has the names, but 8 digits only; this one has the doubles.
        self._binary_file = TempfileManager.create_tempfile(suffix=".cbc.bin")
        command.cmd.extend(["-saveSolution", self._binary_file])
        TempfileManager.add_tempfile(self._soln_file, exists=False)
        return command

    def _execute_command(self, command: Any) -> tuple[int, str]:
        # A session of its own: a ctrl-C in the terminal reaches this process only, which passes it on.
        with subprocess.Popen(
            command.cmd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                self.watch.run(lambda: self._read(process), lambda: self._stop(process))
            finally:
                if not self.ended:
                    self._signal(process, kill=True)
        self.code = process.returncode
        return 0, "\n".join(
            self.lines
        )  # a failure is for the adapter to judge; Pyomo would log it and raise

    def _stop(self, process: subprocess.Popen[str]) -> None:
        """Ask CBC to end the search and write what it has; the second time, kill it."""
        self._signal(process, kill=self.asked)
        self.asked = True

    def _signal(self, process: subprocess.Popen[str], kill: bool) -> None:
        """Interrupt or kill CBC and, where a script stands in its place, what that has started."""
        if os.name == "nt":
            process.kill()
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGINT)

    def _read(self, process: subprocess.Popen[str]) -> None:
        incumbent = bound = nodes = None
        assert process.stdout is not None  # a pipe, see above
        for raw in process.stdout:
            line = raw.rstrip()
            self.lines.append(line)
            if self.refuses and self.refused is None and _CBC_REFUSED.search(line):
                self.refused = line.strip(" <;")  # CBC would go on without the option
                self._signal(process, kill=True)
            if found := _CBC_TREE.search(line):
                nodes, incumbent, bound = int(found[1]), float(found[2]), float(found[3])
            elif found := _CBC_SOLUTION.search(line):
                incumbent, nodes = float(found[1]), int(found[2])
            self.watch.record(incumbent, bound, nodes)
        process.wait()
        self.ended = True

    def process_logfile(self) -> Any:
        return SolverResults()

    def process_soln_file(self, _results: Any) -> None:
        path = Path(self._soln_file)
        self.text = path.read_text(errors="replace") if path.exists() else ""
        self.doubles = Path(self._binary_file).read_bytes()

    def find(self, pattern: re.Pattern[str]) -> str | None:
        """Return what a pattern captures in the last line of the log that has it."""
        matches = (pattern.search(line) for line in reversed(self.lines))
        return next((str(match[1]) for match in matches if match), None)


@register(
    "cbc",
    remedy="apt-get install coinor-cbc (or put the program cbc on the PATH)",
    present=lambda: bool(Executable("cbc")),
)
def _solve_cbc(model: Any, options: SolverSettings, watch: Watch) -> SolverOutcome:
    settings: dict[str, Any] = {"ratioGap": options.gap, "allowableGap": 0.0, "increment": 0.0}
    if options.threads is not None:
        settings["threads"] = options.threads
    cbc = _Cbc(watch, refuses=bool(options.extra))
    with _CBC_FILES, _unwound(), _files_removed():
        results = cbc.solve(model, load_solutions=False, options=settings | dict(options.extra))
    if cbc.refused is not None:
        raise OptionError(
            f"CBC does not take one of the options {dict(options.extra)}: {cbc.refused}"
        )
    return _read_cbc(cbc, results._smap, watch)


@contextmanager
def _unwound() -> Iterator[None]:
    """Let a signal that ends this process unwind it, so that CBC ends too, and its files are removed.

    In a session of its own, CBC would not hear of it, and go on alone.
    """
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        signals = []  # Python's handlers are the main thread's
    unhandled = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in unhandled:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _files_removed() -> Iterator[None]:
    """Remove the files that Pyomo makes, which it does itself only where all goes well."""
    outermost = TempfileManager.push()
    try:
        yield
    finally:
        while TempfileManager.pop() is not outermost:
            pass


def _read_cbc(cbc: _Cbc, symbols: Any, watch: Watch) -> SolverOutcome:
    header = cbc.text.partition("\n")[0].strip()
    nodes = cbc.find(_CBC_NODES)
    count = None if nodes is None else int(nodes)
    if cbc.code != 0 or not header:
        termination = watch.stopped if watch.cancelled else Termination.FAILED
        last = next((line for line in reversed(cbc.lines) if line), "it printed nothing")
        return SolverOutcome(
            termination, None, None, count, watch.seconds, f"CBC ended with code {cbc.code}: {last}"
        )
    result = cbc.find(_CBC_RESULT) or ""
    termination = _read_cbc_status(header, result, watch)
    bound = incumbent = None
    has_solution = header.startswith(("Optimal", "Stopped")) and "no integer solution" not in header
    if has_solution and termination is not Termination.FAILED:
        objective, values = _read_cbc_solution(cbc.text, cbc.doubles, symbols)
        logged = cbc.find(_CBC_OBJECTIVE)
        # Out of time, CBC has written another point than the incumbent of its log (Cbc issue 709).
        if logged is not None and abs(float(logged) - objective) > 1e-6 * max(1.0, abs(objective)):
            message = f"CBC wrote a solution of {objective}, and {logged} into its log"
            return SolverOutcome(Termination.FAILED, None, None, count, watch.seconds, message)
        if all(
            abs(value - round(value)) < 1e-4 for variable, value in values if variable.is_integer()
        ):
            incumbent = objective
            _load(values)
    if termination is Termination.OPTIMAL and "gap tolerance" not in result:
        bound = incumbent
    elif (partial := cbc.find(_CBC_PARTIAL)) is not None:
        bound = float(partial) - 1e-7 * abs(float(partial))  # printed with 8 digits
    elif termination is Termination.OPTIMAL and (lower := cbc.find(_CBC_LOWER)) is not None:
        bound = float(lower) - 0.5e-3  # printed with 3 decimals
    return SolverOutcome(termination, bound, incumbent, count, watch.seconds, f"CBC: {header}")


def _read_cbc_status(header: str, result: str, watch: Watch) -> Termination:
    """Judge the first line of the solution file, and the line "Result - ..." of the log, which a MIP has."""
    if "ctrl-c" in result or "ctrl-c" in header:
        return watch.stopped
    if header.startswith("Optimal"):
        return (
            Termination.OPTIMAL
            if not result or result.startswith("Optimal")
            else Termination.FAILED
        )
    if header.startswith(("Infeasible", "Integer infeasible")):
        # Out of time, CBC may call what it has not finished infeasible.
        return Termination.TIME_LIMIT if watch.overdue else Termination.INFEASIBLE
    if header.startswith("Stopped on time") or result.startswith("Stopped on time"):
        return Termination.TIME_LIMIT
    if header.startswith("Stopped on") and "difficulties" not in header:
        return Termination.LIMIT
    return Termination.FAILED


def _read_cbc_solution(
    text: str, doubles: bytes, symbols: Any
) -> tuple[float, list[tuple[Any, float]]]:
    """Read the objective and the variables' values: names from the text file, numbers from the binary one.

    The binary file holds the numbers of rows and columns, the objective, the rows' activities and duals, the
    columns' values and reduced costs; the text file lists rows, then columns, in the same order.
    """
    rows, columns = struct.unpack_from("=ii", doubles)
    numbers = struct.unpack_from(f"={1 + 2 * rows + 2 * columns}d", doubles, 8)
    names = [line.replace("**", "").split()[1] for line in text.splitlines()[1 + rows :]]
    values = numbers[1 + 2 * rows : 1 + 2 * rows + columns]
    variables = (
        (symbols.bySymbol.get(name), value) for name, value in zip(names, values, strict=True)
    )
    # A constant objective is carried by a column of its own that has no variable.
    return numbers[0], [(variable, value) for variable, value in variables if variable is not None]
