"""The command line: ``lipexact solve`` and ``lipexact info``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.status import Status as Spinner
from rich.table import Table

from lipexact import __version__
from lipexact.api import lipschitz, load, progress_line
from lipexact.domains import Ball, Box
from lipexact.errors import DomainError, LipExactError, NormError
from lipexact.graph.ir import Affine, Switch
from lipexact.mip.solvers import Progress, available, solver_names
from lipexact.result import LipschitzResult, Status

app = typer.Typer(
    help="Exact Lipschitz constants of piecewise-linear networks in ONNX files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_NUMBERS = "a number for all entries, numbers with commas between, or a .npy or .csv file"


def main() -> NoReturn:
    """Run the command line; an error of lipexact's own is one line on stderr and the exit code 1."""
    try:
        app()
    except LipExactError as error:
        _fail(" ".join(str(error).split()))
    except OSError as error:
        _fail(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    raise SystemExit(0)


def _fail(message: str) -> NoReturn:
    print(f"lipexact: error: {message}", file=sys.stderr)
    raise SystemExit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
def solve(
    model: Annotated[Path, typer.Argument(help="The ONNX file.")],
    center: Annotated[str | None, typer.Option(help=f"The ball's centre: {_NUMBERS}.")] = None,
    radius: Annotated[float | None, typer.Option(help="The ball's radius, in the linf norm.")] = None,
    clip: Annotated[str | None, typer.Option(help="Cut the ball to LO,HI, as for pixels.")] = None,
    lower: Annotated[str | None, typer.Option(help=f"The box's lower corner: {_NUMBERS}.")] = None,
    upper: Annotated[str | None, typer.Option(help=f"The box's upper corner: {_NUMBERS}.")] = None,
    norm: Annotated[str, typer.Option(help="The norm on the input side: linf or l1.")] = "linf",
    functional: Annotated[str | None, typer.Option(help="An output's index, or weights as numbers or a file.")] = None,
    solver: Annotated[str, typer.Option(help=f"One of {', '.join(solver_names())}.")] = "highs",
    mode: Annotated[str, typer.Option(help="auto, forward or reverse.")] = "auto",
    time_limit: Annotated[float | None, typer.Option(help="Seconds of wall-clock time.")] = None,
    gap: Annotated[float, typer.Option(help="Stop at this relative gap.")] = 0.0,
    threads: Annotated[int | None, typer.Option(help="For the solver.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Compute the local Lipschitz constant of a network on a ball or a box.

    Exits with 0 when the answer is exact, or within --gap; with 2 when a limit left an interval; with 1 on error.
    """
    network = load(model)
    domain = _domain(network.input.size, center, radius, clip, lower, upper)
    console = Console(stderr=True)
    with console.status("bounds", spinner="line") if console.is_terminal and not quiet else _Lines(quiet) as spinner:
        result = lipschitz(
            network,
            domain,
            input_norm=norm,
            functional=_functional(functional),
            solver=solver,
            mode=mode,  # type: ignore[arg-type]
            time_limit=time_limit,
            gap=gap,
            threads=threads,
            progress=lambda moment: _show(spinner, moment),
        )
    if as_json:
        print(result.to_json(indent=2))
    else:
        Console(soft_wrap=True).print(_table(str(model), result))
    if result.status is not Status.EXACT and result.termination != "gap":
        raise typer.Exit(2)


@app.command()
def info(
    model: Annotated[Path, typer.Argument(help="The ONNX file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Describe a network: shapes, layers, ReLUs, parameters, and which solvers are there."""
    network = load(model)
    affine = [node for node in network.graph.nodes if isinstance(node, Affine)]
    facts: dict[str, Any] = {
        "model": str(model),
        "input_shape": list(network.input_shape),
        "output_shape": list(network.output_shape),
        "affine_layers": len(affine),
        "switches": sum(isinstance(node, Switch) for node in network.graph.nodes),
        "gates": [gate.size for gate in network.gates],
        "relus": network.relus,
        "parameters": sum(node.size + sum(int((weight != 0).sum()) for weight, _ in node.terms) for node in affine),
        "solvers": [name for name in solver_names() if available(name)],
    }
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    table = Table(show_header=False)
    for name, fact in facts.items():
        table.add_row(name.replace("_", " "), ", ".join(map(str, fact)) if isinstance(fact, list) else str(fact))
    Console(soft_wrap=True).print(table)


class _Lines:
    """Progress where there is no terminal: a line on stderr every ten seconds."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.next = quiet, 10.0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _show(spinner: Spinner | _Lines, moment: Progress) -> None:
    if isinstance(spinner, Spinner):
        spinner.update(progress_line(moment))
    elif not spinner.quiet and moment.seconds >= spinner.next:
        print(progress_line(moment), file=sys.stderr, flush=True)
        spinner.next = moment.seconds + 10.0


def _table(model: str, result: LipschitzResult) -> Table:
    table = Table(show_header=False)
    table.add_row("model", model)
    table.add_row("status", f"{result.status} ({result.termination}; proof: {result.proof})")
    if result.status is Status.EXACT:
        table.add_row("Lipschitz constant", f"{result.value:.12g}")
    else:
        table.add_row("interval", f"[{result.lower:.12g}, {result.upper:.12g}], gap {100 * result.gap:.3g} %")
    table.add_row("mode, solver", f"{result.mode}, {result.solver}")
    if "binaries" in result.stats:
        sizes = (f"{result.stats[name]} {name}" for name in ("variables", "binaries", "constraints", "nodes"))
        table.add_row("program", ", ".join(sizes))
    table.add_row("seconds", f"{result.seconds:.3g}")
    if result.witness is not None:
        table.add_row("witness", f"a linear region of radius at least {result.witness.radius:.3g} (see --json)")
    return table


def _domain(
    d: int, center: str | None, radius: float | None, clip: str | None, lower: str | None, upper: str | None
) -> Box:
    if (center is None) != (radius is None) or (lower is None) != (upper is None):
        raise DomainError("give --center and --radius, or --lower and --upper")
    if center is not None and lower is None:
        limits = _numbers(clip, "--clip") if clip is not None else None
        if limits is not None and limits.size != 2:
            raise DomainError(f"--clip takes two numbers LO,HI, not {limits.size}")
        return Ball(_spread(center, d, "--center"), radius, clip=None if limits is None else (limits[0], limits[1]))  # type: ignore[arg-type]
    if center is None and lower is not None and upper is not None and clip is None:
        return Box(_spread(lower, d, "--lower"), _spread(upper, d, "--upper"))
    raise DomainError("give either a ball (--center, --radius, and --clip if wanted) or a box (--lower, --upper)")


def _spread(text: str, d: int, what: str) -> npt.NDArray[np.float64]:
    numbers = _numbers(text, what)
    return np.full(d, numbers.ravel()[0]) if numbers.size == 1 else numbers


def _functional(text: str | None) -> int | npt.NDArray[np.float64] | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        try:
            return _numbers(text, "--functional").ravel()
        except DomainError as error:
            raise NormError(str(error)) from None


def _numbers(text: str, what: str) -> npt.NDArray[np.float64]:
    try:
        if text.endswith(".npy"):
            return np.asarray(np.load(text, allow_pickle=False), dtype=np.float64)
        if text.endswith(".csv"):
            return np.loadtxt(text, delimiter=",", dtype=np.float64)
        return np.array([float(entry) for entry in text.split(",")])
    except (ValueError, EOFError) as error:
        raise DomainError(f"{what} takes {_NUMBERS}: {error}") from None
