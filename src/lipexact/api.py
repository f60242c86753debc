"""The public functions: each is a straight line through the floors below."""

from __future__ import annotations

import os
import time
import warnings
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Unpack

from lipexact.bounds.formulation import cheapest, checked_norm_sets, formulate, in_mode
from lipexact.errors import OptionError
from lipexact.loading import load
from lipexact.network import Network
from lipexact.options import Mode, OptionKeywords, takes_options
from lipexact.problem.problem import check_domain
from lipexact.progress import displayed, make_callback
from lipexact.regions.general_position import position_report
from lipexact.regions.position_report import PositionReport
from lipexact.result import LipschitzResult
from lipexact.sets.domain import Domain
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm
from lipexact.solve import Clock, bound, find_incumbent, make_request, prepare_options, solve
from lipexact.state import ProgressCallback

if TYPE_CHECKING:
    from lipexact.mip.model import Composition


@takes_options()
def lipschitz(
    model: str | os.PathLike[str] | Network | Any,
    domain: Domain,
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    progress: bool | ProgressCallback = False,
    certificate: str | os.PathLike[str] | bool | None = None,
    executor: Executor | None = None,
    **options: Unpack[OptionKeywords],
) -> LipschitzResult:
    """Compute the exact Lipschitz constant of a network on a domain.

    For f: R^d -> R^m, the input norm alpha and the output norm beta, it is::

        L = sup ||f(x) - f(y)||_beta / ||x - y||_alpha  over x != y in X
          = max ||J||_(alpha -> beta)  over the linear regions of f whose interior meets X

    (Jordan and Dimakis, NeurIPS 2020, Theorems 1 and 2; here without their condition of general
    position). With a functional c, it is the constant of c^T f; with several, the largest of
    theirs.

    Parameters
    ----------
    model
        A path to an ONNX file, an ``onnx.ModelProto``, or a :class:`Network`.
    domain
        X: a :class:`Box`, :class:`Ball` or :class:`Polytope` of the network's input dimension d, an
        intersection of these by ``&``, or :class:`Reals` for the global constant.
    input_norm
        alpha: "linf", "l1", "l2", or a :class:`PolyhedralNorm` on R^d.
    output_norm
        beta, likewise on R^m; None for that of the input. Not together with a functional.
    functional
        None: the whole output. Else the index of an output, a vector c of shape (m,),
        :class:`CrossLipschitz`, or a polytope of functionals, by its vertices of shape (k, m) or as
        a :class:`Polytope` in R^m.
    progress
        True shows both bounds on stderr: in a terminal a line that changes, elsewhere a line every
        five seconds. A function is called with a :class:`~lipexact.state.Progress`, incumbent and
        bound in the constant's own units, and stops the search by returning True.
    certificate
        A path: write a proof of the result there, which :func:`check` verifies in exact arithmetic,
        without a solver. True: make it, as the result's `certificate`. It is made after the search
        and is not covered by `time_limit`; it takes some times as long as the search. Branch and
        bound hands over its tree; the upper bound of a program is proven anew by branch and bound,
        if that succeeds in about the time that was taken so far, or ten seconds: the result's
        `proof` says so.
    executor
        Whose workers take part in branch and bound, after a second in this process alone: anything
        with the interface of :class:`concurrent.futures.Executor`, such as those of Dask, mpi4py
        and loky. It stays open.
    **options
        See :class:`lipexact.options.Options`.

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
        If the solver is not installed, its licence too small, or it cannot solve quadratic
        programs.
    SolverError
        If the solver breaks down.
    CertificateError
        If a certificate is asked for where there is none: for huge networks, and norms of very many
        half-spaces.
    """
    prepared = prepare_options(executor, **options)
    on_progress = make_callback(progress)
    file = certificate_path(certificate)
    start = time.perf_counter()
    request = make_request(
        load(model),
        prepared,
        input_norm=input_norm,
        output_norm=output_norm,
        functional=functional,
        certified=bool(certificate),
    )
    with displayed(on_progress):
        result = solve(request, domain, start=start, on_progress=on_progress, executor=executor)
    if file is not None:
        save_certificate(result, file)
    return result


def certificate_path(certificate: str | os.PathLike[str] | bool | None) -> Path | None:
    """Return where a certificate is to be written, and refuse before the work what cannot be.

    Raises
    ------
    OptionError
    """
    if certificate is None or isinstance(certificate, bool):
        return None
    if not isinstance(certificate, str | os.PathLike):
        raise OptionError(f"certificate must be a path, True or None, not {certificate!r}")
    path = Path(certificate)
    if path.is_dir() or not path.absolute().parent.is_dir():
        told = f"there is no folder for the file '{path}', or it is a folder itself"
        raise OptionError(f"certificate: {told}")
    return path


def save_certificate(result: LipschitzResult, file: Path) -> None:
    """Write a result's certificate; warn where that fails, since the result has it still."""
    if result.certificate is None:
        return
    try:
        result.certificate.save(file)
    except OSError as error:  # hours of work are in the result
        told = f"the certificate was not written: {error}; the result has it still"
        warnings.warn(f"{told}, to be saved elsewhere", RuntimeWarning, stacklevel=3)


def build(
    model: str | os.PathLike[str] | Network | Any,
    domain: Domain,
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    mode: Mode = "auto",
) -> Composition:
    """Build the Pyomo model behind :func:`lipschitz`, to be solved or embedded in another model.

    Its optimum is an upper bound of the constant: equal to it for networks in general position, and
    else to be certified, as :func:`lipschitz` does. The network's output is part of the model.

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
    sets = checked_norm_sets(network, domain, input_norm, output_norm, functional)
    formulations = formulate(network, domain, *sets, mode, np.inf, keep_output=True)
    allowed = in_mode(formulations, mode)
    chosen = allowed[0]
    if len(allowed) > 1:
        state = find_incumbent(bound(formulations, Clock(None)), formulations, np.inf)
        chosen = cheapest(allowed, state.lower)
    return compose(chosen.problem, chosen.bounds)


def general_position_report(
    model: str | os.PathLike[str] | Network | Any, domain: Domain
) -> PositionReport:
    """Which neurons coincide, vanish, or meet in more kernels than general position allows.

    Programs that let a neuron at zero choose its state, such as LipMIP, may overestimate where a
    network is not in general position (Jordan and Dimakis, NeurIPS 2020, Definition 4);
    :func:`lipschitz` is exact either way.

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
