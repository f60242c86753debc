"""Exact Lipschitz constants of piecewise-linear neural networks.

Names are imported when they are first used, so that checking a certificate needs no solver.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lipexact.version import __version__ as __version__

if TYPE_CHECKING:
    from lipexact.api import build, general_position_report, lipschitz, load
    from lipexact.batch.batch import BatchProgress, BatchResult, lipschitz_many
    from lipexact.certificates.certificate import Certificate, read_certificate
    from lipexact.certificates.checker.checker import check
    from lipexact.certificates.report import Check, Claim
    from lipexact.errors import (
        CertificateError,
        CheckpointError,
        DomainError,
        LipExactError,
        ModelError,
        NormError,
        OptionError,
        SolverError,
        SolverUnavailableError,
        UnsupportedEstimateError,
        UnsupportedOperatorError,
        WorkerError,
    )
    from lipexact.estimators.compare import Comparison, compare
    from lipexact.estimators.estimate import Estimate, estimate, estimator_names
    from lipexact.mip.model import Composition
    from lipexact.network import Network
    from lipexact.regions.general_position import PositionReport
    from lipexact.result import LipschitzResult, Status, Witness
    from lipexact.robustness import CertifiedRadius, RadiusStep, certified_radius
    from lipexact.sets.domains import Ball, Box, Domain, Polytope, Reals
    from lipexact.sets.functionals import CrossLipschitz
    from lipexact.sets.norms import Norm, PolyhedralNorm
    from lipexact.state import Progress

_MODULES = {
    "api": ("build", "general_position_report", "lipschitz", "load"),
    "state": ("Progress",),
    "certificates.certificate": ("Certificate", "read_certificate"),
    "certificates.checker.checker": ("check",),
    "certificates.report": ("Check", "Claim"),
    "estimators.compare": ("Comparison", "compare"),
    "sets.domains": ("Ball", "Box", "Domain", "Polytope", "Reals"),
    "errors": (
        "CertificateError",
        "CheckpointError",
        "DomainError",
        "LipExactError",
        "ModelError",
        "NormError",
        "OptionError",
        "SolverError",
        "SolverUnavailableError",
        "UnsupportedEstimateError",
        "UnsupportedOperatorError",
        "WorkerError",
    ),
    "estimators.estimate": ("Estimate", "estimate", "estimator_names"),
    "sets.functionals": ("CrossLipschitz",),
    "batch.batch": ("BatchProgress", "BatchResult", "lipschitz_many"),
    "mip.model": ("Composition",),
    "network": ("Network",),
    "sets.norms": ("Norm", "PolyhedralNorm"),
    "regions.general_position": ("PositionReport",),
    "result": ("LipschitzResult", "Status", "Witness"),
    "robustness": ("CertifiedRadius", "RadiusStep", "certified_radius"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Ball",
    "BatchProgress",
    "BatchResult",
    "Box",
    "Certificate",
    "CertificateError",
    "CertifiedRadius",
    "Check",
    "CheckpointError",
    "Claim",
    "Comparison",
    "Composition",
    "CrossLipschitz",
    "Domain",
    "DomainError",
    "Estimate",
    "LipExactError",
    "LipschitzResult",
    "ModelError",
    "Network",
    "Norm",
    "NormError",
    "OptionError",
    "PolyhedralNorm",
    "Polytope",
    "PositionReport",
    "Progress",
    "RadiusStep",
    "Reals",
    "SolverError",
    "SolverUnavailableError",
    "Status",
    "UnsupportedEstimateError",
    "UnsupportedOperatorError",
    "Witness",
    "WorkerError",
    "build",
    "certified_radius",
    "check",
    "compare",
    "estimate",
    "estimator_names",
    "general_position_report",
    "lipschitz",
    "lipschitz_many",
    "load",
    "read_certificate",
]


def __getattr__(name: str) -> object:
    if name == "plot":  # a module of functions
        return import_module(f"{__name__}.plot")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
