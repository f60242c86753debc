"""The cell magic %%sh of the executed pages: plain output, and a failing command fails the build."""

import os
import subprocess

PLAIN = {name: value for name, value in os.environ.items() if not name.endswith(("FORCE_COLOR", "COLOR_FORCE"))}
PLAIN |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}


def sh(line: str, cell: str) -> None:
    """Run the cell in a shell and show what it prints, to both streams."""
    done = subprocess.run(
        cell, shell=True, env=PLAIN, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    print(done.stdout, end="")
    done.check_returncode()


def load_ipython_extension(ipython: object) -> None:
    """Called by `%load_ext shell`."""
    ipython.register_magic_function(sh, magic_kind="cell")  # type: ignore[attr-defined]
