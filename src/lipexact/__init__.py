"""Exact Lipschitz constants of piecewise-linear neural networks.

The public names stand in ``__init__.pyi``. They are imported when they are first used, so that
checking a certificate needs no solver.
"""

import lazy_loader

from lipexact.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
