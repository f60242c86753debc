"""Tolerances, limits, and times of the mixed-integer programs and their solvers."""

from __future__ import annotations

# Scaling of a program (blocks).

# Scaled variables reach up to SCALED_REACH. Solvers keep rows to an absolute 1e-6 or so; with a
# reach of 1 HiGHS returned 143.50241 for a constant of 143.502156 (MNIST 784-20-20-20-2), with 64
# it is right to 1e-14.
SCALED_REACH = 64.0
# Smaller bounds count as this: the scale of a variable stays a normal number.
MIN_REACH = 1e-300
# HiGHS and SCIP drop coefficients below 1e-9 without a word: smaller ones than this are left out,
# and the row is widened by the most that they can matter.
MIN_COEFFICIENT_SIZE = 1e-8
# HiGHS refuses coefficients above 1e15: variables are scaled so that none is above this.
MAX_COEFFICIENT_SIZE = 2.0**20
# Where bounds differ by less than this share of their middle, the difference is only rounding, and
# no scale: HiGHS's presolve cut off an optimum over variables that were scaled by it.
MIN_RELATIVE_WIDTH = 2.0**-40

# Objective and cuts of a program (model, cuts).

# Solvers cut off what is better by no more than some 1e-6 of the objective, an absolute number.
# With a norm of up to 64 as the objective that was 1e-7 of it, and runners-up were called optimal;
# with this weight on the norm it is nothing.
OBJECTIVE_WEIGHT = 2.0**20
# A parked region stays feasible, at a value below its own by this share of the largest norm.
PARKING_MARGIN = 1e-4
# How far a solver's bound may be off, as a share of the largest norm, or of the terms that are
# added up to it. Of 50 nonconvex programs that Gurobi solved with a gap of 0, one bound lay 1.1e-5
# above the optimum; SCIP's were right to 1e-8, and none lay 1e-9 below.
ACCURACY = 1e-7
QUADRATIC_ACCURACY = 1e-5
# A binary variable is on above this value, since solvers return 0.999999 for 1.
BINARY_THRESHOLD = 0.5

# The outer approximation loop (claims, cut_loop).

# Coefficients of the largest program that is built: some 30 s and 3 GB in Pyomo. And of the largest
# one that is built after the deadline.
MAX_COEFFICIENTS = 3_000_000
MAX_LATE_COEFFICIENTS = 50_000
# So many rounds in a row that tighten nothing end the search.
MAX_IDLE_ROUNDS = 500

# A running solver (solvers).

HEARTBEAT_SECONDS = 0.5  # between two calls of on_progress without a new incumbent
POLL_SECONDS = 0.1  # between two looks for a new incumbent
GRACE_SECONDS = 3.0  # past its time limit, a solver is told to stop; after as long, told again
# An incumbent may lie below the bound by this, relative to both: solvers accept points that violate
# constraints by about as much.
CONTRADICTION_TOLERANCE = 1e-6
# Solvers have different numbers for infinity: 1e20 (SCIP), 1e50 (CBC), 1e100 (Gurobi), inf (HiGHS).
SOLVER_INFINITY = 1e20
