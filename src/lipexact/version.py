"""The version, as everything that compares versions reads it."""

__version__ = "0.1.0"
