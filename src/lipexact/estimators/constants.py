"""Limits and tolerances of the estimators, each for one purpose."""

from __future__ import annotations

# --- Sizes: beyond these an estimator takes another way, or refuses ------------------------------

# Functionals that are folded into the last layer and bounded one by one.
MAX_FOLDED_FUNCTIONALS = 64
# Vertices of a unit ball by which the operator norm of a matrix is enumerated.
MAX_NORM_VERTICES = 4096.0
# Numbers of a dense matrix, and of the parts of products with vertices (64 MB).
MAX_DENSE_NUMBERS = 2**23
# Rows or columns of a matrix whose signs are relaxed: a semidefinite bound of that size.
MAX_SIGN_ROWS = 512
# Combinations of rows among which gates choose, as of a maximum over a window.
MAX_ROW_CHOICES = 64
# Gates of a layer all of whose patterns are enumerated: 2^18 matrices.
MAX_ENUMERATED_GATES = 18
# Numbers of the masked matrices that are in memory at once (32 MB).
MAX_MASKED_NUMBERS = 2**22
# Greedy flips of gates in a layer.
MAX_GREEDY_FLIPS = 10_000
# Numbers of the sampled points that are in memory at once (32 MB).
MAX_POINT_NUMBERS = 2**22
# Rows of a matrix of multipliers whose Cholesky factor is a proof: some seconds and 0.3 GB.
MAX_PROOF_SIZE = 6000
# Functionals of which each needs a semidefinite program of its own.
MAX_SDP_FUNCTIONALS = 16
# Seconds that a semidefinite program may take by the rough estimate of its cost.
MAX_SDP_SECONDS = 1200.0

# --- Tolerances of the proofs by multipliers -----------------------------------------------------

# Relative increases of multipliers that are tried until they prove a bound: solvers leave some
# constraints violated by about their own tolerance.
MULTIPLIER_INCREASES = (0.0, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
# Relative increases of the squared bound, for the rounding of Cholesky's method.
BOUND_INCREASES = (1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)

# --- The fit of CLEVER ---------------------------------------------------------------------------

# Shapes of the Weibull distribution from which the fit starts.
WEIBULL_SHAPES = (0.1, 1.0, 5.0, 10.0, 20.0, 50.0, 100.0)
# Least p-value of a fit that is believed.
MIN_P_VALUE = 1e-3
# Range of the maxima, relative to the largest one, below which they do not differ.
MIN_RELATIVE_SPREAD = 1e-9
# Multiple of the largest sample beyond which an end point is not believed.
MAX_END_RATIO = 10.0
