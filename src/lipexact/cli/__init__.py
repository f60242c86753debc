"""The command line."""

from lipexact.cli.app import main as main
