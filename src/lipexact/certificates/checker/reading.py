"""Numbers of a certificate's file, refused where they are none."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from lipexact.certificates.checker.dyadic import Dyadic, zeros
from lipexact.certificates.checker.refutation import RefutedError
from lipexact.errors import CertificateError


def number(value: object) -> Fraction:
    """Return a finite number of a file.

    Raises
    ------
    CertificateError
        If it is none.
    """
    if isinstance(value, bool) or not (
        isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    ):
        raise CertificateError(f"{value!r} is no number")
    return Fraction(value)


def numbers(values: object, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return floats of a file as an array of that shape, where -1 is any length.

    Raises
    ------
    CertificateError
        If they are none, or of another shape.
    """
    try:
        array = np.array(values)
        short = array.dtype.kind == "f" or np.abs(array).max(initial=0) <= 2**53
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        short = False
    if not short:
        raise CertificateError("an array has something else than floats")
    if array.size == 0 and shape[:1] == (-1,):
        array = array.reshape(0, *shape[1:])
    fits = array.ndim == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.isfinite(array).all():
        raise CertificateError(
            f"an array of shape {array.shape} is none of finite numbers, of shape {shape}"
        )
    return array


def natural(value: object) -> int:
    """Return a natural number of a file, from 0.

    Raises
    ------
    CertificateError
        If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CertificateError(f"{value!r} is no natural number")
    return value


def dyadic_number(value: object) -> Dyadic:
    """Return a number of a file exactly, however long an integer.

    Raises
    ------
    CertificateError
        If it is none.
    """
    number(value)
    return Dyadic(value) if isinstance(value, int) else Dyadic.of(float(value))  # type: ignore[arg-type]


def multiplier(value: object) -> Dyadic:
    """Return a positive multiplier of a file.

    Raises
    ------
    RefutedError
        If it is not positive.
    """
    read = dyadic_number(value)
    if not read.signs().item() > 0:
        raise RefutedError("a multiplier is not positive")
    return read


def multiplier_row(pairs: list[Any], size: int) -> Dyadic:
    """Return multipliers that are listed by index as one row, 0 elsewhere, shape (1, size).

    [[2, 5]] becomes (0, 0, 5, 0) for a size of 4.
    """
    row = zeros(1, size)
    for index, value in pairs:
        unit = np.zeros((1, size), dtype=object)
        unit[0, natural(index)] = 1
        row = row + Dyadic(unit) * multiplier(value)
    return row
