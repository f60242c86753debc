"""Arrays, rounding errors, exact arithmetic, and linear programs: what has no notion of a network."""
