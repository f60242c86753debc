"""Limits and counts of the package regions: how much work, memory or precision is spent on what.

None of them affects whether an answer is right; they decide how far it is looked for.
"""

# --- Affine maps and gradients -------------------------------------------------------------------

# Numbers in the affine maps of all nodes (0.5 GB as floats). Larger networks get no such maps.
MAX_FORM_NUMBERS = 2**26
# Multiplications of Fractions for one batch of gradients: about a second for each million.
MAX_GRADIENT_FRACTIONS = 3e6
# The error of a gradient, relative to its largest entry, from which on it is computed again in
# higher precision.
GRADIENT_TOLERANCE = 1e-12

# --- The decision on a pattern -------------------------------------------------------------------

# Rows and columns of the largest systems for the simplex method in Fractions, of which each pivot
# changes all entries.
MAX_SIMPLEX_SIZE = 60
# Linear programs on ever smaller boxes around the last solution, and the factor between these: its
# tolerance is 1e-7 of the box, so that a factor of a million keeps the solution well inside.
ZOOM_STEPS = 4
ZOOM_FACTOR = 10**6
# Points beside the linear program's own that are tried for a region, to get off free gates' kinks.
SHIFTED_POINTS = 3
# Multipliers below this part of the largest one are taken for rounding errors of the solver.
NEGLIGIBLE_MULTIPLIER = 1e-9
