"""The exception by which a step is refuted."""

from __future__ import annotations


class RefutedError(Exception):
    """A step that does not prove what it should."""
