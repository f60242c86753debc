"""Limits and tolerances of the sets."""

# Half-spaces that may have more vertices than this are not enumerated.
MAX_VERTICES = 10_000
# Vertices that are made at once, as one array.
MAX_CHUNK_VERTICES = 4096
# Numbers of unit vectors that are made at once.
MAX_CHUNK_NUMBERS = 2**22
# How well an enumerated vertex must satisfy its equations, whose right-hand sides are 1.
VERTEX_TOLERANCE = 1e-11

# Steps of a random walk before its points count as random.
WALK_STEPS = 8
# Newton steps to the border of an l1 ball.
NEWTON_STEPS = 12
# Random directions whose vertices serve as extreme points; linear programs, if it is no box.
MAX_DIRECTIONS = 64
