"""A recipe file, the environment and `--set` to a checked RunSpec. Errors name file, line and the near miss.

Precedence: --set > environment (TUNESMITH_TRAINING__EPOCHS=2) > recipe > user configuration
(~/.config/tunesmith/config.yaml) > default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ..core.errors import ContentError, MissingError, UsageError, nearest
from ..data.config import SourceSpec
from ..data.places import on_hub
from ..evaluation.metrics.config import in_folder
from .recipe import RunSpec
from .yaml_lines import Located, parse

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECTIONS = "TUNESMITH_"


@dataclass(frozen=True)
class Override:
    """One value from outside the recipe file."""

    path: tuple[str | int, ...]
    value: Any
    source: str


def read_recipe(path: Path, settings: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> RunSpec:
    """The recipe at `path` under the overrides, with absolute paths. ContentError, MissingError, UsageError."""
    environment = os.environ if environment is None else environment
    located = _read(path)
    values = _merge(_user_configuration(environment), located.value)
    overrides = [*_from_environment(environment), *_from_settings(settings)]
    for override in overrides:
        _put(values, override)
    try:
        spec = RunSpec.model_validate(values)
    except ValidationError as error:
        raise explained(error, path, located, values, overrides) from None
    return _absolute(spec, path.parent.resolve(), environment)


@contextmanager
def placed(path: Path) -> Iterator[None]:
    """An error of the block that names a key of the recipe (`data.split.group`) gets the file and line of that key."""
    try:
        yield
    except ContentError as error:
        keys = _path((error.where or "").split("."))
        if len(keys) > 1 and keys[0] in RunSpec.model_fields:
            located = _read(path)
            if keys[:2] in located.lines:
                error.where = f"{path}:{located.line(keys)} ({error.where})"
        raise


def _read(path: Path) -> Located:
    if not path.is_file():
        raise MissingError(
            f"no such recipe: {path}", mend="name a YAML file; `tunesmith init FILE` writes one for your data"
        )
    try:
        located = parse(path.read_text("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ContentError(f"{path} is not in UTF-8", why=str(error), mend="save it as UTF-8") from error
    except OSError as error:
        raise MissingError(f"cannot read {path}", why=error.strerror, mend="change its permissions") from error
    if not isinstance(located.value, dict):
        raise ContentError(
            f"{path} holds no recipe", where=f"{path}:1",
            mend="it must be a mapping with at least data: {train: FILE}; `tunesmith init FILE` writes one",
        )  # fmt: skip
    return located


def _user_configuration(environment: Mapping[str, str]) -> dict[str, Any]:
    folder = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    path = Path(folder) / "tunesmith" / "config.yaml"
    if not path.is_file():
        return {}
    value = parse(path.read_text("utf-8"), str(path)).value
    return value if isinstance(value, dict) else {}


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`, section by section; a section of another `type` replaces the whole one below."""
    other = "type" in below and below["type"] != above.get("type", below["type"])
    merged = {} if other else dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _from_environment(environment: Mapping[str, str]) -> list[Override]:
    """TUNESMITH_<SECTION>__<KEY>; only names that begin with a section of the recipe are taken."""
    overrides = []
    for name in sorted(environment):
        parts = name.removeprefix(_SECTIONS).lower().split("__")
        nested = len(parts) > 1 or parts[0] in ("seed", "base")
        if name.startswith(_SECTIONS) and parts[0] in RunSpec.model_fields and nested:
            overrides.append(Override(_path(parts), _scalar(environment[name]), name))
    return overrides


def _from_settings(settings: Sequence[str]) -> list[Override]:
    overrides = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes key=value, not '{setting}'", mend="for example --set training.epochs=2")
        overrides.append(Override(_path(key.strip().split(".")), _scalar(value), f"--set {setting}"))
    return overrides


def _path(parts: Sequence[str]) -> tuple[str | int, ...]:
    """Keys, and places in a list from 0."""
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def _scalar(text: str) -> Any:
    """Keys are texts here as in a file: to YAML by itself `on` is a truth value."""
    try:
        return parse(text, "the value").value
    except ContentError as error:
        raise UsageError(f"not a YAML value: {text}", why=error.why) from error


def _put(values: dict[str, Any], override: Override) -> None:
    """Set a value deep inside, creating mappings on the way, also where the recipe says null."""
    at: Any = values
    last = override.path[-1]
    try:
        for key in override.path[:-1]:
            if isinstance(at, dict) and isinstance(key, str) and at.get(key) is None:
                at[key] = {}
            at = at[key]
        if isinstance(at, dict) != isinstance(last, str):
            raise TypeError("a list is counted, a mapping is named")
        at[last] = override.value
    except (TypeError, IndexError, KeyError) as error:
        dotted = ".".join(str(key) for key in override.path)
        raise UsageError(f"no place '{dotted}' in the recipe", where=override.source) from error


def explained(
    error: ValidationError, path: Path, located: Located, values: dict[str, Any], overrides: Sequence[Override] = (), *,
    root: type[BaseModel] = RunSpec, mend: str = "`tunesmith init --schema` prints all keys and types",
) -> ContentError:  # fmt: skip
    """All complaints of a validation in one error; the first gives the place. Unknown keys come first: a misspelt
    key is often missed under its right name as well. `root` is the Spec that the file at `path` is to be."""
    lines = []
    for loc, items in sorted(_by_place(error, values).items(), key=lambda entry: not _is_unknown(entry[1][0])):
        source = next((o.source for o in overrides if o.path == loc[: len(o.path)]), None)
        line = located.line(loc)
        place = source or (f"{path}:{line}" if line else str(path))
        lines.append((place, _complaint(items, loc, root)))
    where = lines[0][0]
    if len(lines) > 1:
        mend = "correct also: " + "; ".join(f"{text} ({place})" for place, text in lines[1:6])
    return ContentError(lines[0][1], where=where, mend=mend)


def _by_place(error: ValidationError, values: dict[str, Any]) -> dict[tuple[str | int, ...], list[Any]]:
    """Complaints by the place they are about; each member of a union complains for itself about the same place."""
    items = error.errors()
    inner = [item["loc"] for item in items]
    grouped: dict[tuple[str | int, ...], list[Any]] = {}
    for item in items:
        own = item["loc"]
        if any(len(loc) > len(own) and loc[: len(own)] == own for loc in inner):
            continue  # a list that lost its faulty item complains that it is too short
        grouped.setdefault(_without_tags(own, values, missing=item["type"] == "missing"), []).append(item)
    return grouped


def _without_tags(loc: tuple[str | int, ...], value: Any, *, missing: bool) -> tuple[str | int, ...]:
    """Pydantic puts the chosen member of a union into the path; keep only keys that are given, and a missing one."""
    kept: list[str | int] = []
    at = value
    for key in loc[:-1] if missing else loc:
        known = isinstance(at, dict) and key in at
        if known or (isinstance(at, list) and isinstance(key, int) and key < len(at)):
            at = at[key]
            kept.append(key)
    return (*kept, loc[-1]) if missing else tuple(kept)


def _is_unknown(item: Any) -> bool:
    return bool(item["type"] == "extra_forbidden")


def _complaint(items: Sequence[Any], loc: tuple[str | int, ...], root: type[BaseModel]) -> str:
    dotted, item = ".".join(str(key) for key in loc), items[0]
    if _is_unknown(item):
        owner = _fields_at(item["loc"][:-1], root)
        hint = f": {nearest(str(item['loc'][-1]), owner)}" if owner else ""
        return f"unknown key '{dotted}'{hint}"
    if item["type"] == "missing":
        return f"'{dotted}' is missing"
    messages = (i["msg"].removeprefix("Value error, ") for i in items)
    reasons = ", or ".join(dict.fromkeys(f"{m[0].lower()}{m[1:]}" for m in messages))
    return f"'{dotted}': {reasons} (got {item['input']!r:.60})"


def _fields_at(loc: Sequence[str | int], root: type[BaseModel]) -> list[str]:
    """Field names of the Spec at a place below `root`, found along the annotations."""
    models: list[type[BaseModel]] = [root]
    for key in loc:
        models = _members(models, key)
    return sorted({name for model in models for name in model.model_fields})


def _members(models: list[type[BaseModel]], key: str | int) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    for model in models:
        if isinstance(key, str) and key in model.model_fields:
            found += _models_in(model.model_fields[key].annotation)
        elif isinstance(key, int) or _is_tag(model, key):
            found.append(model)
    return found or models


def _is_tag(model: type[BaseModel], key: str | int) -> bool:
    field = model.model_fields.get("type")
    return field is not None and field.default == key


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _absolute(spec: RunSpec, folder: Path, environment: Mapping[str, str]) -> RunSpec:
    """Paths of data, of a local base and of a teacher: variables filled in, relative ones from the recipe's folder."""

    def resolve(path: str) -> str:
        if on_hub(path):
            return _fill(path, environment)
        filled = Path(_fill(path, environment))
        with suppress(RuntimeError):  # a file may be called ~x where no user x is
            filled = filled.expanduser()
        return str(filled) if filled.is_absolute() else os.path.realpath(folder / filled)

    data = spec.data
    train = tuple(s.model_copy(update={"path": resolve(s.path)}) for s in data.train)
    update: dict[str, Any] = {"train": train, "benchmarks": tuple(resolve(path) for path in data.benchmarks)}
    for name in ("validation", "test"):
        source = getattr(data, name)
        if isinstance(source, SourceSpec):
            update[name] = source.model_copy(update={"path": resolve(source.path)})

    def model(name: str) -> str:
        filled = _fill(name, environment)
        return str((folder / filled).resolve()) if (folder / filled).is_dir() else filled

    evaluation = spec.evaluation
    if evaluation.metrics != "auto":
        metrics = tuple(in_folder(entry, resolve) for entry in evaluation.metrics)
        evaluation = evaluation.model_copy(update={"metrics": metrics})
    method, teacher = spec.method, getattr(spec.method, "teacher", None)
    if isinstance(teacher, str):
        method = method.model_copy(update={"teacher": model(teacher)})
    parts = {"data": data.model_copy(update=update), "base": model(spec.base), "method": method}
    return spec.model_copy(update=parts | {"evaluation": evaluation})


def _fill(text: str, environment: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in environment:
            raise MissingError(
                f"the environment variable {name} is not set",
                where=f"path '{text}'",
                mend=f"export {name}=/your/folder",
            )
        return environment[name]

    return _VARIABLE.sub(value, text)
