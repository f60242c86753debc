"""Exact Lipschitz constants of piecewise-linear neural networks."""

__version__ = "0.1.0"

from lipexact.api import build, lipschitz, load
from lipexact.domains import Ball, Box, Domain, Polytope
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
from lipexact.mip.solvers import Progress
from lipexact.network import Network
from lipexact.norms import Norm, PolyhedralNorm
from lipexact.result import LipschitzResult, Status, Witness

__all__ = [
    "Ball",
    "Box",
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
    "Progress",
    "SolverError",
    "SolverUnavailableError",
    "Status",
    "UnsupportedOperatorError",
    "Witness",
    "build",
    "lipschitz",
    "load",
]
