"""Networks and their derivatives as graphs of three primitives."""
