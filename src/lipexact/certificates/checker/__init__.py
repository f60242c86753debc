"""The checker: exact arithmetic only, without a solver and without the search."""
