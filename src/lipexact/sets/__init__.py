"""Convex sets: domains of networks, unit balls of norms, and sets of functionals."""
