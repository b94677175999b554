"""From the name of a teacher to its folder, and whether a student can learn from it. Loads no torch.

A teacher is a base, or what a run trained: a whole model, or an adapter on its base.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from ...adapters.config import AdapterSpec
from ...core import fingerprints
from ...core.errors import ContentError, MissingError
from ...data.audit import Finding
from ...data.template import PLAIN_TEMPLATE
from ...models.find import find
from ...models.refs import Base
from ...models.tokenizer import tokenizer as load_tokenizer
from .config import DistillSpec, EndpointSpec

_ADAPTER: TypeAdapter[Any] = TypeAdapter(AdapterSpec)


@dataclass(frozen=True)
class Teacher:
    """Where a local teacher lies."""

    name: str
    base: Base
    adapter: Any = None
    """The adapter's spec, where what was trained is an adapter on the base."""
    adapter_folder: Path | None = None

    def fingerprint(self) -> str:
        """SHA-256 over config and weights, the adapter's included."""
        if self.adapter_folder is None:
            return self.base.fingerprint()
        own = [p.relative_to(self.adapter_folder).as_posix() for p in self.adapter_folder.rglob("*.safetensors")]
        adapter = fingerprints.of_folder(self.adapter_folder, [*own, "adapter_config.json"])
        return fingerprints.of_object([self.base.fingerprint(), adapter])

    @property
    def context(self) -> int | None:
        """The longest sequence in tokens that it reads; None where nothing binds it."""
        whole = self.base.context
        return whole - self.adapter.virtual_tokens() if whole and self.adapter else whole

    def tokenizer(self, date: str | None = None) -> Any:
        """The teacher's own. Its template shows `date`, or today, where it shows a date."""
        return load_tokenizer(self.base, PLAIN_TEMPLATE, date)


def find_teacher(name: str) -> Teacher:
    """The teacher called `name`: the folder of a run, else whatever a base may be called.

    MissingError where there is none, or its training is not finished; ContentError for a damaged run.
    """
    run = Path(name).expanduser()
    if not (run / "run.json").is_file():
        return Teacher(name, find(name))
    if (run / "model").is_dir():
        return Teacher(name, Base(name, run / "model"))
    if not (run / "adapter").is_dir():
        raise MissingError(
            f"the teacher {name} holds no trained model yet",
            mend="finish it: tunesmith run RECIPE --out DIR --resume",
        )
    file = run / "recipe.lock.yaml"
    try:
        recipe = yaml.safe_load(file.read_text("utf-8"))
        return Teacher(name, find(recipe["base"]), _ADAPTER.validate_python(recipe["adapter"]), run / "adapter")
    except (OSError, ValueError, KeyError, TypeError, ValidationError, yaml.YAMLError) as error:
        raise ContentError(f"cannot read the recipe of the teacher {name}", where=str(file), why=str(error)) from error


def fingerprint(spec: DistillSpec) -> str:
    """What must not change about the teacher while a run goes on: its weights, or its name behind an endpoint."""
    if isinstance(spec.teacher, EndpointSpec):
        return fingerprints.of_object([spec.teacher.url, spec.teacher.model])
    return find_teacher(spec.teacher).fingerprint()


def require_fit(spec: DistillSpec, base: Base, tokenizer: Any, longest: int) -> list[Finding]:
    """Remarks on a teacher for the student `base`, whose rows have at most `longest` tokens.

    MissingError for a teacher that is not there; ContentError where the vocabularies differ, or where the teacher
    cannot read rows that long.
    """
    if isinstance(spec.teacher, EndpointSpec):
        return []
    teacher = find_teacher(spec.teacher)
    if spec.on != "answers":
        _require_same_vocabulary(tokenizer, teacher)
        if teacher.context and teacher.context < longest:
            raise ContentError(
                f"the teacher {teacher.name} takes at most {teacher.context} tokens, rows may have {longest}",
                where="method.teacher", mend=f"set training.max_length to {teacher.context} or less",
            )  # fmt: skip
    if teacher.adapter is None and teacher.fingerprint() == base.fingerprint():
        return [
            Finding(
                "nothing_to_teach", "warn", f"the teacher {teacher.name} is the base itself: it has nothing to teach",
                "name a larger model, or the folder of a run that has learned the task",
            )
        ]  # fmt: skip
    return []


def _require_same_vocabulary(tokenizer: Any, teacher: Teacher) -> None:
    mine, theirs = ({i: token for token, i in t.get_vocab().items()} for t in (tokenizer, teacher.tokenizer()))
    if mine == theirs:
        return
    first = min(i for i in mine.keys() | theirs.keys() if mine.get(i) != theirs.get(i))

    def shown(known: dict[int, str]) -> str:
        return repr(known[first]) if first in known else "not there"

    raise ContentError(
        f"the teacher {teacher.name} has another vocabulary than the base: its logits are of other tokens",
        where="method.teacher",
        why=f"token {first} is {shown(mine)} in the base and {shown(theirs)} in the teacher "
        f"({len(mine):,} and {len(theirs):,} tokens)",
        mend="take a teacher of the base's own family, or learn from what it says: method.on: answers",
    )
