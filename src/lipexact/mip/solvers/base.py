"""The registry of solvers, and one function that solves by any of them and checks the outcome.

Pyomo translates the model and maps its variables: its v2 interfaces (``pyomo.contrib.solver``) for
HiGHS, SCIP and Gurobi, its legacy one for CBC. The modules of this package start the solver and
read its solution themselves, for three reasons. Pyomo captures the output of the whole process
during a solve, so a progress display would vanish into the solver's log. Its status tables merge
what must stay apart: "Not Set" with "unknown", and for CBC a time-out with infeasibility. And a
solve that it has started cannot be stopped from outside.

A module adds its solver by :func:`register`, under the module's name. This module imports all
others of the package, so a new solver is one new module, and no list names it.

How far a solver can be trusted. A bound is the solver's floating-point claim, and tolerances are
absolute. Measured with a gap of 0 against enumeration and against each other, the "optimum" lay
above the true one by up to 1e-7 (HiGHS, SCIP), 9e-7 (Gurobi) and 1.3e-6 (CBC, of an objective of
4e-4): scale the objective to the hundreds before a relative error counts. Feasibility tolerances
stay at each solver's default; tighter ones made HiGHS claim false infeasibility (HiGHS issue 2033).

With quadratic constraints the bound lay above the true maximum, as it should, or below it by less
than 1e-9 of it. A violation by 1e-6 of a sum of squares moved it up: by 1e-6 of itself (Gurobi:
4e-6) for vectors of norm 1, and by 1e-8 (Gurobi: mostly 1e-10, once 1e-5) for vectors of norm 64.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import pyomo.environ as pyo
from pyomo.common.errors import InfeasibleConstraintException

from lipexact.errors import LipExactError, OptionError, SolverError, SolverUnavailableError
from lipexact.mip import constants
from lipexact.mip.solvers import solver_modules
from lipexact.mip.solvers.watch import Watch, finite
from lipexact.result import Termination
from lipexact.state import ProgressCallback

__all__ = [
    "HANDOVER_LOCK",
    "SOLVERS",
    "OptionNames",
    "Solver",
    "SolverOutcome",
    "SolverSettings",
    "Termination",
    "Watch",
    "available",
    "load_solution",
    "native_options",
    "quadratic_solvers",
    "refused_option",
    "register",
    "require_solver",
    "solve",
    "solver_names",
]

# Pyomo redirects the output of the whole process while it hands a model over: one thread at a time.
HANDOVER_LOCK = threading.RLock()


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
    """The claims of a solver about a minimisation.

    Attributes
    ----------
    termination : Termination
        Why the solver stopped.
    bound : float or None
        A lower bound on the optimum; None where the solver claims none, +inf for an infeasible
        model. It never exceeds `incumbent`.
    incumbent : float or None
        The objective of the solution that was loaded into the model's variables; None if there is
        no solution, and none was loaded.
    nodes : int or None
        The number of nodes of the solver's tree; None where there was none.
    seconds : float
        Wall-clock seconds.
    message : str
        The solver's own words, where it did not reach an optimum.
    """

    termination: Termination
    bound: float | None
    incumbent: float | None
    nodes: int | None
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class OptionNames:
    """A solver's own names of the options that most solvers have."""

    gap: str
    absolute_gap: str
    threads: str
    time_limit: str
    seed: str
    node_limit: str


_Run = Callable[[Any, SolverSettings, Watch], SolverOutcome]


@dataclass(frozen=True)
class Solver:
    """An entry of the registry; :func:`register` has the meaning of its attributes."""

    name: str
    remedy: str
    present: Callable[[], bool]
    run: _Run
    quadratic: bool = False
    bundled: bool = False
    option_names: OptionNames | None = None


SOLVERS: dict[str, Solver] = {}


def register(
    name: str,
    *,
    remedy: str,
    present: Callable[[], bool],
    quadratic: bool = False,
    bundled: bool = False,
    option_names: OptionNames | None = None,
) -> Callable[[_Run], _Run]:
    """Add a solver to the registry.

    Parameters
    ----------
    name : str
        The name that callers use.
    remedy : str
        What a user should do where the solver is missing.
    present : Callable[[], bool]
        Whether the solver can be used here.
    quadratic : bool
        Whether the solver takes quadratic constraints, convex or not.
    bundled : bool
        Whether the solver is installed with the package.
    option_names : OptionNames, optional
        The solver's own names of common options.

    Returns
    -------
    Callable
        A decorator for the function that solves: it gets the model, the settings and the watch,
        loads the best solution into the model's variables, and returns the outcome.
    """

    def add(run: _Run) -> _Run:
        SOLVERS[name] = Solver(name, remedy, present, run, quadratic, bundled, option_names)
        return run

    return add


def solver_names() -> tuple[str, ...]:
    """Return the names of all registered solvers, present or not; bundled ones come first."""
    return tuple(sorted(SOLVERS, key=lambda name: (not SOLVERS[name].bundled, name)))


def quadratic_solvers() -> tuple[str, ...]:
    """Return the names of the registered solvers that take quadratic constraints."""
    return tuple(name for name in solver_names() if SOLVERS[name].quadratic)


def available(solver: str) -> bool:
    """Return whether a solver can be used here.

    Parameters
    ----------
    solver : str
        A name from `solver_names`.

    Returns
    -------
    bool
        True if the solver is installed and, for Gurobi, some licence is found; the licence may
        still be too small for a given model.

    Raises
    ------
    OptionError
        For an unknown name.
    """
    return _find_solver(solver).present()


def require_solver(solver: str, quadratic: bool = False) -> None:
    """Raise an error if a solver cannot be used here.

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
        If quadratic constraints are needed and the solver does not take them; the message says
        which solvers do. If the solver is not installed; the message says what to install.
    """
    entry = _find_solver(solver)
    if quadratic and not entry.quadratic:
        raise _not_quadratic(solver)
    if not entry.present():
        raise SolverUnavailableError(f"the solver {solver!r} is not available here: {entry.remedy}")


def solve(
    model: Any,
    solver: str,
    settings: SolverSettings | None = None,
    on_progress: ProgressCallback | None = None,
) -> SolverOutcome:
    """Minimise a Pyomo model and load the best solution into its variables.

    Parameters
    ----------
    model : pyo.ConcreteModel
        A mixed-integer linear model with exactly one active objective, of sense minimize; for the
        solvers of `quadratic_solvers` with quadratic constraints too, convex or not. (Maximising,
        CBC's interface returned bounds of the wrong sign under a time limit: state a maximisation
        as the minimisation of the negative.)
    solver : str
        A name from `solver_names`.
    settings : SolverSettings, optional
        Time limit, gap, threads, and options under the solver's own names.
    on_progress : ProgressCallback, optional
        Called on the calling thread twice a second, and within a tenth of a second of a new
        incumbent. HiGHS, SCIP and Gurobi report incumbent, bound and nodes; CBC what its log says,
        which in long stretches is the elapsed time only. When the callback returns True, or on
        ctrl-C, or when the callback raises KeyboardInterrupt, the solve stops, and the outcome is
        INTERRUPTED with the bounds reached; any other exception of the callback stops the solve
        and is raised.

    Returns
    -------
    SolverOutcome
        OPTIMAL also where the gap that was asked for is reached: look at the bounds. INFEASIBLE is
        returned only where the solver says just that; an unbounded model, or one that is
        "infeasible or unbounded" even without presolve, is FAILED.

    Raises
    ------
    OptionError
        For an unknown solver, or an option or value that is not valid.
    SolverUnavailableError
        If the solver is not installed, does not take the model's quadratic constraints, or its
        licence does not cover the model.
    SolverError
        If the model is not a minimisation, cannot be handed over, or the solver contradicts itself.
    MemoryError
        If there is not enough of it.

    Notes
    -----
    Solvers look at the clock now and then only. HiGHS may overstay its limit, in presolve above
    all; for a hard limit, solve in a process of its own. CBC is killed a few seconds after its
    limit if need be.
    """
    entry = _find_solver(solver)
    settings = _checked_settings(settings or SolverSettings())
    _require_minimisation(model)
    require_solver(solver)
    if settings.time_limit is not None and settings.time_limit <= 0:
        return SolverOutcome(
            Termination.TIME_LIMIT, None, None, None, 0.0, "the time limit leaves no time to solve"
        )
    watch = Watch(settings.time_limit, on_progress)
    outcome = _run(entry, model, settings, watch)
    if watch.error is not None:
        raise watch.error
    return outcome


def _run(entry: Solver, model: Any, settings: SolverSettings, watch: Watch) -> SolverOutcome:
    """Run a solver, check its outcome, and turn errors of its interface into this package's own."""
    try:
        return _checked_outcome(entry.run(model, settings, watch), entry.name)
    except InfeasibleConstraintException as error:
        # Pyomo found a false constraint that has no variables, or whose variables are all fixed.
        return SolverOutcome(Termination.INFEASIBLE, math.inf, None, 0, watch.seconds, str(error))
    except (LipExactError, MemoryError):
        raise
    except Exception as error:
        if not entry.quadratic and _is_quadratic(model):
            raise _not_quadratic(entry.name) from error
        raise SolverError(f"{entry.name} failed: {type(error).__name__}: {error}") from error


def _find_solver(solver: str) -> Solver:
    try:
        return SOLVERS[solver]
    except KeyError:
        known = ", ".join(solver_names())
        raise OptionError(f"unknown solver {solver!r}; known are {known}") from None


def _not_quadratic(solver: str) -> SolverUnavailableError:
    others = " or ".join(f"solver={name!r}" for name in quadratic_solvers())
    return SolverUnavailableError(
        f"{solver} cannot solve the quadratic program that an l2 norm makes; use {others}"
    )


def _is_quadratic(model: Any) -> bool:
    constraints = model.component_data_objects(pyo.Constraint, active=True, descend_into=True)
    return any(constraint.body.polynomial_degree() == 2 for constraint in constraints)


def _checked_settings(settings: SolverSettings) -> SolverSettings:
    """Return the settings, with no time limit instead of an infinite one; raise OptionError."""
    if settings.time_limit is not None and math.isnan(settings.time_limit):
        raise OptionError("time_limit is not a number")
    if not settings.gap >= 0 or math.isinf(settings.gap):
        raise OptionError(f"gap must be a number >= 0, not {settings.gap}")
    if settings.threads is not None and settings.threads < 1:
        raise OptionError(f"threads must be at least 1, not {settings.threads}")
    return replace(settings, time_limit=None) if settings.time_limit == math.inf else settings


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


def _checked_outcome(outcome: SolverOutcome, solver: str) -> SolverOutcome:
    """Return an outcome without claims that do not count; raise SolverError for a contradiction.

    A failed solve has no bounds, an optimum without both bounds is a failure, and numbers that
    stand for infinity are None.
    """
    if not isinstance(outcome, SolverOutcome):
        raise SolverError(f"{solver} returned no outcome, but {outcome!r}")
    outcome = replace(
        outcome, termination=Termination(outcome.termination), nodes=_count(outcome.nodes)
    )
    if outcome.termination is Termination.FAILED:
        return replace(outcome, bound=None, incumbent=None)
    if outcome.termination is Termination.INFEASIBLE:
        return replace(outcome, bound=math.inf, incumbent=None)
    bound = finite(outcome.bound)
    incumbent = finite(outcome.incumbent)
    if bound is not None and incumbent is not None:
        room = constants.CONTRADICTION_TOLERANCE * max(1.0, abs(bound), abs(incumbent))
        if incumbent < bound - room:
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


def _count(nodes: float | None) -> int | None:
    return None if nodes is None or not math.isfinite(nodes) else int(nodes)


# What the modules of solvers share.


def load_solution(values: Iterable[tuple[Any, float]]) -> None:
    """Set a model's variables, but for fixed ones, to the values of a solution."""
    for variable, value in values:
        if not variable.fixed:
            variable.set_value(value, skip_validation=True)


def native_options(settings: SolverSettings, watch: Watch, names: OptionNames) -> dict[str, Any]:
    """Return the settings under a solver's own names; those of `extra` come last, and win."""
    options: dict[str, Any] = {names.gap: settings.gap, names.absolute_gap: 0.0}
    if settings.threads is not None:
        options[names.threads] = settings.threads
    if (left := watch.remaining()) is not None:
        options[names.time_limit] = left
    return options | dict(settings.extra)


def refused_option(solver: str, name: str, value: object, reason: object = "") -> OptionError:
    """Return the error for an option that a solver does not take."""
    message = f"{solver} does not take the option {name!r} with the value {value!r}. {reason}"
    return OptionError(message.rstrip(". "))


for _name in solver_modules():
    import_module(f"{__package__}.{_name}")
