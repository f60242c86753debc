"""Linear functionals on a network's output."""

from __future__ import annotations

import numbers

import numpy as np
import numpy.typing as npt

from lipexact.errors import NormError
from lipexact.graph.ir import Vector
from lipexact.norms import norm


def functional_vector(functional: int | npt.ArrayLike | None, output_norm: str | None, outputs: int) -> Vector:
    """The vector c whose c^T f is asked about.

    Parameters
    ----------
    functional
        An output's index (negative counts from the end), a vector of shape (m,), or None: the whole
        output, which is supported for m = 1, where every output norm is |.|.
    output_norm
        Checked for being a norm; with a functional it has no meaning and must be None or "linf".
    outputs
        The number m of the network's outputs.

    Returns
    -------
    numpy.ndarray
        c, of shape (m,).

    Raises
    ------
    NormError
        If the functional does not fit the output, is NaN, or is needed and missing.
    """
    if output_norm is not None:
        norm(output_norm)
    if functional is None:
        if outputs > 1:
            raise NormError(
                f"the network has {outputs} outputs: name one with functional=INDEX, or weigh them with "
                "functional=[...]; norms of the whole output are not supported yet"
            )
        return np.ones(1)
    if isinstance(functional, numbers.Integral) and not isinstance(functional, bool):
        index = int(functional)
        if not -outputs <= index < outputs:
            raise NormError(f"functional={index} names no output: the network has {outputs}")
        return np.asarray(np.eye(1, outputs, index % outputs)[0])
    try:
        vector = np.array(functional)
        if not np.iscomplexobj(vector):
            vector = vector.astype(np.float64)
    except (TypeError, ValueError):
        raise NormError(f"a functional is an output's index or a vector of numbers, not {functional!r}") from None
    if np.iscomplexobj(vector):
        raise NormError("the functional has complex numbers")
    if vector.shape != (outputs,):
        raise NormError(
            f"a functional of shape {vector.shape} does not fit {outputs} outputs; give a vector of length {outputs}"
        )
    if not np.isfinite(vector).all():
        raise NormError("the functional has entries that are NaN or infinite")
    return vector
