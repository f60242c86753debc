"""The command line: ``lipexact solve``, ``batch``, ``estimate``, ``compare``, ``check`` and ``info``.

Exit codes: 0 for an answer, 1 for an error, 2 for a command line that is wrong, 3 where the search stopped early
and left an interval, 130 for ctrl-C before there was one. An error is one line on stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
import typer
import typer.core
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar
from rich.status import Status as Spinner
from typing_extensions import Self

from lipexact import __version__
from lipexact.api import certificate_path, lipschitz
from lipexact.batch.batch import lipschitz_many
from lipexact.batch.results import BatchProgress, BatchResult
from lipexact.certificates.checker.checker import check
from lipexact.errors import DomainError, LipExactError, OptionError
from lipexact.estimators.compare import compare
from lipexact.estimators.estimate import estimate, estimator_names
from lipexact.graph.ir import Affine, Switch
from lipexact.loading import load
from lipexact.mip.solvers import solver_modules
from lipexact.network import Network
from lipexact.result import LipschitzResult, Status
from lipexact.sets.domains import Ball, Box, Domain, Reals
from lipexact.sets.functionals import CrossLipschitz, Functional
from lipexact.sets.norms import norm_names
from lipexact.state import Progress

_ERROR, _USAGE, _INTERVAL, _INTERRUPTED = 1, 2, 3, 130

_NUMBERS = "a number for all entries, numbers with commas between, or a .npy or .csv file"
_SECONDS_BETWEEN_LINES = 10.0
_WIDTH = 140  # of tables that go to a file or a pipe
_METHODS = {"bab": "branch and bound", "bounds": "bounds alone"}
_SOLVER_HELP = f"{', '.join(solver_modules()[:-1])} or {solver_modules()[-1]}."
_PICTURES, _DPI = (".png", ".pdf", ".svg"), 150

# The base of BadParameter, of an unknown option or command and of a missing argument; typer does not name it.
_UsageError: Any = typer.BadParameter.__base__


class _Commands(typer.core.TyperGroup):
    """Commands whose errors are one line on stderr, and an exit code."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        extra |= {"standalone_mode": False, "prog_name": "lipexact"}
        try:
            code = super().main(*args, **extra)
            if sys.stdout is not None:
                sys.stdout.flush()
        except _UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "lipexact"
            _fail(f"{error.format_message().rstrip('.')} (see {command} --help)", _USAGE)
        except OptionError as error:
            _fail(str(error), _USAGE)
        except LipExactError as error:
            _fail(str(error))
        except BrokenPipeError:
            _drop_output()
            raise SystemExit(_ERROR) from None
        except OSError as error:
            _drop_output()
            _fail(
                f"{error.strerror}: {error.filename}"
                if error.filename
                else error.strerror or str(error)
            )
        except MemoryError as error:
            _fail(f"out of memory: {error}" if str(error) else "out of memory")
        except (KeyboardInterrupt, typer.Abort):
            code = _INTERRUPTED
        if code == _INTERRUPTED:
            _fail("interrupted", code)
        raise SystemExit(code or 0)


app = typer.Typer(
    cls=_Commands,
    help="Exact Lipschitz constants of piecewise-linear networks in ONNX files.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """Run the command line."""
    app()
    raise SystemExit(0)  # not reached: the commands raise their own


def _fail(message: str, code: int = _ERROR) -> NoReturn:
    print(f"lipexact: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)


def _drop_output() -> None:
    """Where nobody can read what is left to print, keep Python from trying again, and complaining, at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"lipexact {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        if text := context.get_help():
            print(text)
        raise typer.Exit(_USAGE)


# How a file is read, which solve and info share.
_Model: TypeAlias = Annotated[Path, typer.Argument(help="The ONNX file.")]
_Input: TypeAlias = Annotated[
    str | None, typer.Option("--input", help="The name of the network's input.")
]
_Output: TypeAlias = Annotated[
    str | None, typer.Option("--output", help="The name of its output, or of an inner tensor.")
]
_Fix: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--fix", help=f"NAME={_NUMBERS}: constants for a further input; repeat."),
]
_DropFinal: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--drop-final", help="Leave out the Softmax, Sigmoid or the like that the output ends in."
    ),
]
_NoBatch: TypeAlias = Annotated[
    bool, typer.Option("--no-batch-axis", help="The first axis is no batch axis.")
]


# What is asked of it, which solve, estimate and compare share.
_Center: TypeAlias = Annotated[
    str | None, typer.Option("--center", help=f"The ball's centre: {_NUMBERS}.")
]
_Radius: TypeAlias = Annotated[float | None, typer.Option("--radius", help="The ball's radius.")]
_BallNorm: TypeAlias = Annotated[
    str, typer.Option("--ball-norm", help="The ball's norm: linf or l1.")
]
_Clip: TypeAlias = Annotated[
    str | None, typer.Option("--clip", help="Cut the ball to LO,HI, as for pixels.")
]
_Lower: TypeAlias = Annotated[
    str | None, typer.Option("--lower", help=f"The box's lower corner: {_NUMBERS}.")
]
_Upper: TypeAlias = Annotated[
    str | None, typer.Option("--upper", help="The box's upper corner, likewise.")
]
_Everywhere: TypeAlias = Annotated[
    bool, typer.Option("--everywhere", help="All inputs: the global constant.")
]
_InputNorm: TypeAlias = Annotated[
    str, typer.Option("--norm", help=f"The norm on the input side: {' or '.join(norm_names())}.")
]
_OutputNorm: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--output-norm", help="The norm of the whole output; that of the input if not given."
    ),
]
_Of: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--functional",
        help="An output's index; a weight for each, as numbers or a file; a file with several rows of them; cross "
        "for the differences of any two outputs, cross:K for those with output K. The whole output if not given.",
    ),
]
_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")]
_Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]


@app.command()
def solve(
    model: _Model,
    center: _Center = None,
    radius: _Radius = None,
    ball_norm: _BallNorm = "linf",
    clip: _Clip = None,
    lower: _Lower = None,
    upper: _Upper = None,
    everywhere: _Everywhere = False,
    norm: _InputNorm = "linf",
    output_norm: _OutputNorm = None,
    functional: _Of = None,
    method: Annotated[
        str, typer.Option(help="auto, bab, mip, or lp for the linear relaxation alone.")
    ] = "auto",
    solver: Annotated[str, typer.Option(help=_SOLVER_HELP)] = "highs",
    mode: Annotated[str, typer.Option(help="auto, forward or reverse.")] = "auto",
    time_limit: Annotated[float | None, typer.Option(help="Seconds of wall-clock time.")] = None,
    gap: Annotated[float, typer.Option(help="Stop at this relative gap.")] = 0.0,
    target: Annotated[
        float | None, typer.Option(help="Stop when the constant is known to be above or not.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="For the solver; processes for bab.")] = None,
    solver_option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE under the solver's own names; repeat.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Write a proof here, for lipexact check.")
    ] = None,
    input_name: _Input = None,
    output_name: _Output = None,
    fix: _Fix = None,
    drop_final: _DropFinal = False,
    no_batch: _NoBatch = False,
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> None:
    """Compute the Lipschitz constant of a network on a ball, a box, or everywhere.

    Exit codes: 0 exact, or what --gap, --target or --method lp asked for; 1 error; 2 wrong command line; 3 a limit or
    ctrl-C left an interval.
    """
    network = _network(model, input_name, output_name, fix, drop_final, no_batch)
    domain = _domain(network, center, radius, ball_norm, clip, lower, upper, everywhere)
    file = certificate_path(certificate)
    show = _Show(quiet)
    # What a solver prints by itself is none of the answer.
    with show.display, redirect_stdout(sys.stderr):
        result = lipschitz(
            network,
            domain,
            input_norm=norm,
            output_norm=output_norm,
            functional=_functional(functional),
            method=method,
            solver=solver,
            mode=mode,  # type: ignore[arg-type]
            time_limit=time_limit,
            gap=gap,
            target=target,
            threads=threads,
            progress=show,
            solver_options=dict(map(_option, solver_option or [])),
            certificate=file is not None,
        )
    if as_json:
        print(result.to_json(indent=2))
    else:
        _print_table(_rows(model, result))
    if file is not None and result.certificate is not None:
        result.certificate.save(file)
    if result.status is not Status.EXACT and result.termination not in (
        "gap",
        "target",
        "relaxation",
    ):
        raise typer.Exit(_INTERVAL)


@app.command()
def batch(
    model: _Model,
    centers: Annotated[
        str, typer.Option(help="The balls' centres: a .npy or .csv file, one in each row.")
    ],
    radius: Annotated[float, typer.Option(help="The balls' radius.")],
    out: Annotated[Path, typer.Option(help="Write the results here, as JSON Lines.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the file that is there.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="How many processes; one for each core if not given.")
    ] = None,
    ball_norm: _BallNorm = "linf",
    clip: _Clip = None,
    norm: _InputNorm = "linf",
    output_norm: _OutputNorm = None,
    functional: _Of = None,
    method: Annotated[
        str, typer.Option(help="auto, bab, mip, or lp for the linear relaxation alone.")
    ] = "auto",
    solver: Annotated[str, typer.Option(help=_SOLVER_HELP)] = "highs",
    mode: Annotated[str, typer.Option(help="auto, forward or reverse.")] = "auto",
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds of wall-clock time for each ball.")
    ] = None,
    gap: Annotated[float, typer.Option(help="Stop at this relative gap.")] = 0.0,
    target: Annotated[
        float | None, typer.Option(help="Stop when a constant is known to be above or not.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="For each solver; processes for bab.")] = None,
    solver_option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE under the solver's own names; repeat.")
    ] = None,
    certificates: Annotated[
        Path | None, typer.Option(help="A folder: write a proof of each result there.")
    ] = None,
    input_name: _Input = None,
    output_name: _Output = None,
    fix: _Fix = None,
    drop_final: _DropFinal = False,
    no_batch: _NoBatch = False,
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> None:
    """Compute the Lipschitz constants on many balls, a line of JSON each, and print how they are distributed.

    Exit codes: 0 all exact, or what --gap, --target or --method lp asked for; 1 an error, or a ball that failed; 2
    wrong command line; 3 a limit left intervals; 130 ctrl-C: go on with --resume.
    """
    network = _network(model, input_name, output_name, fix, drop_final, no_batch)
    balls = _Balls(network, centers, radius, ball_norm, clip)
    if out.exists() and not resume:
        _fail(
            f"--out: '{out}' is there already: give --resume to go on with it, or another file",
            _USAGE,
        )
    summary = _Summary(model, out)
    with _Bar(quiet, len(balls)) as bar, redirect_stdout(sys.stderr):
        results = lipschitz_many(
            network,
            balls,
            jobs=jobs,
            checkpoint=out,
            progress=bar,
            input_norm=norm,
            output_norm=output_norm,
            functional=_functional(functional),
            method=method,
            solver=solver,
            mode=mode,  # type: ignore[arg-type]
            time_limit=time_limit,
            gap=gap,
            target=target,
            threads=threads,
            solver_options=dict(map(_option, solver_option or [])),
            certificate=certificates,
        )
        try:
            for one in results:
                summary.add(one)
        except KeyboardInterrupt:
            print(f"{summary.done} results are in {out}: go on with --resume", file=sys.stderr)
            raise
    facts = summary.facts()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _print_table(
            {
                name.replace("_", " "): _listed(fact)
                for name, fact in facts.items()
                if fact is not None
            }
        )
    if summary.failed:
        raise typer.Exit(_ERROR)
    if summary.limited:
        raise typer.Exit(_INTERVAL)


@app.command("estimate")
def estimate_constant(
    model: _Model,
    center: _Center = None,
    radius: _Radius = None,
    ball_norm: _BallNorm = "linf",
    clip: _Clip = None,
    lower: _Lower = None,
    upper: _Upper = None,
    everywhere: _Everywhere = False,
    norm: _InputNorm = "linf",
    output_norm: _OutputNorm = None,
    functional: _Of = None,
    method: Annotated[
        str, typer.Option(help=f"One of {', '.join(estimator_names())}.")
    ] = "best-upper",
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for the estimator; repeat.")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds of wall-clock time.")] = None,
    input_name: _Input = None,
    output_name: _Output = None,
    fix: _Fix = None,
    drop_final: _DropFinal = False,
    no_batch: _NoBatch = False,
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> None:
    """Bound or estimate the Lipschitz constant of a network, without solving for it.

    Exit codes: 0 an estimate; 1 error, or a question that the estimator does not take; 2 wrong command line.
    """
    network = _network(model, input_name, output_name, fix, drop_final, no_batch)
    domain = _domain(network, center, radius, ball_norm, clip, lower, upper, everywhere)
    show = _Show(quiet, method)
    with show.display, redirect_stdout(sys.stderr):
        found = estimate(
            network,
            domain,
            method,
            input_norm=norm,
            output_norm=output_norm,
            functional=_functional(functional),
            time_limit=time_limit,
            **dict(_option(text, "--option") for text in option or []),
        )
    if as_json:
        print(found.to_json(indent=2))
        return
    details = {name.replace("_", " "): _listed(fact) for name, fact in found.details.items()}
    promise = {"lower": "a lower bound", "upper": "an upper bound", "exact": "the constant"}.get(
        found.guarantee, "none"
    )
    _print_table(
        {
            "model": str(model),
            "method": found.method,
            "value": f"{found.value:.12g}",
            "guarantee": f"{promise} (scope: {found.scope}; proof: {found.proof})",
            "seconds": f"{found.seconds:.3g}",
            **details,
        }
    )


@app.command("compare")
def compare_estimators(
    model: _Model,
    center: _Center = None,
    radius: _Radius = None,
    ball_norm: _BallNorm = "linf",
    clip: _Clip = None,
    lower: _Lower = None,
    upper: _Upper = None,
    everywhere: _Everywhere = False,
    norm: _InputNorm = "linf",
    output_norm: _OutputNorm = None,
    functional: _Of = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Names of estimators with commas between; all of them if not given."),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds of wall-clock time for each.")
    ] = 60.0,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw relative error against time into this file (.png, .pdf, .svg)."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown.")
    ] = False,
    input_name: _Input = None,
    output_name: _Output = None,
    fix: _Fix = None,
    drop_final: _DropFinal = False,
    no_batch: _NoBatch = False,
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> None:
    """Run estimators on one question, and print how far each is from the constant.

    Exit codes: 0 a table; 1 error; 2 wrong command line.
    """
    network = _network(model, input_name, output_name, fix, drop_final, no_batch)
    domain = _domain(network, center, radius, ball_norm, clip, lower, upper, everywhere)
    if plot is not None and not (plot.suffix in _PICTURES and plot.absolute().parent.is_dir()):
        _fail(
            f"--plot: '{plot}' is no file in a folder that exists, with one of {', '.join(_PICTURES)}",
            _USAGE,
        )
    show = _Show(quiet, "estimators")
    with show.display, redirect_stdout(sys.stderr):
        found = compare(
            network,
            domain,
            None if methods is None else [name.strip() for name in methods.split(",")],
            input_norm=norm,
            output_norm=output_norm,
            functional=_functional(functional),
            time_limit=time_limit,
            progress=show.say,
        )
    if as_json:
        print(found.to_json(indent=2))
    elif markdown:
        print(found.to_markdown(), end="")
    else:
        Console(width=None if sys.stdout.isatty() else _WIDTH).print(found.to_rich())
    if plot is not None:
        figure: Any = found.plot().figure
        figure.savefig(plot, bbox_inches="tight", dpi=_DPI)


@app.command("check")
def check_certificate(
    model: _Model,
    certificate: Annotated[
        Path, typer.Argument(help="A file that lipexact solve --certificate has written.")
    ],
    input_name: _Input = None,
    output_name: _Output = None,
    fix: _Fix = None,
    drop_final: _DropFinal = False,
    no_batch: _NoBatch = False,
    as_json: _Json = False,
) -> None:
    """Check a certificate in exact rational arithmetic, without a solver.

    Exit codes: 0 all bounds that are claimed are proven; 1 one is not, or the file is damaged; 2 wrong command line.
    """
    network = _network(model, input_name, output_name, fix, drop_final, no_batch)
    found = check(network, certificate)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        _print_table({"model": str(model), **found.describe()})
    if not found.ok:
        raise typer.Exit(_ERROR)


@app.command()
def info(
    model: _Model,
    input_name: _Input = None,
    output_name: _Output = None,
    fix: _Fix = None,
    drop_final: _DropFinal = False,
    no_batch: _NoBatch = False,
    as_json: _Json = False,
) -> None:
    """Describe a network: shapes, layers, ReLUs, parameters, and which solvers are there."""
    from lipexact.mip.solvers.base import available, solver_names  # noqa: PLC0415 - Pyomo's import is long

    network = _network(model, input_name, output_name, fix, drop_final, no_batch)
    facts: dict[str, Any] = {
        "model": str(model),
        "input_shape": list(network.input_shape),
        "output_shape": list(network.output_shape),
        "affine_layers": sum(isinstance(node, Affine) for node in network.graph.nodes),
        "switches": sum(isinstance(node, Switch) for node in network.graph.nodes),
        "gates": [gate.size for gate in network.gates],
        "relus": network.relus,
        "parameters": network.parameters,
        "solvers": [name for name in solver_names() if available(name)],
    }
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _print_table({name.replace("_", " "): _listed(fact) for name, fact in facts.items()})


class _Balls:
    """Balls around the rows of a file; where there can be none, the reason."""

    def __init__(
        self, network: Network, centers: str, radius: float, ball_norm: str, clip: str | None
    ) -> None:
        rows, shape = _numbers(centers, "--centers"), network.input_shape
        if not rows.size:
            raise DomainError("--centers: there is no centre in the file")
        whole, wanted = ([n for n in each if n > 1] for each in (rows.shape, shape))
        if rows.size == network.input.size and (rows.ndim <= 1 or whole == wanted):
            rows = rows[None]  # the only one
        axes = [n for n in rows.shape[1:] if n > 1]
        flat = axes in ([network.input.size], []) and int(np.prod(axes)) == network.input.size
        if not (flat or axes == wanted):
            raise DomainError(
                f"--centers: an array of shape {rows.shape} where the network's input has the shape {shape}: a row for "
                "each centre"
            )
        self.rows = rows.reshape(len(rows), -1)
        limits = None if clip is None else _numbers(clip, "--clip")
        if limits is not None and limits.size != 2:
            _fail(f"--clip takes two numbers LO,HI, not {limits.size}", _USAGE)
        self._how = radius, ball_norm, None if limits is None else (limits.flat[0], limits.flat[1])
        if not (radius > 0 and np.isfinite(radius)):
            _fail(f"--radius must be positive and finite, not {radius}", _USAGE)
        if ball_norm not in ("linf", "l1"):
            _fail(f"--ball-norm is linf or l1, not {ball_norm}", _USAGE)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Domain | DomainError]:
        for row in self.rows:
            try:
                ball: Domain | DomainError = Ball(row, *self._how)
            except DomainError as error:
                ball = error
            yield ball


class _Summary:
    """What a batch has found."""

    def __init__(self, model: Path, out: Path) -> None:
        self.model, self.out, self.start = model, out, time.perf_counter()
        self.exact: list[float] = []
        self.seconds: list[float] = []  # each took, now or in an earlier run
        self.open: list[float] = []  # gaps
        self.failed = self.limited = self.resumed = 0
        self.first: str | None = None

    @property
    def done(self) -> int:
        return len(self.exact) + len(self.open) + self.failed

    def add(self, one: BatchResult) -> None:
        result = one.result
        self.resumed += one.resumed
        if result is None:
            self.failed += 1
            self.first = self.first or f"{one.index}: {type(one.error).__name__}: {one.error}"
            return
        self.seconds.append(result.seconds)
        if result.status is Status.EXACT:
            self.exact.append(result.value)
        else:
            self.open.append(result.gap)
            self.limited += result.termination not in ("gap", "target", "relaxation")

    def facts(self) -> dict[str, Any]:
        """By name; None where there is nothing to tell."""
        names = ("least", "lower_quartile", "median", "upper_quartile", "largest")
        quartiles = np.quantile(self.exact, np.linspace(0, 1, 5)).tolist() if self.exact else []
        return {
            "model": str(self.model),
            "results": str(self.out),
            "domains": self.done,
            "exact": len(self.exact),
            "open": len(self.open),
            "failed": self.failed,
            "first_failure": self.first,
            "constants": dict(zip(names, quartiles, strict=False)) or None,
            "largest_gap": max(self.open) if self.open else None,
            "seconds": time.perf_counter() - self.start,
            "from_the_file": self.resumed,
            "seconds_each": float(np.mean(self.seconds)) if self.seconds else None,
        }


class _Bar:
    """A progress bar on stderr in a terminal, and elsewhere a line every ten seconds."""

    def __init__(self, quiet: bool, total: int) -> None:
        console = Console(stderr=True)
        self.quiet, self.next, self.bar = quiet, _SECONDS_BETWEEN_LINES, None
        if console.is_terminal and not console.is_dumb_terminal and not quiet:
            columns = SpinnerColumn("line"), BarColumn(), TextColumn("{task.description}")
            self.bar = Bar(*columns, console=console)
            self.task = self.bar.add_task("starting", total=total)

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, moment: BatchProgress) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=moment.done, description=str(moment))
        elif not self.quiet and moment.seconds >= self.next:
            print(moment, file=sys.stderr, flush=True)
            self.next = moment.seconds + _SECONDS_BETWEEN_LINES


class _Show:
    """Progress on stderr: a line that changes in a terminal, and elsewhere a new one every ten seconds."""

    def __init__(self, quiet: bool, what: str = "bounds and samples") -> None:
        console = Console(stderr=True)
        self.quiet, self.next = quiet, _SECONDS_BETWEEN_LINES
        self.spinner: Spinner | None = None
        if console.is_terminal and not console.is_dumb_terminal and not quiet:
            self.spinner = console.status(what, spinner="line")

    @property
    def display(self) -> AbstractContextManager[object]:
        """What has to be open while progress is shown."""
        return nullcontext() if self.spinner is None else self.spinner

    def say(self, what: str) -> None:
        """What begins."""
        if self.spinner is not None:
            self.spinner.update(what)
        elif not self.quiet:
            print(what, file=sys.stderr, flush=True)

    def __call__(self, moment: Progress) -> None:
        if self.spinner is not None:
            self.spinner.update(str(moment))
        elif not self.quiet and moment.seconds >= self.next:
            print(str(moment), file=sys.stderr, flush=True)
            self.next = moment.seconds + _SECONDS_BETWEEN_LINES


def _rows(model: Path, result: LipschitzResult) -> dict[str, str]:
    rows = {
        "model": str(model),
        "status": f"{result.status} ({result.termination}; proof: {result.proof})",
    }
    if result.status is Status.EXACT:
        rows["Lipschitz constant"] = f"{result.value:.12g}"
    else:
        rows["interval"] = (
            f"[{result.lower:.12g}, {result.upper:.12g}], gap {100 * result.gap:.3g} %"
        )
    if result.target is not None:
        verdict = {True: "at most", False: "above", None: "not decided:"}[result.within_target]
        rows["target"] = f"{verdict} {result.target:.12g}"
    parts = [_METHODS.get(result.method, result.method), result.mode, result.solver]
    rows["method"] = ", ".join(part for part in parts if part is not None)
    if "binaries" in result.stats:
        counts = ("variables", "binaries", "constraints", "nodes")
        sizes = (f"{result.stats[name]} {name}" for name in counts if name in result.stats)
        rows["program"] = ", ".join(sizes)
    rows["seconds"] = f"{result.seconds:.3g}"
    if result.witness is not None:
        rows["witness"] = (
            f"a linear region of radius at least {result.witness.radius:.3g} (see --json)"
        )
    return rows


def _listed(fact: Any) -> str:
    if isinstance(fact, dict):
        return "; ".join(f"{name}: {_listed(each)}" for name, each in fact.items()) or "none"
    if isinstance(fact, float):
        return f"{fact:.6g}"
    return (", ".join(map(str, fact)) or "none") if isinstance(fact, list) else str(fact)


def _print_table(rows: dict[str, str]) -> None:
    """Two columns of plain text: nothing is cut or coloured, wherever it goes."""
    width = max(map(len, rows))
    text = "\n".join(f"{name:<{width}}  {fact}" for name, fact in rows.items())
    encoding = sys.stdout.encoding or "utf-8"  # which may not have all that a file's name has
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _network(
    model: Path,
    input_name: str | None,
    output_name: str | None,
    fix: list[str] | None,
    drop_final: bool,
    no_batch: bool,
) -> Network:
    fixed = {}
    for text in fix or []:
        # Exporters' names may hold anything but, by habit, an equals sign.
        name, equals, value = text.partition("=")
        if not (name and equals):
            _fail(f"--fix takes NAME={_NUMBERS}, not {text!r}", _USAGE)
        if name in fixed:
            _fail(f"--fix gives '{name}' twice", _USAGE)
        fixed[name] = _numbers(value, f"--fix {name}")
    try:
        return load(
            model,
            input=input_name,
            output=output_name,
            fixed=fixed,
            drop_final=drop_final,
            batched=not no_batch,
        )
    except LipExactError as error:
        if "lipexact.load(" not in str(error):
            raise
        options = "--input, --output, --fix, --drop-final and --no-batch-axis"
        raise type(error)(f"{error} (on the command line: {options})") from None


def _domain(
    network: Network,
    center: str | None,
    radius: float | None,
    ball_norm: str,
    clip: str | None,
    lower: str | None,
    upper: str | None,
    everywhere: bool,
) -> Domain:
    ball = [
        name
        for name, given in (("--center", center), ("--radius", radius), ("--clip", clip))
        if given is not None
    ]
    box = [name for name, given in (("--lower", lower), ("--upper", upper)) if given is not None]
    if center is not None and radius is not None and not (box or everywhere):
        middle = _corner(center, network, "--center")
        if clip is None:
            return Ball(middle, radius, ball_norm)
        limits = _numbers(clip, "--clip")
        if limits.size != 2:
            _fail(f"--clip takes two numbers LO,HI, not {limits.size}", _USAGE)
        return Ball(middle, radius, ball_norm, (limits.flat[0], limits.flat[1]))
    if lower is not None and upper is not None and not (ball or everywhere):
        return Box(_corner(lower, network, "--lower"), _corner(upper, network, "--upper"))
    if everywhere and not (ball or box):
        return Reals(network.input.size)
    given = ", ".join([*ball, *box, *(["--everywhere"] if everywhere else [])]) or "neither"
    ways = "a ball by --center and --radius, a box by --lower and --upper, or --everywhere"
    _fail(f"give {ways}; this has {given}", _USAGE)


def _corner(text: str, network: Network, what: str) -> npt.NDArray[np.float64]:
    """A point of the network's input space; flat."""
    numbers, shape = _numbers(text, what), network.input_shape
    if numbers.size == 1:
        return np.full(network.input.size, numbers.flat[0])
    axes, wanted = ([n for n in axes if n > 1] for axes in (numbers.shape, shape))
    # Pixels of shape (32, 32, 3) are not those of a network that takes (3, 32, 32).
    if numbers.size != network.input.size or (len(axes) > 1 and axes != wanted):
        given = (
            f"{numbers.size} numbers" if numbers.ndim == 1 else f"an array of shape {numbers.shape}"
        )
        raise DomainError(f"{what}: {given} where the network's input has the shape {shape}")
    return numbers.ravel()


def _functional(text: str | None) -> Functional:
    if text is None:
        return None
    name, colon, label = text.partition(":")
    try:
        if name == "cross":
            return CrossLipschitz(int(label) if colon else None)
        return int(text)
    except ValueError:
        if name == "cross":
            _fail(f"--functional {text}: a label is an output's index", _USAGE)
        numbers = _numbers(text, "--functional")
        return (
            numbers.ravel() if 1 in numbers.shape else numbers
        )  # a table with one row or column is a vector


def _option(text: str, what: str = "--solver-option") -> tuple[str, Any]:
    """A solver's or an estimator's option: numbers and true or false as such, else text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        _fail(f"{what} takes NAME=VALUE, not {text!r}", _USAGE)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _numbers(text: str, what: str) -> npt.NDArray[np.float64]:
    """Numbers as they stand, or of a file, in the shape that they have there."""
    kind = Path(text).suffix.lower()
    if kind not in (".npy", ".csv"):
        try:
            return np.array([float(entry) for entry in text.split(",")])
        except ValueError as error:
            _fail(f"{what} takes {_NUMBERS}: {error}", _USAGE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _npy(text) if kind == ".npy" else _csv(text)
    except (ValueError, EOFError) as error:
        raise DomainError(
            f"{what}: '{text}' is not a {kind} file of numbers alone: {error}"
        ) from None


def _npy(path: str) -> npt.NDArray[np.float64]:
    with Path(path).open("rb") as stream:
        array = np.load(stream, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it holds several arrays")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"its entries are of type {array.dtype}")
    return _not_empty(array.astype(np.float64))


def _csv(path: str) -> npt.NDArray[np.float64]:
    with Path(path).open(encoding="utf-8-sig") as stream:
        return _not_empty(np.loadtxt(stream, delimiter=",", dtype=np.float64))


def _not_empty(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if array.size == 0:
        raise ValueError("it is empty")
    return array
