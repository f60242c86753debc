"""The picture of README.md: python -m benchmarks.frontpage.

Left, the linear regions of a network with two inputs, by the size of the gradient of its margin,
with the witness of the constant. Right, how far estimators are from that constant, against the time
that they take. Writes benchmarks/reports/frontpage.png.
"""

from __future__ import annotations

from matplotlib.figure import Figure

import lipexact as lx
from benchmarks.cases import NETWORKS
from benchmarks.report import REPORTS
from lipexact import plot

METHODS = ["sampling", "exact", "zonotope", "linear", "recurjac", "fastlip", "naive"]


def main() -> None:
    """Draw both panels."""
    network = lx.load(NETWORKS / "synthetic_2_20_40_20_2.onnx")
    square, margin = lx.Box.unit(2), [1, -1]
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    plot.regions(
        network,
        square,
        lx.lipschitz(network, square, functional=margin),
        functional=margin,
        ax=left,
    )
    left.set_title("the linear regions of a trained network, and the steepest", fontsize=10, pad=24)
    lx.compare(network, square, METHODS, functional=margin).plot(ax=right)
    right.set_title("how far estimators are from its constant", fontsize=10, pad=24)
    figure.savefig(REPORTS / "frontpage.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
