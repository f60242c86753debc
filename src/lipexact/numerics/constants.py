"""Limits and tolerances of the numerics. What every bound of rounding needs is in `rounding`."""

# --- Arrays --------------------------------------------------------------------------------------

# Arrays of at most so many numbers are printed whole by `summary`.
MAX_PRINTED_NUMBERS = 4

# --- Linear programs -----------------------------------------------------------------------------

# Entries of a row below this share of its largest entry do not tell how far their variable can go.
NEGLIGIBLE_SHARE = 1e-6
# Sums of multiples of coefficients below this share of the sum of absolute values are rounding.
CANCELLED_SHARE = 1e-9

# --- Products in twice the precision -------------------------------------------------------------

# Slices that a factor is cut into. Each has at least 16 bits, for rows of up to 2^20 entries.
PRODUCT_SLICES = 6
# Entries of a sparse matrix that are sliced at once, since slices take memory.
MAX_SLICED_ENTRIES = 2**21
# Units of 2^-53 that entries of products of large sparse matrices may be off.
MAX_SPARSE_UNITS = 64.0
# The same for the other products, which are computed in twice the precision.
MAX_DENSE_UNITS = 2.0
# Entries of sparse matrices that are made dense.
MAX_DENSE_PRODUCT_ENTRIES = 2**22
# Multiplications of Fractions in one product: about a second.
MAX_FRACTION_PRODUCTS = 2e6
# Above so many units (an error of 10 %) an accuracy is not worth reporting.
MAX_REPORTED_UNITS = 1e15

# --- Spectral norms ------------------------------------------------------------------------------

# Sparse matrices of more entries than this, zeros among them, are not made dense.
MAX_DENSE_ENTRIES = 2**23
# The largest size of a Gram matrix whose eigenvalues are computed densely.
MAX_DENSE_GRAM_SIZE = 2048
# Numbers in a banded Gram matrix: 256 MB.
MAX_BAND_NUMBERS = 2**25
# By how much, relative to it, Lanczos' eigenvalue is raised before Cholesky's method must run to
# its end. The next one is tried where it does not.
LANCZOS_ROOM = (1e-8, 1e-6, 1e-4, 1e-2)
# Relative accuracy that Lanczos' method is asked for.
LANCZOS_TOLERANCE = 1e-9
# Steps of the power method on absolute values.
POWER_STEPS = 20

# --- Sign relaxations ----------------------------------------------------------------------------

# Steps of the mixing method; more of them hardly improve the multipliers.
MIXING_STEPS = 2
# Entries of the mixing method's vectors, for rows that have more of them.
MIXING_RANK = 16
# No multiplier is smaller than this share of the sum of its row or column.
MIN_MULTIPLIER = 1e-2
# No multiplier of a certificate for Euclidean lengths is smaller than this share of the one of the
# step before. Its vectors are not compressed, so that multipliers may shrink more.
MIN_CERTIFICATE_MULTIPLIER = 1e-3
# Multipliers of certificates are so much larger than they need to be, relative to them.
CERTIFICATE_MARGIN = 1e-10
# Binary digits of the multipliers of columns in certificates.
COLUMN_MULTIPLIER_BITS = 12

# --- Exact arithmetic ----------------------------------------------------------------------------

# Bland's rule cannot cycle, but the number of pivots may still grow exponentially.
MAX_PIVOTS = 1000
