"""Exact Lipschitz constants of piecewise-linear neural networks."""

__version__ = "0.1.0"

from lipexact.api import build, general_position_report, lipschitz, load
from lipexact.bracket import Progress
from lipexact.domains import Ball, Box, Domain, Polytope, Reals
from lipexact.errors import (
    DomainError,
    LipExactError,
    ModelError,
    NormError,
    OptionError,
    SolverError,
    SolverUnavailableError,
    UnsupportedOperatorError,
)
from lipexact.functionals import CrossLipschitz
from lipexact.mip.compose import Composition
from lipexact.network import Network
from lipexact.norms import Norm, PolyhedralNorm
from lipexact.position import PositionReport
from lipexact.result import LipschitzResult, Status, Witness
from lipexact.robustness import CertifiedRadius, RadiusStep, certified_radius

__all__ = [
    "Ball",
    "Box",
    "CertifiedRadius",
    "Composition",
    "CrossLipschitz",
    "Domain",
    "DomainError",
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
    "UnsupportedOperatorError",
    "Witness",
    "build",
    "certified_radius",
    "general_position_report",
    "lipschitz",
    "load",
]
