"""The tables and figures of Jordan and Dimakis, NeurIPS 2020, made again.

`python -m benchmarks.paper NAME`.
"""
