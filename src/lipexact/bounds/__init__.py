"""Bounds on every node of a graph over the sets of its inputs."""
