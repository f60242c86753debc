"""Sizes and shares of work of the bounds."""

# Multiplications that linear relaxation may take, counted as sparse ones: 3e9 take about a second.
MAX_WORK = 2.5e11

# Rows that are substituted together at most, and the coefficients that they may have of one sign.
MAX_ROWS = 256
MAX_COEFFICIENTS = 2**23

# A multiplication is so many times faster in a dense product, and the largest sparse matrix that is
# made dense, in entries.
DENSE_GAIN = 6
MAX_DENSE_ENTRIES = 2**24

# Numbers in one array of a batch, or as many as one choice of gates takes.
ARRAY_NUMBERS = 2**21

# Zonotopes hold one vertex after another of a set that has at most so many.
MAX_ZONOTOPE_VERTICES = 64

# Batches that a bound is left out at most, after it was the smallest nowhere.
MAX_PAUSE_BATCHES = 15

# Parameters of networks whose products of matrices are worth several threads.
LARGE_PARAMETERS = 1_000_000

# The share of the time that is left which bounds may take: local search and the engine need some.
BOUND_TIME_SHARE = 3 / 4
