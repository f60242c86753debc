"""Errors that lipexact raises on purpose; each has a built-in error as its second base class."""


class LipExactError(Exception):
    """The base class of every error that lipexact raises on purpose."""


class ModelError(LipExactError, ValueError):
    """The network is malformed: a corrupt file, NaN weights, shapes that do not fit."""


class UnsupportedOperatorError(LipExactError, NotImplementedError):
    """An ONNX operator, attribute or opset that lipexact does not support."""


class DomainError(LipExactError, ValueError):
    """The domain is empty, flat, unbounded, not a number, or of the wrong dimension."""


class NormError(LipExactError, ValueError):
    """A norm or functional that is unknown or does not fit the network."""


class OptionError(LipExactError, ValueError):
    """An option of the call (method, mode, solver, time limit, ...) that is not valid."""


class SolverUnavailableError(LipExactError, RuntimeError):
    """The chosen solver is not installed, or its licence does not cover the model."""


class SolverError(LipExactError, RuntimeError):
    """The solver failed, or claimed a bound that a verified point contradicts."""


class CertificateError(LipExactError, ValueError):
    """A certificate that is damaged or malformed, or of another network."""


class UnsupportedEstimateError(LipExactError, NotImplementedError):
    """An estimator whose mathematics does not cover the norms, the network, or the size."""


class WorkerError(LipExactError, RuntimeError):
    """Another process, or a worker of an executor, failed or sent no result."""


class CheckpointError(LipExactError, ValueError):
    """A checkpoint that is of another request, damaged or in use, or that could not be written."""
