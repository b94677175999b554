"""The places where a job's content counts, for a worker: validate and prepare, snapshot, finish, and the command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import yaml
from sqlalchemy import select

from ...core import files
from ...core.errors import TunesmithError
from ...jobs import folders
from ...jobs.handler import Accepted, RefusedError
from ...jobs.model import Failure, Job, Outcome, Snapshot
from ...models.find import find
from ...models.refs import Base
from ...store.database import Store
from ...store.tables import files as file_rows
from ...store.tables import models
from . import finish, parts, recipe, validate
from .validate import MethodName, Param, Valid

_UPLOADED: tuple[Param, ...] = ("training_file", "validation_file")


class Hosted:
    """Jobs of the methods supervised and dpo."""

    def __init__(self, store: Store):
        self._store = store

    def prepare(self, job: Job, folder: Path) -> Accepted:
        """Judge the files, find the base, write `input-N/`: rows in their parts, and the recipe. RefusedError."""
        method = cast(MethodName, job.method["type"])
        final = folders.input_folder(folder, job.fence)
        files.make_folder(folder)
        temporary = files.beside(final)
        files.make_folder(temporary)
        try:
            training = self._file(job, job.training_file, "training_file", method, temporary)
            validation = (
                self._file(job, job.validation_file, "validation_file", method, temporary)
                if job.validation_file
                else None
            )
            divided = parts.divide(training, validation, job.seed)
            base = self._base(job, folder)
            asked = job.method.get("hyperparameters") or {}
            values = recipe.hyperparameters(asked, method, len(training))
            for name, part in divided.named().items():
                if len(part):
                    files.write_pieces(temporary / name, part.lines())
            text = recipe.write(
                method=method, base=base, values=values, seed=job.seed, train=training.loaded, rows=len(divided.train),
                validation=len(divided.validation) > 0, test=len(divided.test) > 0,
            )  # fmt: skip
            files.write_text(temporary / "recipe.yaml", text)
            for param in _UPLOADED:
                (temporary / f"{param}.jsonl").unlink(missing_ok=True)
            with files.writing(final):
                files.put_folder(temporary, final)
        finally:
            files.discard(temporary)
        return Accepted(values, divided.warnings)

    def snapshot(self, job: Job, folder: Path, run: Path) -> Snapshot | None:
        """The newest checkpoint as a model."""
        return finish.newest(self._store.folder, folder, run, job.fence)

    def finish(self, job: Job, folder: Path, run: Path) -> Outcome:
        """What a finished run has become."""
        return finish.outcome(self._store.folder, folder, run, job.fence)

    def _file(self, job: Job, file_id: str, param: Param, method: MethodName, folder: Path) -> Valid:
        """A file of the job's project, judged."""
        query = select(file_rows.c.blob).where(file_rows.c.id == file_id, file_rows.c.project_id == job.project_id)
        with self._store.reading() as connection:
            blob = connection.execute(query).scalar()
        if blob is None:
            raise validate.missing(file_id, param)
        path = folder / f"{param}.jsonl"
        with self._store.blobs.open(blob) as content, path.open("wb") as copy:
            shutil.copyfileobj(content, copy)
        return validate.read(path, file_id, param, method)

    def _base(self, job: Job, folder: Path) -> Base:
        """What the job starts from: a base, or a tuned model of the project, merged into one. RefusedError."""
        try:
            return self._merged(job, folder) if job.base.startswith("ft:") else find(job.base)
        except RefusedError:
            raise
        except TunesmithError as error:
            raise _no_model(job, error.what) from error

    def _merged(self, job: Job, folder: Path) -> Base:
        query = select(models.c.run).where(
            models.c.name == job.base, models.c.project_id == job.project_id, models.c.kind == "final"
        )
        with self._store.reading() as connection:
            run = connection.execute(query).scalar()
        if run is None:
            raise _no_model(job)
        out = folder / f"base-{job.fence}"
        command = [sys.executable, "-m", "tunesmith", "export", str(self._store.folder / run), "--to", "merged"]
        done = subprocess.run(  # noqa: S603  # no shell, and nothing of a client's is in the list
            [*command, "--out", str(out), "--dtype", "float32"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise _no_model(job, done.stderr.strip().partition("\n")[0])
        return find(str(out))


def command(job: Job, folder: Path, run: Path) -> Sequence[str]:
    """`tunesmith run`; `tunesmith train` where no row could be held out for a comparison."""
    path = folders.newest_input(folder) / "recipe.yaml"
    tested = yaml.safe_load(path.read_text("utf-8"))["data"]["test"] is not None
    verb = "run" if tested else "train"
    return (sys.executable, "-m", "tunesmith", verb, str(path), "--out", str(run), "--resume", "--quiet")


def _no_model(job: Job, why: str = "") -> RefusedError:
    said = f"Model {job.model} is not available for fine-tuning or does not exist."
    return RefusedError(Failure("model_not_available", f"{said} {why}".strip(), "model"))
