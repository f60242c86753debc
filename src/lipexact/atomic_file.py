"""Files that are written as a whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

# Names of files that are already open; a new file under such a name would be another one.
STREAMS = ("/dev/std", "/dev/fd/", "/proc/")


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that no reader ever finds a part of it, even if the process fails.

    The bytes go to a new file beside it and down to the disk; then the new file is given the name.
    If anything fails, or ctrl-C interrupts it, the new file is removed and the old one stays as it
    was. If the process is killed, a hidden file that ends in ``.partial`` may be left.

    Parameters
    ----------
    path
        The file. A link is followed, and an existing file keeps its permissions. What is no regular
        file, such as a pipe or a device, is written to directly.
    data
        The content.

    Raises
    ------
    OSError
        If the file cannot be written; the error has the file's name.
    """
    name = os.fspath(path)
    mode = None
    with suppress(FileNotFoundError):
        mode = Path(name).stat().st_mode
    if (mode is not None and not stat.S_ISREG(mode)) or name.startswith(STREAMS):
        with Path(name).open("wb") as stream:  # fails for a folder
            stream.write(data)
        return
    if mode is not None and not os.access(name, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    target = Path(os.path.realpath(name))
    aside = target.with_name(f".{target.name[:50]}.{secrets.token_hex(8)}.partial")
    try:
        with aside.open("xb") as stream:  # with the permissions of any new file
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            aside.chmod(stat.S_IMODE(mode))
        aside.replace(target)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):
            error.filename = name
            error.filename2 = None
        raise
    _sync(target.parent)


def _sync(folder: Path) -> None:
    """Write the new name to the disk too, on systems where a folder can be opened."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
