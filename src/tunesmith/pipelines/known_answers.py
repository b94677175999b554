"""Answers that a model gave before, by model, prompt and decoding: what was asked once is not asked again.

They stand in `answers.jsonl` of the run, one a line: `key`, the fingerprint of all three, `text` and `finished`.
Prompts are in it only as part of the fingerprint. An answer is not a function of these alone to the last bit: in bf16
a batch of other rows may turn a tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from ..core import files, fingerprints
from .recipe import RunSpec
from .rundir import RunDir

FILE = "answers.jsonl"


class KnownAnswers:
    """One model's answers in a file of a run's folder, which may hold others' too. Prompts are tokens, or messages."""

    def __init__(self, run: RunDir, model: str, file: str = FILE):
        self._run, self._model, self._file = run, model, file
        self._known = {row["key"]: row for row in run.read_lines(file) if {"key", "text", "finished"} <= row.keys()}

    def _key(self, prompt: Sequence[Any], decoding: Mapping[str, Any]) -> str:
        return fingerprints.of_object([self._model, list(prompt), dict(decoding)])

    def get(self, prompt: Sequence[Any], decoding: Mapping[str, Any]) -> tuple[str, bool] | None:
        """(text, whether it ended by itself); None where it was not asked before."""
        found = self._known.get(self._key(prompt, decoding))
        return (found["text"], found["finished"]) if found else None

    def put(
        self, prompts: Sequence[Sequence[Any]], answers: Sequence[tuple[str, bool]], decoding: Mapping[str, Any]
    ) -> None:
        """Keep answers. OutputError where they cannot be written."""
        for prompt, (text, finished) in zip(prompts, answers, strict=True):
            key = self._key(prompt, decoding)
            self._known[key] = {"key": key, "text": text, "finished": finished}
        lines = b"".join(orjson.dumps(row) + b"\n" for row in self._known.values())
        files.write_bytes(self._run.path / self._file, lines)


def of_base(run: RunDir, spec: RunSpec, base: str) -> KnownAnswers:
    """Those of the base whose fingerprint is `base`, held as the recipe holds it."""
    return KnownAnswers(run, fingerprints.of_object([base, *_held(spec)]))


def of_tuned(run: RunDir, spec: RunSpec, base: str) -> KnownAnswers:
    """Those of the model that the run has trained."""
    return KnownAnswers(run, tuned_fingerprint(run, spec, base))


def tuned_fingerprint(run: RunDir, spec: RunSpec, base: str) -> str:
    """Of the model that the run has trained, on the base whose fingerprint is `base`."""
    folders = [run.path / name for name in ("adapter", "model")]
    weights = {file.name: fingerprints.of_file(file) for folder in folders for file in _weights(folder)}
    adapter = spec.adapter.model_dump(mode="json")
    return fingerprints.of_object([base, *_held(spec), weights, adapter])


def _held(spec: RunSpec) -> list[str | None]:
    return [str(spec.training.precision), getattr(spec.adapter, "quantize", None)]


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
