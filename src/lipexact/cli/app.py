"""The command line: ``lipexact solve``, ``batch``, ``estimate``, ``compare``, ``check``, ``info``.

Exit codes: 0 for an answer, 1 for an error, 2 for a command line that is wrong, 3 where the search
stopped early and left an interval, 130 for ctrl-C before there was one. An error is one line on
stderr.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lipexact import __version__
from lipexact.api import certificate_path, lipschitz
from lipexact.batch.batch import lipschitz_many
from lipexact.certificates.checker.check import check
from lipexact.cli import exits
from lipexact.cli.exits import CommandGroup, fail
from lipexact.cli.inputs import Balls, read_option
from lipexact.cli.options import (
    BallNorm,
    Clip,
    Inputs,
    Json,
    Model,
    Norms,
    Quiet,
    Reading,
    Seconds,
    SolveOptions,
    takes_groups,
)
from lipexact.cli.progress import reported
from lipexact.cli.report import (
    BatchSummary,
    estimate_rows,
    is_cut_short,
    network_facts,
    print_comparison,
    print_facts,
    print_table,
    result_rows,
)
from lipexact.estimators.compare import compare
from lipexact.estimators.estimate import estimate, estimator_names

_PICTURES = (".png", ".pdf", ".svg")
_DOTS_PER_INCH = 150
_BATCH_HELP = {
    "time_limit": "Seconds of wall-clock time for each ball.",
    "target": "Stop when a constant is known to be above or not.",
    "threads": "For each solver; processes for bab.",
}

app = typer.Typer(
    cls=CommandGroup,
    help="Exact Lipschitz constants of piecewise-linear networks in ONNX files.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """Run the command line."""
    app()
    raise SystemExit(0)  # not reached: the commands raise their own


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
        raise typer.Exit(exits.USAGE)


@app.command()
@takes_groups
def solve(
    model: Model,
    inputs: Inputs,
    norms: Norms,
    options: SolveOptions,
    certificate: Annotated[
        Path | None, typer.Option(help="Write a proof here, for lipexact check.")
    ] = None,
    *,
    reading: Reading,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compute the Lipschitz constant of a network on a ball, a box, or everywhere.

    Exit codes: 0 exact, or what --gap, --target or --method lp asked for; 1 error; 2 wrong command
    line; 3 a limit or ctrl-C left an interval.
    """
    network = reading.network(model)
    domain = inputs.domain(network)
    file = certificate_path(certificate)
    with reported(quiet, "bounds and samples") as reporter:
        result = lipschitz(
            network,
            domain,
            progress=reporter,
            certificate=file is not None,
            **norms.keywords(),
            **options.keywords(),
        )
    if as_json:
        print(result.to_json(indent=2))
    else:
        print_table(result_rows(model, result))
    if file is not None and result.certificate is not None:
        result.certificate.save(file)
    if is_cut_short(result):
        raise typer.Exit(exits.INTERVAL)


@app.command()
@takes_groups
def batch(
    model: Model,
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
    ball_norm: BallNorm = "linf",
    clip: Clip = None,
    *,
    norms: Norms,
    options: Annotated[SolveOptions, _BATCH_HELP],
    certificates: Annotated[
        Path | None, typer.Option(help="A folder: write a proof of each result there.")
    ] = None,
    reading: Reading,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compute the constants on many balls, a line of JSON each, and print their distribution.

    Exit codes: 0 all exact, or what --gap, --target or --method lp asked for; 1 an error, or a ball
    that failed; 2 wrong command line; 3 a limit left intervals; 130 ctrl-C: go on with --resume.
    """
    network = reading.network(model)
    balls = Balls(network, centers, radius, ball_norm, clip)
    if out.exists() and not resume:
        ways = "give --resume to go on with it, or another file"
        fail(f"--out: '{out}' is there already: {ways}", exits.USAGE)
    summary = BatchSummary(model, out)
    with reported(quiet, "starting", bar=True) as reporter:
        results = lipschitz_many(
            network,
            balls,
            jobs=jobs,
            checkpoint=out,
            progress=reporter,
            certificate=certificates,
            **norms.keywords(),
            **options.keywords(),
        )
        try:
            for one in results:
                summary.add(one)
        except KeyboardInterrupt:
            print(f"{summary.done} results are in {out}: go on with --resume", file=sys.stderr)
            raise
    print_facts(summary.facts(), as_json)
    if summary.failed:
        raise typer.Exit(exits.ERROR)
    if summary.cut_short:
        raise typer.Exit(exits.INTERVAL)


@app.command("estimate")
@takes_groups
def estimate_constant(
    model: Model,
    inputs: Inputs,
    norms: Norms,
    method: Annotated[
        str, typer.Option(help=f"One of {', '.join(estimator_names())}.")
    ] = "best-upper",
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for the estimator; repeat.")
    ] = None,
    time_limit: Seconds = None,
    *,
    reading: Reading,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bound or estimate the Lipschitz constant of a network, without solving for it.

    Exit codes: 0 an estimate; 1 error, or a question that the estimator does not take; 2 wrong
    command line.
    """
    network = reading.network(model)
    domain = inputs.domain(network)
    with reported(quiet, method):
        found = estimate(
            network,
            domain,
            method,
            time_limit=time_limit,
            **norms.keywords(),
            **dict(read_option(text, "--option") for text in option or []),
        )
    if as_json:
        print(found.to_json(indent=2))
    else:
        print_table(estimate_rows(model, found))


@app.command("compare")
@takes_groups
def compare_estimators(
    model: Model,
    inputs: Inputs,
    norms: Norms,
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
    *,
    reading: Reading,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run estimators on one question, and print how far each is from the constant.

    Exit codes: 0 a table; 1 error; 2 wrong command line.
    """
    network = reading.network(model)
    domain = inputs.domain(network)
    if plot is not None and not (plot.suffix in _PICTURES and plot.absolute().parent.is_dir()):
        wanted = f"no file in a folder that exists, with one of {', '.join(_PICTURES)}"
        fail(f"--plot: '{plot}' is {wanted}", exits.USAGE)
    with reported(quiet, "estimators") as reporter:
        comparison = compare(
            network,
            domain,
            None if methods is None else [name.strip() for name in methods.split(",")],
            time_limit=time_limit,
            progress=reporter.announce,
            **norms.keywords(),
        )
    if as_json:
        print(comparison.to_json(indent=2))
    elif markdown:
        print(comparison.to_markdown(), end="")
    else:
        print_comparison(comparison)
    if plot is not None:
        figure: Any = comparison.plot().figure
        figure.savefig(plot, bbox_inches="tight", dpi=_DOTS_PER_INCH)


@app.command("check")
@takes_groups
def check_certificate(
    model: Model,
    certificate: Annotated[
        Path, typer.Argument(help="A file that lipexact solve --certificate has written.")
    ],
    reading: Reading,
    as_json: Json = False,
) -> None:
    """Check a certificate in exact rational arithmetic, without a solver.

    Exit codes: 0 all bounds that are claimed are proven; 1 one is not, or the file is damaged; 2
    wrong command line.
    """
    found = check(reading.network(model), certificate)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        print_table({"model": str(model), **found.describe()})
    if not found.ok:
        raise typer.Exit(exits.ERROR)


@app.command()
@takes_groups
def info(model: Model, reading: Reading, as_json: Json = False) -> None:
    """Describe a network: shapes, layers, ReLUs, parameters, and which solvers are there."""
    print_facts(network_facts(model, reading.network(model)), as_json)
