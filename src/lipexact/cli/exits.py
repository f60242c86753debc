"""How a command ends: exit codes, and errors as one line on stderr."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import typer
import typer.core

from lipexact.errors import LipExactError, OptionError

ERROR = 1
USAGE = 2
INTERVAL = 3
INTERRUPTED = 130

# The base of BadParameter, of an unknown option or command and of a missing argument; typer does
# not name it.
_UsageError: Any = typer.BadParameter.__base__


class CommandGroup(typer.core.TyperGroup):
    """Commands whose errors are one line on stderr, and an exit code."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run a command, and exit."""
        extra |= {"standalone_mode": False, "prog_name": "lipexact"}
        try:
            code = super().main(*args, **extra)
            if sys.stdout is not None:
                sys.stdout.flush()
        except _UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "lipexact"
            fail(f"{error.format_message().rstrip('.')} (see {command} --help)", USAGE)
        except OptionError as error:
            fail(str(error), USAGE)
        except LipExactError as error:
            fail(str(error))
        except BrokenPipeError:
            _drop_output()
            raise SystemExit(ERROR) from None
        except OSError as error:
            _drop_output()
            reason = error.strerror or str(error)
            fail(f"{error.strerror}: {error.filename}" if error.filename else reason)
        except MemoryError as error:
            fail(f"out of memory: {error}" if str(error) else "out of memory")
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        if code == INTERRUPTED:
            fail("interrupted", code)
        raise SystemExit(code or 0)


def fail(message: str, code: int = ERROR) -> NoReturn:
    """Print an error as one line on stderr, and exit."""
    print(f"lipexact: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)


def _drop_output() -> None:
    """Redirect what is left to print to nowhere, since nobody can read it.

    Python would try again to print it when it exits, and complain.
    """
    try:
        sys.stdout.flush()
    except OSError:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
