"""The public functions: each is a straight line through the floors below."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lipexact.bounds.formulation import checked_norm_sets, formulate, in_mode
from lipexact.errors import OptionError
from lipexact.network import Network
from lipexact.onnx.reader import read_onnx
from lipexact.problem.problem import check_domain
from lipexact.regions.general_position import PositionReport, position_report
from lipexact.result import LipschitzResult
from lipexact.sets.domains import Domain
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm
from lipexact.solve import (
    Method,
    Mode,
    certificate_path,
    check_executor,
    choose,
    import_programs,
    solve_request,
)
from lipexact.state import ProgressCallback

if TYPE_CHECKING:
    from lipexact.mip.model import Composition


def load(
    model: str | os.PathLike[str] | Any,
    *,
    input: str | None = None,  # noqa: A002 - what ONNX calls it
    output: str | None = None,
    fixed: Mapping[str, npt.ArrayLike] | None = None,
    drop_final: bool = False,
    batched: bool = True,
) -> Network:
    """Read a network from an ONNX file.

    Parameters
    ----------
    model
        A path, or an ``onnx.ModelProto``.
    input
        The name of the input x; None for the only one that the output depends on and that is not fixed.
    output
        The name of the output, or of an inner tensor, which cuts the network there; None for the only output.
    fixed
        Constants for the other inputs, by name, of the shapes that the model declares, or flat, or without the batch
        axis.
    drop_final
        Whether to leave out the Softmax, LogSoftmax, Sigmoid, Tanh, Softplus, ArgMax or Hardmax that the output ends
        in: those are not piecewise linear.
    batched
        Whether the first axis of inputs with two or more is the batch axis, which is read as of length 1.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        If the file is missing or corrupt, or has other inputs and outputs than these options say.
    UnsupportedOperatorError
        If it has an operator, attribute or opset that is not supported.
    """
    if isinstance(model, Network):
        if not (
            input is None
            and output is None
            and fixed is None
            and drop_final is False
            and batched is True
        ):
            raise OptionError(
                "the model is a Network already: input, output, fixed, drop_final and batched are for files"
            )
        return model
    if fixed is not None and not isinstance(fixed, Mapping):
        raise OptionError(
            f"fixed must be a dictionary of arrays by the names of inputs, not {fixed!r}"
        )
    for what, name in (("input", input), ("output", output)):
        if name is not None and not isinstance(name, str):
            raise OptionError(f"{what} must be the name of a tensor, not {name!r}")
    for what, choice in (("drop_final", drop_final), ("batched", batched)):
        if not isinstance(choice, bool):
            raise OptionError(f"{what} must be True or False, not {choice!r}")
    return read_onnx(
        model, input=input, output=output, fixed=fixed, drop_final=drop_final, batched=batched
    )


def lipschitz(
    model: str | os.PathLike[str] | Network | Any,
    domain: Domain,
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    method: Method = "auto",
    solver: str = "highs",
    mode: Mode = "auto",
    time_limit: float | None = None,
    gap: float = 0.0,
    target: float | None = None,
    threads: int | None = None,
    progress: bool | ProgressCallback = False,
    solver_options: Mapping[str, Any] | None = None,
    certificate: str | os.PathLike[str] | bool | None = None,
    executor: Executor | None = None,
) -> LipschitzResult:
    """The exact Lipschitz constant of a network on a domain.

    For f: R^d -> R^m, the input norm alpha and the output norm beta, it is::

        L = sup ||f(x) - f(y)||_beta / ||x - y||_alpha  over x != y in X
          = max ||J||_(alpha -> beta)  over the linear regions of f whose interior meets X

    (Jordan and Dimakis, NeurIPS 2020, Theorems 1 and 2; here without their condition of general position). With a
    functional c, it is the constant of c^T f; with several, the largest of theirs.

    Parameters
    ----------
    model
        A path to an ONNX file, an ``onnx.ModelProto``, or a :class:`Network`.
    domain
        X: a :class:`Box`, :class:`Ball` or :class:`Polytope` of the network's input dimension d, an intersection of
        these by ``&``, or :class:`Reals` for the global constant.
    input_norm
        alpha: "linf", "l1", "l2", or a :class:`PolyhedralNorm` on R^d.
    output_norm
        beta, likewise on R^m; None for that of the input. Not together with a functional.
    functional
        None: the whole output. Else the index of an output, a vector c of shape (m,), :class:`CrossLipschitz`, or a
        polytope of functionals, by its vertices of shape (k, m) or as a :class:`Polytope` in R^m.
    method
        "bab", branch and bound on the network's gates, which needs no solver but HiGHS for small linear programs and
        takes all norms; "mip", a mixed-integer program for `solver`; "lp", the relaxation of its gates alone, for an
        upper bound (LipLP; with an l2 norm its squares remain); or "auto": "bab", unless the network is too large for
        it, or `solver`, `mode` or `solver_options` say how a program is to be solved.
    solver
        "highs", "scip", "cbc" or "gurobi". Where an l2 norm makes the program quadratic, "scip" or "gurobi".
    mode
        How the derivative is encoded: "forward" as J v over directions v, "reverse" as J^T c over functionals c; "auto"
        by an estimate of the cost, or, with the methods "bab" and "lp", both.
    time_limit
        Seconds of wall-clock time for the whole call; None for no limit. Solvers overstay at times, and reading the
        network, rough bounds in one mode and some samples come first in any case.
    gap
        Stop as soon as (upper - lower) / upper is at most this.
    target
        Stop as soon as L <= target or L > target is known; the result's `within_target` says which.
    threads
        For the solver, None leaves it to the solver; for "bab" how many processes share the tree, None for one; with an
        executor, how many workers it has, None to ask it.
    progress
        True prints a line now and then to stderr; a function is called with a
        :class:`~lipexact.state.Progress`, incumbent and bound in the constant's own units, and stops the
        search by returning True.
    solver_options
        Passed through under the solver's own names.
    certificate
        A path: write a proof of the result there, which :func:`check` verifies in exact arithmetic, without a solver.
        True: make it, as the result's `certificate`. It is made after the search, of which the time limit is, and takes
        some times as long. Branch and bound hands over its tree; a program's upper bound is proven anew by branch and
        bound, if that succeeds in about the time that was taken so far, or ten seconds: the result's `proof` says so.
    executor
        Whose workers take part in branch and bound, after a second in this process alone: anything with the interface
        of :class:`concurrent.futures.Executor`, such as those of Dask, mpi4py and loky. It stays open.

    Returns
    -------
    LipschitzResult
        EXACT with the constant, or BOUNDED with an interval that holds it, and a witness.

    Raises
    ------
    ModelError, UnsupportedOperatorError
        If the network cannot be read.
    DomainError
        If the domain does not fit the network.
    NormError
        If a norm or the functional does not fit.
    OptionError
        If an option is not valid.
    SolverUnavailableError
        If the solver is not installed, its licence too small, or it cannot solve quadratic programs.
    SolverError
        If the solver breaks down.
    CertificateError
        If a certificate is asked for where there is none: for huge networks, and norms of very many half-spaces.
    """
    import_programs(method, solver, mode, solver_options)
    start = time.perf_counter()
    file = certificate_path(certificate)
    question = solve_request(
        load(model),
        input_norm=input_norm,
        output_norm=output_norm,
        functional=functional,
        method=method,
        solver=solver,
        mode=mode,
        time_limit=time_limit,
        gap=gap,
        target=target,
        threads=threads,
        solver_options=solver_options,
        certified=bool(certificate),
    )
    check_executor(executor, method)
    result = question.solve(domain, start=start, progress=progress, executor=executor)
    if result.certificate is not None and file is not None:
        try:
            result.certificate.save(file)
        except OSError as error:  # hours of work are in the result
            told = f"the certificate was not written: {error}; the result has it still, to be saved elsewhere"
            warnings.warn(told, RuntimeWarning, stacklevel=2)
    return result


def build(
    model: str | os.PathLike[str] | Network | Any,
    domain: Domain,
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    mode: Mode = "auto",
) -> Composition:
    """The Pyomo model behind :func:`lipschitz`, to be solved or embedded in a model of one's own.

    Its optimum is an upper bound of the constant: equal to it for networks in general position, and else to be
    certified, as :func:`lipschitz` does. The network's output is part of the model.

    Parameters
    ----------
    model, domain, input_norm, output_norm, functional, mode
        As for :func:`lipschitz`.

    Returns
    -------
    Composition
        With the ``pyomo.environ.ConcreteModel`` as `model`.

    Raises
    ------
    ModelError, UnsupportedOperatorError, DomainError, NormError, OptionError
        As for :func:`lipschitz`.
    """
    from lipexact.mip.model import compose  # noqa: PLC0415 - Pyomo's import is long

    network = load(model)
    check_domain(network, domain, bounded=True)
    bodies = checked_norm_sets(network, domain, input_norm, output_norm, functional)
    programs = formulate(network, domain, *bodies, mode, np.inf, keep_output=True)
    allowed = in_mode(programs, mode)
    chosen = choose(programs, allowed)
    return compose(chosen.problem, chosen.bounds)


def general_position_report(
    model: str | os.PathLike[str] | Network | Any, domain: Domain
) -> PositionReport:
    """Which neurons coincide, vanish, or meet in more kernels than general position allows.

    Programs that let a neuron at zero choose its state, such as LipMIP, may overestimate where a network is not in
    general position (Jordan and Dimakis, NeurIPS 2020, Definition 4); :func:`lipschitz` is exact either way.

    Parameters
    ----------
    model, domain
        As for :func:`lipschitz`.

    Returns
    -------
    PositionReport
        What could be decided cheaply; ``print`` it.

    Raises
    ------
    ModelError, UnsupportedOperatorError, DomainError
        As for :func:`lipschitz`.
    """
    return position_report(load(model), domain)
