"""What the server is told: `server.yaml` in TUNESMITH_HOME, the environment above it, flags above both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from ..core.errors import ContentError, nearest
from ..core.spec import Spec
from ..store.database import home
from .engine import AnsweringSettings
from .keeping import Keeping

FILE = "server.yaml"
_PREFIX = "TUNESMITH_SERVER_"


class Limits(Spec):
    """What one request, one key and the whole server may take."""

    file_bytes: int = Field(default=512 * 2**20, gt=0)
    """Largest file, and the largest sum of an upload's parts that is made into one."""
    part_bytes: int = Field(default=64 * 2**20, gt=0)
    """Largest part of an upload."""
    upload_bytes: int = Field(default=8 * 2**30, gt=0)
    """Largest size that an upload may declare."""
    body_bytes: int = Field(default=16 * 2**20, gt=0)
    """Largest body of every other request."""
    project_bytes: int = Field(default=2_500 * 10**9, gt=0)
    """What a project's files may hold together."""
    uploads_at_once: int = Field(default=16, gt=0)
    """Files and parts that are received at the same time; more are told to come again."""
    seconds_for_headers: float = Field(default=30, gt=0)
    """How long a connection may take for a request's headers before it is closed."""
    seconds_between_pieces: float = Field(default=60, gt=0)
    """How long a body may stand still before its request is given up."""
    least_bytes_per_second: float = Field(default=1_000, gt=0)
    """How fast a body must come that has stood still for so long already, altogether."""
    requests_per_minute: int = Field(default=60_000, gt=0)
    """Of one key."""
    tokens_per_minute: int = Field(default=10_000_000, gt=0)
    """Prompt and answer tokens of one key."""
    unfinished_jobs: int = Field(default=1_000, gt=0)
    """Fine-tuning jobs of one key that may be queued or running at once."""


class Settings(Spec):
    """The server's configuration."""

    home: Path
    """The folder that holds all state, uploaded files and jobs among it; TUNESMITH_HOME."""
    database: str | None = None
    """A database's URL; None is SQLite in `home`."""
    organization: str = Field(default="personal", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Stands in the names of fine-tuned models: `ft:<base>:<organization>:<suffix>:<id>`."""
    aliases: dict[str, str] = Field(default={})
    """Other names of bases, so that scripts need no new ones: `gpt-4o-mini-2024-07-18: bundled/tunesmith-8m`."""
    bases: tuple[str, ...] = ()
    """Bases that may be tuned and served beside the bundled ones: local folders or hub ids."""
    result_csv: Literal["base64", "plain"] = "base64"
    """How a job's result file is sent: as the live service does, or as the CSV itself."""
    hosts: tuple[str, ...] = ()
    """Names in the Host header that are answered, beside those of this machine; `*` leaves that to a proxy."""
    origins: tuple[str, ...] = ()
    """Origins whose pages may send requests: `https://tools.example`."""
    limits: Limits = Limits()
    """Sizes and rates."""
    answering: AnsweringSettings = AnsweringSettings()
    """What the answering service takes on."""
    keep: Keeping = Keeping()
    """What stays of questions and answers."""

    def answering_in(self, precision: Literal["auto", "bf16", "fp32"]) -> Settings:
        """The same with answers computed in this number type."""
        return self.model_copy(update={"answering": self.answering.model_copy(update={"precision": precision})})

    @field_validator("aliases")
    @classmethod
    def _no_empty_names(cls, aliases: dict[str, str]) -> dict[str, str]:
        for alias, base in aliases.items():
            if not alias.strip() or not base.strip() or alias.startswith("ft:"):
                raise ValueError(f"'{alias}: {base}' is no alias of a base")
        return aliases


def read(environment: Mapping[str, str] = os.environ, **flags: Any) -> Settings:
    """The settings: flags that are not None, then TUNESMITH_SERVER_*, then `server.yaml`, then the defaults.

    ContentError names the file and the key.
    """
    folder = home()
    file = folder / FILE
    content: Any = {}
    if file.is_file():
        try:
            content = yaml.safe_load(file.read_text("utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ContentError(f"cannot read {file}", why=str(error), mend="write it as YAML") from error
    if not isinstance(content, dict):
        raise ContentError(f"{file} is no table of settings", mend="see docs/serve.md")
    for name in set(Settings.model_fields) - {"home"}:
        if text := environment.get(_PREFIX + name.upper()):
            content[name] = _from_text(name, text)
    content |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings.model_validate({"home": folder} | content)
    except ValidationError as error:
        raise _refusal(file, error) from error


def _from_text(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ContentError(f"cannot read {_PREFIX}{name.upper()}", why=str(error)) from error


def _refusal(file: Path, error: ValidationError) -> ContentError:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    known = Limits.model_fields if key.startswith("limits.") else Settings.model_fields
    mend = nearest(key.removeprefix("limits."), known) if first["type"] == "extra_forbidden" else "see docs/serve.md"
    return ContentError(f"wrong setting '{key}'", where=str(file), why=first["msg"], mend=mend)
