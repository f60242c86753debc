"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

_STREAMS = (
    "/dev/std",
    "/dev/fd/",
    "/proc/",
)  # links to what is open, which another file in its place would not be


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that nobody ever finds a part of it, whatever happens on the way.

    The bytes go to a new file beside it, down to the disk, and only then under the file's name. If anything fails, or
    ctrl-C comes in between, the new file is removed, and what was there before stays as it was. Should the process be
    killed, a hidden file that ends in ``.partial`` may be left.

    Parameters
    ----------
    path
        Where to. A link is followed, permissions of a file that is there are kept, and what is no file, such as a pipe
        or a device, is written to directly.
    data
        The content.

    Raises
    ------
    OSError
        If the file cannot be written; it has the file's name.
    """
    name, mode = os.fspath(path), None
    with suppress(FileNotFoundError):
        mode = Path(name).stat().st_mode
    if (mode is not None and not stat.S_ISREG(mode)) or name.startswith(_STREAMS):
        with Path(name).open("wb") as stream:  # a folder refuses
            stream.write(data)
        return
    if mode is not None and not os.access(name, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    target = Path(os.path.realpath(name))
    aside = target.with_name(f".{target.name[:50]}.{secrets.token_hex(8)}.partial")
    try:
        with aside.open("xb") as stream:  # whose permissions are those of any new file
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
            error.filename, error.filename2 = name, None
        raise
    _sync(target.parent)


def _sync(folder: Path) -> None:
    """Bring the new name down to the disk too, where a folder can be opened."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
