"""The files below a folder, each by its name there, and why some are not read.

Links are not followed unless that is asked for: one may lead out of the folder to what was never meant to be shown, or
in a circle, and a text that is there under two names would outlive the erasure of one. Links to folders never are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import MissingError

MARKDOWN = (".md", ".markdown")
TEXT = (".txt", ".text", *MARKDOWN)
HTML = (".html", ".htm", ".xhtml")
PDF = (".pdf",)
ROWS = (".jsonl", ".ndjson")
SUFFIXES = (*TEXT, *HTML, *PDF, *ROWS)


@dataclass(frozen=True)
class Unread:
    """Something that is not among the documents: `place` is `name` or `name:line`."""

    place: str
    reason: str


@dataclass(frozen=True)
class Files:
    """What a folder holds."""

    paths: dict[str, Path]
    """By name: the path below the folder with `/` between its parts, in order."""
    unread: tuple[Unread, ...] = ()
    others: dict[str, int] = field(default_factory=dict)
    """How many files of other kinds there are, by the ending of their names."""


def walk(root: Path, suffixes: Collection[str] = SUFFIXES, *, links: bool = False) -> Files:
    """Every file below `root` that ends with one of `suffixes`, hidden ones left out. MissingError.

    `root` may be a file itself, of whatever name. `links` also takes files that links lead to, wherever these are.
    """
    if not root.exists():
        raise MissingError(f"no such file or folder: {root}", mend="name a document, or a folder of documents")
    if not root.is_dir():
        return Files({root.name: root})
    paths: dict[str, Path] = {}
    unread: list[Unread] = []
    others: Counter[str] = Counter()
    failed: list[OSError] = []
    for folder, below, names in os.walk(root, onerror=failed.append):
        here = Path(folder)
        unread += (
            Unread(_name(root, here / name), "a link to a folder, which is not followed: index that folder itself")
            for name in sorted(below)
            if (here / name).is_symlink()
        )
        below[:] = sorted(name for name in below if not name.startswith("."))
        for path in (here / name for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() not in suffixes:
                others[path.suffix.lower()] += 1
            elif path.is_symlink() and not links:
                unread.append(Unread(_name(root, path), _link(root, path)))
            else:
                paths[_name(root, path)] = path
    unread += (_unread(root, error) for error in failed)
    return Files(dict(sorted(paths.items())), tuple(sorted(unread, key=lambda one: one.place)), dict(others))


def _unread(root: Path, error: OSError) -> Unread:
    return Unread(_name(root, Path(os.fsdecode(error.filename))), f"cannot be listed: {error.strerror}")


def _name(root: Path, path: Path) -> str:
    return spelled(path.relative_to(root).as_posix())


def spelled(text: str) -> str:
    """With the bytes of a file's name that are no UTF-8 spelled out: JSON and terminals take texts alone."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _link(root: Path, path: Path) -> str:
    mend = "ask for links to be read (--links), or put the file there"
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return "a link that leads nowhere, or in a circle"
    if not target.is_relative_to(root.resolve()):
        return f"a link that leads out of the folder: {mend}"
    return "a link to another file of the folder, which is read under its own name"
