"""Results as plain data: strings, numbers, lists and dictionaries, and back, by cattrs.

Numbers that are not finite become the strings "inf", "-inf" and "nan", which JSON can hold and
``float`` reads. Arrays become nested lists, enums their values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

import numpy as np

if TYPE_CHECKING:
    import cattrs

_T = TypeVar("_T")


def to_plain(value: Any) -> Any:
    """Return a dataclass, a container or a number as plain data."""
    return _plain(_converter().unstructure(value))


def from_plain(data: Any, kind: type[_T]) -> _T:
    """Return the object of a dataclass that plain data describe.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the data do not fit the class.
    """
    try:
        return _converter().structure(data, kind)
    except AttributeError as error:  # a number where there must be a mapping
        raise TypeError(f"the data do not fit {kind.__name__}: {error}") from None


def _plain(value: Any) -> Any:
    """Replace what JSON does not have: infinities, arrays and numpy's scalars."""
    if isinstance(value, np.ndarray):
        listed = (value.astype(np.int64) if value.dtype == bool else value).tolist()
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return _plain(listed)
        return listed
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value


def _is_array(kind: Any) -> bool:
    return kind is np.ndarray or get_origin(kind) is np.ndarray


def _array(data: Any, kind: Any) -> np.ndarray[Any, Any]:
    (scalar,) = get_args(get_args(kind)[1]) if get_args(kind) else (np.float64,)
    return np.array(data, dtype=scalar)


def _is_record(kind: Any) -> bool:
    """Return whether a class is a dataclass that is a mapping of its fields, too."""
    return isinstance(kind, type) and is_dataclass(kind) and issubclass(kind, Mapping)


@cache
def _converter() -> cattrs.Converter:
    """Return the only converter; cattrs is imported when results are written or read."""
    import cattrs  # noqa: PLC0415 - a tenth of a second that a solve does not need

    made = cattrs.Converter(detailed_validation=False)
    made.register_structure_hook_func(_is_array, _array)
    made.register_unstructure_hook_func(_is_array, lambda value: value)
    made.register_structure_hook_func(_is_record, lambda data, kind: kind(**data))
    made.register_unstructure_hook_func(_is_record, dict)
    return made
