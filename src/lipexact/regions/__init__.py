"""Linear regions: their affine maps, Jacobians, feasibility, and operator norms.

From the bottom:

``constants``
    Limits and counts.
``affine``, ``gradients``
    What every node is as a function of the input under a pattern; gradients with bounds of their
    rounding errors.
``conditions``, ``farkas``, ``feasibility``
    The linear conditions of a pattern, proofs in floating point that they exclude each other, and
    the decision whether a pattern is that of a region.
``operator_norm``
    The norm of one region's Jacobian.
``heuristics``
    The search for a region with a large norm, and the incumbent.
``position_report``, ``crossings``, ``general_position``
    Whether a network is in general position: the report, hyperplanes that meet in too high a
    dimension, and the examination of a network.
"""
