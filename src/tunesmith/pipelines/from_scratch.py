"""`tunesmith init CORPUS --from-scratch SPEC`: an untrained base whose tokenizer was trained on the corpus.

The folder is written whole or not at all, and is a function of the corpus and the spec: an `init` that was killed is
run again, and one that is run again where its own result lies leaves it as it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core import files
from ..core.errors import ConflictError, ContentError, MissingError
from ..core.events import Sink, counted, silent, stage
from ..core.messages import Row, Text
from ..data.load import Loaded, load
from ..models.refs import FRESH
from ..models.scratch.config import ScratchSpec
from ..models.scratch.weights import fresh_model
from ..models.scratch.words import train_tokenizer
from .read_recipe import explained
from .yaml_lines import Located, parse


@dataclass(frozen=True)
class Fresh:
    """The base that is there now."""

    folder: Path
    parameters: int
    vocabulary: int
    rows: int
    already: bool
    """Whether it was there before, made of the same."""


def make_base(corpus: Path, spec: ScratchSpec, out: Path, *, sink: Sink = silent) -> Fresh:
    """Write the base folder `out`: tokenizer, configuration, random weights and what they were made of.

    ConflictError where something else is there, ContentError for a corpus that is none.
    """
    loaded = load(corpus, format="text", sink=sink)
    _require_texts(loaded)
    made_of = {"spec": spec.model_dump(mode="json"), "corpus": {"sha256": loaded.sha256, "rows": len(loaded.records)}}
    facts = (out, spec.parameters, spec.vocabulary, len(loaded.records))
    if out.exists():
        if _made_of(out) == made_of:
            return Fresh(*facts, already=True)
        raise ConflictError(f"{out} is there already", mend="remove it, or name another with --out")
    with stage(sink, "tokenizer"):
        tokenizer = train_tokenizer(_texts(loaded.records, sink), spec)
    with stage(sink, "weights"):
        _write(out, tokenizer, fresh_model(spec, tokenizer), made_of)
    return Fresh(*facts, already=False)


def read_spec(path: Path) -> ScratchSpec:
    """The spec in a YAML file. MissingError; ContentError with file and line."""
    if not path.is_file():
        raise MissingError(
            f"no such file: {path}", mend="name a YAML file with the base's sizes: docs/how-to/pretrain.md"
        )
    try:
        located = parse(path.read_text("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ContentError(f"{path} is not in UTF-8", why=str(error), mend="save it as UTF-8") from error
    value = {} if located.value is None else located.value
    if not isinstance(value, dict):
        raise ContentError(
            f"{path} holds no sizes", where=f"{path}:1", mend="it must be a mapping: vocabulary: 8192, ..."
        )
    try:
        return ScratchSpec.model_validate(value)
    except ValidationError as error:
        mend = "docs/how-to/pretrain.md lists all keys"
        raise explained(error, path, Located(value, located.lines), value, root=ScratchSpec, mend=mend) from None


def _require_texts(loaded: Loaded) -> None:
    if loaded.problems:
        first = loaded.problems[0]
        raise ContentError(
            f"{len(loaded.problems)} of {loaded.rows} rows of {loaded.path} cannot be used", where=first.place,
            why=first.reason, mend=f"tunesmith check {loaded.path} --format text lists them all",
        )  # fmt: skip


def _texts(rows: Sequence[Row], sink: Sink) -> Iterator[str]:
    """What the tokenizer learns from: texts, and what is said in conversations."""
    for row in counted(rows, sink, "rows read", len(rows)):
        if isinstance(row, Text):
            yield from [message.content or "" for message in row.messages] if row.messages else [row.text]


def _made_of(folder: Path) -> Any:
    try:
        return json.loads((folder / FRESH).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _write(out: Path, tokenizer: Any, model: Any, made_of: dict[str, Any]) -> None:
    files.make_folder(out.absolute().parent)
    temporary = files.beside(out.absolute())
    try:
        with files.writing(out):
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            files.write_json(temporary / FRESH, made_of)
            files.put_folder(temporary, out.absolute())
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
