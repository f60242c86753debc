"""The cell magic %%sh of the executed pages.

Plain output, and a failing command fails the build.
"""

import os
import re
import subprocess

os.environ["TERMINAL_WIDTH"] = "100"  # of help, which typer reads when it is imported

from typer.testing import CliRunner

from lipexact.cli.app import app

PLAIN = {
    name: value
    for name, value in os.environ.items()
    if not name.endswith(("FORCE_COLOR", "COLOR_FORCE"))
}
PLAIN |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}
# Run in this process, which has the package loaded: most of a short command is its start.
OURS = re.compile(
    r"lipexact (?P<arguments>[^|;&<>]*?)(?P<head> \| head -n (?P<lines>\d+))?(?P<code> "
    r'\|\| echo "code \$\?")?$'
)


def sh(line: str, cell: str) -> None:
    """Run the cell line by line in a shell and show what it prints, to both streams."""
    for command in filter(None, map(str.strip, cell.splitlines())):
        ours = OURS.match(command)
        output, code = run(ours["arguments"]) if ours else shell(command)
        if ours and ours["head"]:
            output = "".join(output.splitlines(keepends=True)[: int(ours["lines"])])
        if ours and ours["code"] and code:
            output, code = f"{output}code {code}\n", 0
        print(output, end="")
        if code:
            raise subprocess.CalledProcessError(code, command)


def run(arguments: str) -> tuple[str, int]:
    """What our own command line prints, and its exit code."""
    done = CliRunner(env=PLAIN).invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output, done.exit_code


def shell(command: str) -> tuple[str, int]:
    """The same of any other command."""
    done = subprocess.run(
        command,
        shell=True,
        env=PLAIN,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout, done.returncode


def load_ipython_extension(ipython: object) -> None:
    """Called by `%load_ext shell`."""
    ipython.register_magic_function(sh, magic_kind="cell")  # type: ignore[attr-defined]
