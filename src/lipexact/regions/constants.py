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

# --- Operator norms ------------------------------------------------------------------------------

# Vertices of one of the two sets that are tried for the norm of one Jacobian (a few seconds).
MAX_VERTICES = 2.0**20
# Relative rounding errors below this are accepted; larger ones are avoided by exact gradients, and
# subtracted from lower bounds.
NEGLIGIBLE_ERROR = 1e-10
# Rounds of the alternating maximisation, and the relative progress below which it stops. It is a
# heuristic, and seldom takes more than three rounds.
MAX_ALTERNATIONS = 8
ALTERNATION_TOLERANCE = 1e-12

# --- The search for a good region ----------------------------------------------------------------

# Points spread over the whole domain, and as many near its vertices.
SEARCH_SAMPLES = 1024
# Points around the incumbent in each round, and borders of its region that are crossed at once.
SEARCH_MOVES = 256
# Rounds, at scales from the whole domain down to the smallest one.
SEARCH_ROUNDS = 24
SMALLEST_SCALE = 1e-6
# Points of a batch, the best ones first, whose patterns are determined.
CHECKED_POINTS = 3
# Points whose patterns are decided in rationals where rounding hides the pattern at every point.
DECIDED_POINTS = 3
# Vertices tried for the norm of each region that looks better: a few milliseconds.
MAX_SEARCH_VERTICES = 4096.0
# Numbers in the affine maps of all gates of a region (128 MB); no walk in larger networks.
MAX_BORDER_NUMBERS = 2**24
# Where points across a border are put, in multiples of the distance from the region's point.
STRIDES = (1.001, 1.5, 3.0)

# --- General position ----------------------------------------------------------------------------

# Points of the domain around which neurons that bend are looked at.
POSITION_SAMPLES = 64
# Numbers that all exact forms of one report may need, and the rank computations for the crossings
# of kernels: a second or two.
MAX_POSITION_FRACTIONS = 300_000
# Choices of d among all kernels and sides of the domain whose common points are computed.
MAX_SUBSETS = 5_000
# Findings of a kind, and neurons of a group, that a report's text lists.
LISTED_FINDINGS = 6
