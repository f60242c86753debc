"""Pictures of bounds, regions, radii, training and errors: ``pip install 'lipexact[plot]'``.

Every function draws into `ax`, or a new figure, by matplotlib, and returns the axes; nothing is
shown, saved or set globally. What colours say, markers and lines say, too.
"""

from lipexact.plot.certified_radii import radius
from lipexact.plot.estimator_errors import ErrorRow, errors
from lipexact.plot.polygons import linear_regions
from lipexact.plot.region_map import regions
from lipexact.plot.search_bounds import bounds
from lipexact.plot.training_curve import training

__all__ = ["ErrorRow", "bounds", "errors", "linear_regions", "radius", "regions", "training"]
