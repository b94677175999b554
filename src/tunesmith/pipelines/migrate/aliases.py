"""Which base is trained here in place of which of the old service's models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...core.errors import ContentError, MissingError, UsageError
from ...models.find import find
from ...models.refs import DEFAULT
from ..yaml_lines import parse

_DATE = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{4})\Z")
"""How snapshots are named: gpt-4o-mini-2024-07-18, gpt-3.5-turbo-0125."""
TUNED = "ft:"


@dataclass(frozen=True)
class Chosen:
    """A base, and what is to be said about the choice."""

    base: str
    note: str | None = None


@dataclass(frozen=True)
class Bases:
    """A table of aliases: the old service's names to bases here."""

    named: Mapping[str, str] = field(default_factory=dict)
    every: str | None = None
    """The base of every model that the table does not name."""

    def of(self, model: str) -> Chosen | None:
        """The base for a model; None where the table names it not, nor anything for all others.

        A snapshot stands under its own name, or under that without the date. What was tuned before (`ft:...`) stands
        under its own name, else under its base's: then what the earlier job taught is not there, and that is said.
        """
        under = _under(model)
        found = next((self.named[name] for name in under if name in self.named), None)
        if found:
            return Chosen(found)
        if not model.startswith(TUNED):
            return Chosen(self.every) if self.every else None
        earlier = self.of(model.split(":")[1])
        if earlier is None:
            return None
        note = (f"the old job went on from {model}; here it starts from {earlier.base}, without what that job taught. "
                f"Export that job's run and name it: --base '{model}=FOLDER'")  # fmt: skip
        return Chosen(earlier.base, note)


def _under(model: str) -> tuple[str, ...]:
    return (model,) if model.startswith(TUNED) else (model, _DATE.sub("", model))


def read_bases(given: Sequence[str], table: Path | None) -> Bases:
    """From `--base MODEL=BASE` and `--base BASE`, laid over a YAML file of aliases.

    The file maps names to bases, by itself or under the key `aliases`, as a server's configuration has them. With
    nothing given, every model is the bundled base. UsageError, ContentError, MissingError.
    """
    named, every = _table(table) if table else {}, None
    for text in given:
        model, equals, base = text.partition("=")
        if equals and model.strip() and base.strip():
            named[model.strip()] = _base(base.strip(), Path())
        elif equals or not text.strip() or every:
            raise UsageError(
                f"--base takes MODEL=BASE, or once a BASE for all others, not '{text}'",
                mend=f"for example --base gpt-4o-mini={DEFAULT}",
            )
        else:
            every = _base(text.strip(), Path())
    return Bases(named, every or (None if named else DEFAULT))


def _table(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise MissingError(f"no such table of aliases: {path}", mend="name a YAML file: gpt-4o-mini: BASE")
    try:
        located = parse(path.read_text("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ContentError(f"{path} is not in UTF-8", why=str(error), mend="save it as UTF-8") from error
    value = located.value
    above: tuple[str, ...] = ()
    if isinstance(value, dict) and isinstance(value.get("aliases"), dict):
        value, above = value["aliases"], ("aliases",)
    if not isinstance(value, dict):
        raise ContentError(f"{path} holds no aliases", where=f"{path}:1", mend=f"gpt-4o-mini: {DEFAULT}")
    for name, base in value.items():
        if not isinstance(base, str) or not base.strip():
            where = f"{path}:{located.line((*above, name)) or 1}"
            raise ContentError(f"'{name}' stands for no base: {base!r}", where=where, mend=f"{name}: {DEFAULT}")
    return {str(name): _base(base, path.parent) for name, base in value.items()}


def _base(name: str, folder: Path) -> str:
    """The base as a recipe anywhere names it: a local folder by its whole path."""
    if name.startswith("bundled/"):
        return find(name).name
    local = (folder / Path(name).expanduser()).resolve()
    return str(local) if local.is_dir() else name
