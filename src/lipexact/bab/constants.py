"""Sizes and times of branch and bound."""

# Largest number of coefficients in the bounds of a single node.
MAX_COEFFICIENTS = 2**24

# Memory of all open nodes together, and of one: a fixed part, and a part for each of its gates.
MAX_OPEN_BYTES = 2**31
BYTES_PER_NODE = 1000
BYTES_PER_GATE = 6

# Nodes that are expanded at once. The batch starts at the smaller number and doubles.
MIN_BATCH = 4
MAX_BATCH = 64

# Free gates of a node that linear programs look at.
GATES_PER_NODE = 8

# A bound that costs more than this many times the cheapest one waits until a node is expanded.
COST_RATIO = 4

# Points that the search begins with, and that a node remembers.
FIRST_POINTS = 256
POINTS_PER_NODE = 64

# Regions whose norm is larger by less than this share do not matter: half of what EXACT leaves.
NEGLIGIBLE = 5e-10

# Values nearer to 0 than this share of a neuron's range may be 0 but for the tolerance of the
# linear program.
APART = 1e-7

# Numbers in all stored points, and in the stored affine forms.
MAX_POINT_NUMBERS = 2**25
MAX_FORM_NUMBERS = 2**24

# Exact decisions may take the larger of so many seconds and this share of the search's time.
DECISION_SECONDS = 1.0
DECISION_SHARE = 0.2

# Seconds between two reports of progress.
REPORT_SECONDS = 0.5

# Other processes take part after so many seconds, about as many as they take to start, and only if
# so many are left until the deadline.
ALONE_SECONDS = 1.0
WORTHWHILE_SECONDS = 5.0

# Seconds that a worker expands a subtree: while other workers have nothing to do, and otherwise.
SHORT_SLICE_SECONDS = 0.1
LONG_SLICE_SECONDS = 2.0

# Nodes that a worker is dealt at most, and how many such hands there should be for each worker.
MAX_HAND = 128
HANDS_PER_WORKER = 2

# Seconds of the caller's time that a task takes, about.
TASK_SECONDS = 0.005

# Workers stop so many seconds before the deadline.
DEADLINE_MARGIN_SECONDS = 0.2

# Coordinates of points that travel with a node.
MAX_SENT_NUMBERS = 2**13

# --- Certificates ---

# Seconds that a proof may take at least, for nodes that the search did not have; and their number.
MIN_PROOF_SECONDS = 10.0
MAX_EXTRA_NODES = 2000

# Parameters of the largest network that is proven about.
MAX_PROVEN_PARAMETERS = 2_000_000

# Vertices of a set that are held one by one in reverse mode, even if the other set has fewer.
MAX_HELD_VERTICES = 64

# Decimal digits of the longest integer in a file: Python reads no longer ones.
MAX_INTEGER_DIGITS = 4000

# Distance, relative to the lower bound, of an upper bound that is proven: less than what EXACT
# leaves.
CLOSED_GAP = 9e-10

# How much larger than a spectral norm its multiplier is.
SPECTRAL_MARGIN = 1e-11
