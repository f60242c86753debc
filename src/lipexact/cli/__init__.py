"""The command line: `lipexact` and ``python -m lipexact``."""

from lipexact.cli.app import main as main
