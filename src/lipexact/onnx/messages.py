"""Error messages that stay readable, whatever names a file has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lipexact.errors import LipExactError
from lipexact.onnx import constants

_CUT = " [...] "
_ROOM_FOR_CUT = 20  # characters of each half that are given up for the mark of a cut


@contextmanager
def short_messages() -> Iterator[None]:
    """Turn messages of errors of lipexact into one printable line of limited length."""
    try:
        yield
    except LipExactError as error:
        message = str(error)
        longest = constants.MAX_MESSAGE_CHARACTERS
        if len(message) > longest:
            half = longest // 2 - _ROOM_FOR_CUT
            message = f"{message[:half]}{_CUT}{message[-half:]}"
        message = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in message)
        if message == str(error):
            raise
        raise type(error)(message[:longest]) from None


def listed(names: Iterable[str]) -> str:
    """Return quoted names with commas between them, at most eleven; "none" if there are none.

    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    quoted = [f"'{name}'" for name in names]
    shown = constants.MAX_LISTED_NAMES
    if len(quoted) > shown + 1:
        quoted = [*quoted[:shown], f"and {len(quoted) - shown} others"]
    return ", ".join(quoted) or "none"
