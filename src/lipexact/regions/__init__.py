"""Linear regions: their affine maps, Jacobians, feasibility, and operator norms."""
