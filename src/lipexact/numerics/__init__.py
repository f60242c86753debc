"""Numerics that know no network: arrays, rounding errors, exact arithmetic, linear programs."""
