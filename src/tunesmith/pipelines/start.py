"""`tunesmith init`: a commented recipe for the user's own file, with values that fit what the file holds."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import yaml

from ..core import files
from ..core.errors import ConflictError, ContentError
from ..core.messages import Example, Kind, is_json_object
from ..data.formats import exported, named
from ..data.kinds import better
from ..data.load import Loaded, load
from ..data.rows import Mapped
from ..data.split import hold_out
from ..models.find import find
from ..models.refs import DEFAULT, Base
from .read_recipe import read_recipe

_TEMPLATE = """\
# For your editor: tunesmith init --schema > recipe.schema.json
# yaml-language-server: $schema=recipe.schema.json
# A Tunesmith recipe. Written for {file}: {rows} rows, format '{format}'.
# Check the data:   tunesmith check {file}
# Run it:           tunesmith run {recipe} --out runs/{name}

name: {title}
seed: 7
base: {base}            # bundled name, local folder, or hub id (owner/name)

data:
  train: {train}
  validation: 0.1                      # a share of the training rows, or a file
{test}
method:
{method}
adapter: {{type: lora, r: {r}, alpha: {alpha}, targets: all-linear}}

training:
  epochs: {epochs}
  batch_size: 8
  learning_rate: {learning_rate}             # {rate_why}
  schedule: cosine
  warmup: 0.05
  early_stopping: {{patience: 3}}

evaluation:
  metrics: [{metrics}]   # the first one decides

# What the tuned model must reach: gains over the base, on the lower bound of the 95 % interval.
gate: {{require: {{{first}: {least}}}, max_forgetting: 0.10}}
"""
_SUPERVISED = """\
  type: sft
"""
_REHEARSAL = """\
  # The base rereads texts of its own while it learns, so that it does not forget how to write.
  # It costs about a tenth of the time; remove it when only your task counts.
  rehearsal: {rows: 256, every: 4, weight: 1.0}
"""
_PREFERENCE = """\
  # Start from a model that knows the task: tune it on right answers first, then base: the exported model.
  type: preference
  loss: {{type: {loss}, beta: 0.1}}          # others: tunesmith methods
"""
_PLAIN = re.compile(r"[\w./~-]+", re.ASCII)
_SPLIT_NOTE = """\
  test: {test}                # held out: never trained on
"""


_KINDS: dict[Kind, str] = {"preference": "preference", "labelled": "kto"}
"""Kinds of rows besides supervised ones that a recipe can be written for, and the format that their parts are in."""


@dataclass(frozen=True)
class Written:
    """What `init` wrote."""

    recipe: Path
    files: list[Path]
    rows: int
    format: str


def write_recipe(file: Path, recipe: Path, *, base: str = DEFAULT, test: Path | None = None) -> Written:
    """Write a recipe for `file`, and unless `test` is given split a seeded sixth of its rows off as test rows.

    The user's file is never changed: the parts are written beside the recipe. ConflictError where something is there.
    """
    loaded = load(file)
    if loaded.kind not in _KINDS:
        loaded.require_supervised()
    if loaded.problems:
        first = loaded.problems[0]
        raise ContentError(
            f"{len(loaded.problems)} of {loaded.rows} rows of {file} cannot be used", where=first.place,
            why=first.reason, mend=f"tunesmith check {file} lists them all",
        )  # fmt: skip
    find(base, recipe.parent)
    name = _name(file)
    parts = [] if test else [recipe.parent / f"{name}-train.jsonl", recipe.parent / f"{name}-test.jsonl"]
    for path in (recipe, *parts):
        if path.exists():
            raise ConflictError(f"{path} is there already", mend="remove it, or name another with --out")
    files.make_folder(recipe.parent)
    if parts:
        _split(loaded, *parts)
    train, held = (parts[0], parts[1]) if parts else (file, test)
    files.write_text(recipe, _text(loaded, recipe, name, base, train, held))
    read_recipe(recipe, environment={})  # what we write must be right
    return Written(recipe, parts, loaded.rows, loaded.format)


def _split(loaded: Loaded, train: Path, test: Path) -> None:
    """Rows as they stand, prompts on one side only."""
    if len(loaded.records) < 12:
        raise ContentError(
            f"{loaded.path} has only {len(loaded.records)} rows: too few to hold some back for a test",
            mend="give more rows, or a test file with --test",
        )
    inside, outside = hold_out(Mapped(loaded.records, better), 1 / 6, seed=7)
    if not outside:
        raise ContentError(
            f"every row of {loaded.path} has the same prompt: none can be held back for a test",
            mend="give rows with different prompts, or a test file with --test",
        )
    for path, indices in ((train, inside), (test, outside)):
        lines = [_row(loaded, i) for i in indices]
        files.write_text(path, "".join(line + "\n" for line in lines))


def _row(loaded: Loaded, index: int) -> str:
    example = loaded.records[index]
    if not isinstance(example, Example):
        return json.dumps(exported(named(_KINDS[loaded.kind]), example), ensure_ascii=False)
    row = {"messages": [m.model_dump(exclude_none=True) for m in example.messages]}
    extra = {"tools": list(example.tools)} if example.tools else {}
    metadata = {"metadata": example.metadata} if example.metadata else {}
    return json.dumps(row | extra | metadata, ensure_ascii=False)


def _text(loaded: Loaded, recipe: Path, name: str, base: str, train: Path, test: Path | None) -> str:
    supervised = loaded.kind == "supervised"
    metrics = usual_metrics(loaded) if supervised else ["preference_accuracy"]
    small = base.startswith("bundled/")
    rate, why = _rate(supervised, small)
    folder = recipe.parent.resolve()
    test_line = _SPLIT_NOTE.format(test=_relative(test, folder)) if test else ""
    return _TEMPLATE.format(
        file=loaded.path, rows=loaded.rows, format=loaded.format, recipe=recipe, name=name,
        title=_plain(name), base=_plain(base), method=_method(loaded, find(base, recipe.parent)),
        train=_relative(train, folder), test=test_line, r=32 if small else 16, alpha=64 if small else 32,
        epochs=max(3, min(10, 5000 // max(1, loaded.rows))) if supervised else 1, learning_rate=rate, rate_why=why,
        metrics=", ".join(metrics), first=metrics[0], least=0.05,
    )  # fmt: skip


def _method(loaded: Loaded, base: Base) -> str:
    """The lines of the method's section."""
    if loaded.kind != "supervised":
        return _PREFERENCE.format(loss="kto" if loaded.kind == "labelled" else "dpo")
    # An encoder-decoder writes nothing by itself that it could reread.
    return _SUPERVISED if base.encoder_decoder else _SUPERVISED + _REHEARSAL


def _rate(supervised: bool, small: bool) -> tuple[str, str]:
    """(learning rate, why this one)."""
    if supervised:
        usual = ("2.0e-4", "the usual rate for LoRA")
        return ("2.0e-3", "a base of 8 M parameters takes more than the usual 2e-4") if small else usual
    usual = ("2.0e-5", "preferences are learned more slowly than answers")
    return ("1.0e-4", "a base of 8 M parameters takes more than the usual 2e-5") if small else usual


def usual_metrics(loaded: Loaded) -> list[str]:
    """By the form of the answers: JSON, short labels, or prose."""
    answers = [e.answer() for e in loaded.examples]
    if all(is_json_object(text) for text in answers):
        return ["exact_match", "json_valid", "field_f1"]
    if mean(len(text.split()) for text in answers) <= 5:
        return ["exact_match", "token_f1"]
    return ["rouge_l", "token_f1", "exact_match"]


def _relative(path: Path, folder: Path) -> str:
    """The path as the recipe names it: relative where it lies below the recipe's folder."""
    resolved = path.resolve()
    return _plain(str(resolved.relative_to(folder) if resolved.is_relative_to(folder) else resolved))


def _plain(text: str) -> str:
    """The text as YAML: in quotes unless it is plainly a text, for 2024, yes and null are none."""
    return text if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text else json.dumps(text, ensure_ascii=False)


def _name(file: Path) -> str:
    cleaned = "".join(c if c.isalnum() and c.isascii() else "-" for c in file.stem).strip("-").lower()
    return (cleaned or "run")[:40]
