"""Make the paper's tables and figures again: python -m benchmarks.paper NAME [--quick].

NAME is table1, figure1, series or hardness. Writes paper_NAME.jsonl, .md and .png to
benchmarks/reports/. A run that was stopped goes on where it was, unless --fresh is given. --quick
asks a few small questions, and writes to --folder or nowhere.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper import figure1, hardness, series, table1
from benchmarks.paper.study import DifferentRunError, Study, run
from benchmarks.report import REPORTS, where

STUDIES: Mapping[str, Study] = {
    "table1": table1.STUDY,
    "figure1": figure1.STUDY,
    "series": series.STUDY,
    "hardness": hardness.STUDY,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("name", nargs="+", choices=STUDIES)
    parser.add_argument(
        "--quick", action="store_true", help="few and small questions: does it run?"
    )
    parser.add_argument(
        "--seconds", type=float, help="time limit of each call; by default the study's own"
    )
    parser.add_argument("--fresh", action="store_true", help="measure all of it again")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the files are written; benchmarks/reports, unless --quick",
    )
    parser.add_argument(
        "--render",
        action="store_true",
        help="write and draw what was measured before, however it was",
    )
    options = parser.parse_args(arguments)
    if options.seconds is not None and not 0 < options.seconds < math.inf:
        parser.error("--seconds must be a positive number")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or (Path(scratch) if options.quick else REPORTS)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.name:
            try:
                make(name, folder, options)
            except (DifferentRunError, OSError) as error:
                print(f"benchmarks.paper: {error}", file=sys.stderr)
                return 1
    return 0


def make(name: str, folder: Path, options: argparse.Namespace) -> None:
    """One study's files."""
    study, file = STUDIES[name], folder / f"paper_{name}.jsonl"
    if not options.render:
        asked = {"seconds": options.seconds or study.seconds, "quick": options.quick}
        run(list(study.items(options.quick)), asked, file, fresh=options.fresh)
    lines = file.read_text().splitlines()
    if not lines:
        raise OSError(f"{file.name} is empty: there is nothing to render")
    head, *records = map(json.loads, lines)
    text = markdown(name, head, study.report(records))
    file.with_suffix(".md").write_text(text)
    print(text)
    if study.draw is not None:
        picture(study, records, file.with_suffix(".png"))


def markdown(name: str, head: Mapping[str, Any], body: str) -> str:
    """Return the whole report."""
    command = f"`nox -s paper -- {name}`"
    return (
        f"# The paper's experiments: {name}\n\nMade by {command}.\n\n{where(head)}\n\n<!-- "
        f"results -->\n\n{body}\n"
    )


def picture(study: Study, records: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw the study's figure, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError:
        print('benchmarks.paper: to draw, pip install "lipexact[plot]"', file=sys.stderr)
        return
    assert study.draw is not None
    figure = Figure(layout="constrained")
    study.draw(records, figure)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    print(f"drawn: {file.name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
