"""Certificates of Lipschitz constants: how they are made, kept, and checked in exact arithmetic."""
