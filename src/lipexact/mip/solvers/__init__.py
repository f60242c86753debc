"""Mixed-integer solvers behind one interface: each module holds the solver of its own name.

``base`` has the registry and :func:`~lipexact.mip.solvers.base.solve`, ``watch`` the threads on
which solvers run. This package imports none of its modules, since Pyomo's import takes longer than
most searches.
"""

from __future__ import annotations

import pkgutil

_INFRASTRUCTURE = ("base", "watch")


def solver_modules() -> tuple[str, ...]:
    """Return the names of the package's solvers, in alphabetical order, without importing Pyomo."""
    names = {module.name for module in pkgutil.iter_modules(__path__)}
    return tuple(sorted(names.difference(_INFRASTRUCTURE)))
