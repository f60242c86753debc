"""Certificates of bounds, and the checker that verifies them in exact arithmetic."""
