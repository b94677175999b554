"""A job's folder, and the fence for its files.

    jobs/ftjob-.../
      input-1/          the files that were validated, and recipe.yaml; 1 is the fence of the claim that made it
      run-7/            the run's folder; 7 is the fence of the claim that trains in it
      models/           snapshots that can be asked
      process-7.json    the process that trains
      log.txt           what it said

Who claims a job renames the run's folder to its own fence. A process of an earlier claim, on whatever machine, knows
the folder by its old name alone: what it writes from then on goes nowhere, and it ends saying that the folder is gone.
So there is one writer, as there is in the database.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..core import files

_NUMBERED = re.compile(r"(run|input)-(\d{1,18})")


def run_folder(folder: Path, fence: int) -> Path:
    """Where the run of a claim lies."""
    return folder / f"run-{fence}"


def take(folder: Path, fence: int) -> Path:
    """The run's folder under this claim's name: the newest earlier one is renamed. It may not be there yet.

    OutputError. FileNotFoundError never: a later claim took it, and then this one's lease is lost anyway.
    """
    files.make_folder(folder)
    mine = run_folder(folder, fence)
    if mine.exists():
        return mine
    earlier = sorted((n for n in _fences(folder, "run") if n < fence), reverse=True)
    if earlier:
        with files.writing(mine):
            run_folder(folder, earlier[0]).rename(mine)
            files.sync_folder(folder)
    for stale in earlier[1:]:
        files.discard(run_folder(folder, stale))
    return mine


def input_folder(folder: Path, fence: int) -> Path:
    """Where a claim that validates puts what a training needs."""
    return folder / f"input-{fence}"


def newest_input(folder: Path) -> Path:
    """What a training needs: of the last claim, for one that lost its lease may write its own later."""
    return input_folder(folder, max(_fences(folder, "input"), default=0))


def _fences(folder: Path, kind: str) -> list[int]:
    found = (_NUMBERED.fullmatch(entry.name) for entry in folder.iterdir() if entry.is_dir())
    return [int(match.group(2)) for match in found if match and match.group(1) == kind]
