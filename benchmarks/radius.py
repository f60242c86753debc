"""The largest radius at which the constant is exact within a time limit.

Run it by `python -m benchmarks.radius MODEL [options]`.

Around a centre the radius is doubled until the answer is no longer exact, then narrowed by
bisection of its logarithm. Every radius is a call of its own with the whole limit.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import lipexact as lx


def attempt(
    network: lx.Network, center: np.ndarray, radius: float, options: argparse.Namespace
) -> bool:
    """Solve for one radius, print a row, and say whether it is exact."""
    functional = None
    if options.functional is not None:
        functional = np.array([float(entry) for entry in options.functional.split(",")])
    clip = None
    if options.clip is not None:
        low, high = (float(entry) for entry in options.clip.split(","))
        clip = low, high
    result = lx.lipschitz(
        network,
        lx.Ball(center, radius, clip=clip),
        functional=functional,
        solver=options.solver,
        time_limit=options.seconds,
    )
    row = [
        f"{radius:.4g}",
        str(result.status),
        f"{result.lower:.9g}",
        f"{result.upper:.9g}",
        f"{result.seconds:.1f}",
    ]
    row += [
        str(result.stats.get("binaries", 0)),
        str(result.stats.get("nodes", 0)),
        result.mode or result.method,
    ]
    print("| " + " | ".join(row) + " |", flush=True)
    return result.status is lx.Status.EXACT


def largest(network: lx.Network, center: np.ndarray, options: argparse.Namespace) -> float:
    """Return the largest radius found, 0.0 if none is."""
    low, high = 0.0, options.start
    while high <= options.most:
        if not attempt(network, center, high, options):
            break
        low, high = high, 2 * high
    else:
        return low
    for _ in range(options.bisections):
        middle = np.sqrt(low * high) if low else high / 4
        if attempt(network, center, middle, options):
            low = middle
        else:
            high = middle
    return low


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each centre."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--output", help="the name of the output")
    parser.add_argument(
        "--center",
        type=Path,
        help="a .npy file with one centre or a row for each; else random ones",
    )
    parser.add_argument(
        "--box", type=float, nargs=2, default=(0.0, 1.0), help="where random centres come from"
    )
    parser.add_argument("--centers", type=int, default=3, help="how many random centres")
    parser.add_argument(
        "--functional",
        help="weights of the outputs with commas between; the whole output if not given",
    )
    parser.add_argument("--clip", help="LO,HI")
    parser.add_argument("--solver", default="highs")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--start", type=float, default=1 / 256)
    parser.add_argument("--most", type=float, default=1.0)
    parser.add_argument("--bisections", type=int, default=3)
    options = parser.parse_args(arguments)

    network = lx.load(options.model, output=options.output)
    if options.center is not None:
        centers = np.atleast_2d(np.load(options.center).reshape(-1, network.input.size))
    else:
        low, high = options.box
        centers = np.random.default_rng(0).uniform(low, high, (options.centers, network.input.size))
    print(
        f"{options.model.name}: {network.relus} gates, {options.seconds:g} s a radius, "
        f"{options.solver}\n"
    )
    for number, center in enumerate(centers):
        print("| radius | status | lower | upper | seconds | binaries | nodes | mode |")
        print("|---|---|---|---|---|---|---|---|")
        print(
            f"\ncentre {number}: exact up to radius {largest(network, center, options):.4g}\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
