"""What callers give as arrays, made floats or refused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lipexact.errors import LipExactError


def floats(values: object, what: str, error: type[LipExactError]) -> npt.NDArray[np.float64]:
    """An array of numbers, none of them NaN, as a new array of float64; infinite ones are let through.

    Raises
    ------
    LipExactError
        Of the class `error`, whose text begins with `what`.
    """
    try:
        array = np.array(values)
        if not np.iscomplexobj(array):
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as failure:
        raise error(f"{what} is not an array of numbers: {failure}") from None
    if np.iscomplexobj(array):
        raise error(f"{what} has complex numbers")
    if array.size == 0:
        raise error(f"{what} is empty")
    if np.isnan(array).any():
        raise error(f"{what} is NaN in coordinate {int(np.argmax(np.isnan(array)))}")
    return array
