"""Bounds and estimates of Lipschitz constants, each with a stated guarantee.

Every module of this package that registers estimators (:func:`.registry.estimator`) is found by
:func:`discover`, which runs on import: a new estimator is a new file here, and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

# What is built on the registry: these two import this package themselves.
_CALLERS = ("compare", "estimate")


def discover() -> None:
    """Import the package's modules, which registers their estimators."""
    for module in iter_modules(__path__):
        if module.name not in _CALLERS:
            import_module(f"{__name__}.{module.name}")


discover()
