"""Where data may be read from: real files, wherever they are. Links in a circle, pipes, devices and /proc are not.

A path may lead out of the recipe's folder: data often lies beside it (`../shared`), and a recipe is the user's own,
read with the user's own rights. What that costs is told: such a run cannot be moved together with its folder.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..core.errors import ContentError, MissingError
from .audit import Finding

_SYSTEM = ("/proc", "/sys")
"""Files of the kernel: they have no end, or no size, or wait until something happens."""
_KINDS = (
    (stat.S_ISDIR, "a folder", "name the file of examples itself"),
    (stat.S_ISFIFO, "a pipe", "write what comes out of it to a file first: data is read more than once"),
    (stat.S_ISSOCK, "a socket", "name a file"),
    (stat.S_ISCHR, "a device", "name a file"),
    (stat.S_ISBLK, "a device", "name a file"),
)


def on_hub(path: str) -> bool:
    """Whether a path names a data set of the hub (`hf://owner/name`; a Path has lost one of the two strokes)."""
    return path.startswith("hf:/")


def require_file(path: Path) -> None:
    """MissingError or ContentError, at once, unless the path leads to a regular file. Nothing is opened."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise _missing(path, error) from None
    for matches, kind, mend in _KINDS:
        if matches(mode):
            raise ContentError(f"not a file: {path} is {kind}", mend=mend)
    if os.path.realpath(path).startswith(tuple(f"{folder}/" for folder in _SYSTEM)):
        raise ContentError(f"not a file of data: {path} is the system's own", mend="name a file outside /proc and /sys")


def _missing(path: Path, error: OSError | ValueError) -> MissingError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ELOOP or (number == errno.ENOENT and path.is_symlink()):
        return MissingError(f"{path} is a link that leads nowhere, or in a circle", mend="name the file itself")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return MissingError(f"no such file: {path}", mend="check the path; relative ones start at the recipe's folder")
    if number == errno.EACCES:
        return MissingError(f"cannot read {path}", why="permission denied", mend="change its permissions")
    why = error.strerror if isinstance(error, OSError) else str(error)
    return MissingError(f"cannot read {path}", why=why, mend="check the path")


def outside(paths: Iterable[str], folder: Path | None) -> Iterator[Finding]:
    """The sources that are not below the recipe's folder; nothing where no recipe's file names them."""
    if folder is None:
        return
    home = os.path.realpath(folder)
    here = (path for path in paths if not on_hub(path))
    out = tuple(dict.fromkeys(path for path in here if not Path(os.path.realpath(path)).is_relative_to(home)))
    if out:
        yield Finding(
            "outside_folder", "info", "this file lies outside the recipe's folder: the two cannot be moved as one",
            "nothing to do here; to take the recipe elsewhere, put the file below its folder, or name a variable",
            out,
        )  # fmt: skip
