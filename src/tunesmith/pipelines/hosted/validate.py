"""A training file as the hosted service judges it: with its error codes, and sentences that clients already parse."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from ...core.errors import TunesmithError
from ...core.messages import Kind
from ...data.load import Loaded, load
from ...jobs.handler import RefusedError
from ...jobs.model import Failure

MethodName = Literal["supervised", "dpo"]
Param = Literal["training_file", "validation_file"]
LEAST = 10
"""Examples that a training file must have."""

_FORMATS: dict[str, tuple[str, MethodName]] = {
    "chat": ("fine-tune-chat", "supervised"), "prompt_completion": ("fine-tune-completions", "supervised"),
    "openai_preference": ("fine-tune-preference", "dpo"),
}  # fmt: skip
"""Our formats that the service knows: its name for them, and what they are for."""
_KINDS: dict[MethodName, Kind] = {"supervised": "supervised", "dpo": "preference"}
_UNEXPECTED = "Unexpected file format, expected either prompt/completion pairs or chat messages."
_MESSAGE = re.compile(r"^(?:\w+\.)?\w+\[(\d+)\]:? ?")
_LISTS = ("messages", "input.messages", "preferred_output", "non_preferred_output")


@dataclass(frozen=True)
class Valid:
    """A file that can be trained on: its rows, and where each stands in it."""

    loaded: Loaded
    numbers: list[int]
    """Line numbers from 1."""

    def __len__(self) -> int:
        return len(self.numbers)

    def lines(self, places: Iterable[int]) -> Iterable[bytes]:
        """The lines of the rows at these places, which ascend, as they stand in the file."""
        return _lines(self.loaded.path, (self.numbers[place] for place in places))


def read(path: Path, file_id: str, param: Param, method: MethodName) -> Valid:
    """Read and judge a file. RefusedError with the first thing that is wrong with it."""
    try:
        loaded = load(path)
    except TunesmithError as error:
        raise _invalid(param, f"Invalid file format. {error.what.replace(str(path), file_id)}") from error
    if loaded.format not in _FORMATS:
        raise _invalid(param, _first_problem(path, loaded) if loaded.format == "unknown" else _UNEXPECTED)
    theirs, wanted = _FORMATS[loaded.format]
    if wanted != method:
        raise _invalid(
            param, f"Invalid file format. Input file {file_id} is in the {theirs} format, but the specified "
            f"fine-tuning job is not using '{wanted}' as the training method (provided method={method}).",
        )  # fmt: skip
    if loaded.problems:
        raise _invalid(param, _first_problem(path, loaded))
    if param == "training_file" and loaded.rows < LEAST:
        told = f"Training file has {loaded.rows} example(s), but must have at least {LEAST} examples"
        raise RefusedError(Failure("invalid_n_examples", told, param))
    return Valid(loaded, [int(row.origin.rpartition(":")[2]) for row in loaded.records])


def missing(file_id: str, param: Param) -> RefusedError:
    """The file was deleted before the job came to it."""
    return RefusedError(Failure(f"invalid_{param}", f"No such File object: {file_id}", param))


def _invalid(param: Param, what: str) -> RefusedError:
    which = param.replace("_", " ")
    return RefusedError(Failure(f"invalid_{param}", f"The job failed due to an invalid {which}. {what}", param))


def _first_problem(path: Path, loaded: Loaded) -> str:
    """The first bad row in the service's words."""
    first = loaded.problems[0]
    (line,) = _lines(path, [first.line])
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return f"Invalid file format. Line {first.line}: {first.reason}"
    if loaded.format == "unknown":
        return _UNEXPECTED
    return f"Invalid file format. {_in_messages(row, first.line) or _placed(first.line, first.reason)}"


def _in_messages(row: Any, line: int) -> str | None:
    """What is wrong with a message, where the service has a sentence for it."""
    for key in _LISTS:
        value: Any = row
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        for number, message in enumerate(value if isinstance(value, list) else [], start=1):
            if not isinstance(message, dict):
                return f"Line {line}, message {number}: Input should be a valid dictionary"
            if "role" not in message:
                return f"Example {line}, message {number} Discriminator 'role' is missing in value"
            content = message.get("content")
            called = message.get("tool_calls") or message.get("function_call")
            if not isinstance(content, str | list) and not (content is None and called):
                return f'Line {line}, message {number}, key "content": Input should be a valid string'
    return None


def _placed(line: int, reason: str) -> str:
    """Our reason, with the message counted from 1 as the service does."""
    match = _MESSAGE.match(reason)
    if match is None:
        return f"Line {line}: {reason}"
    return f"Line {line}, message {int(match.group(1)) + 1}: {reason[match.end() :]}"


def _lines(path: Path, numbers: Iterable[int]) -> Iterable[bytes]:
    """The lines of a file with these numbers, which ascend."""
    wanted = iter(numbers)
    following = next(wanted, None)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == following:
                yield line.rstrip(b"\r\n") + b"\n"
                following = next(wanted, None)
