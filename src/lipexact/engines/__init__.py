"""The methods of search, one module each: a new one is a new file here and nothing else.

A module registers its engine by :func:`lipexact.state.engine` under the module's name. It is
imported when its method is asked for, so that Pyomo is imported by programs only.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lipexact.errors import OptionError
from lipexact.state import ENGINES, Engine

__all__ = ["engine_names", "find_engine"]


def engine_names() -> tuple[str, ...]:
    """Return the names of all methods: those of this package, and those registered elsewhere."""
    return tuple(sorted({each.name for each in iter_modules(__path__)} | ENGINES.keys()))


def find_engine(name: str) -> Engine:
    """Return the engine of a method.

    Raises
    ------
    OptionError
        If there is none of that name.
    """
    if name not in engine_names():
        raise OptionError(f"method={name!r} is none of {', '.join(map(repr, engine_names()))}")
    if name not in ENGINES:
        import_module(f"{__name__}.{name}")
    return ENGINES[name]
