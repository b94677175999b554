"""Personal data and secrets in rows: reported, masked, or the rows left out. No finding ever shows the value itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..core.events import Sink, counted, silent
from ..core.messages import Example
from .audit import Finding, Severity
from .pii import SECRET_KINDS, Hit, Known, mask
from .pii import find as by_shape
from .pii.mask import Find
from .pii.names import Names
from .pii.rows import Found, find_in_rows, mask_row
from .rows import Joined, RowStore, pick

Policy = Literal["report", "mask", "drop"]
_AROUND = 40
_DONE = {"report": "", "mask": "; placeholders stand in their place", "drop": "; these rows are left out"}
_MEND = {
    "report": "set data.personal_data: mask or drop, or change these rows",
    "mask": "nothing to do for the training; the file itself still holds them",
    "drop": "nothing to do for the training; the file itself still holds them",
}
_REVOKE = "revoke it now, whoever has this file can use it; then "


@dataclass
class Privacy:
    """One policy over all files of a recipe: a subject has the same placeholders wherever it is met."""

    policy: Policy
    subject: str | None = None
    """The key of a row's metadata that names whom it is about; None takes each row for itself."""
    names: Names | None = None
    """What finds names and places too; None finds by shape alone."""
    known: dict[str, Known] = field(default_factory=dict)

    @property
    def find(self) -> Find:
        """What finds: by shape, and names too where they are asked for."""
        return self.names.find if self.names else by_shape

    def apply(
        self, examples: Sequence[Example], *, train: bool, sink: Sink = silent, finds: Iterable[Found] | None = None
    ) -> tuple[Sequence[Example], list[Finding]]:
        """The rows to go on with, and what was found. Held-out rows are never dropped: they are reported instead.

        `finds` are those by shape in these rows, where they have been searched; they count where names are not asked
        for.
        """
        policy: Policy = "report" if self.policy == "drop" and not train else self.policy
        found: dict[str, list[str]] = {}
        shown: dict[str, str] = {}
        troubled: list[int] = []
        if finds is None or self.names:
            searched = counted(examples, sink, "rows searched", len(examples))
            finds = find_in_rows(searched, self.names.find if self.names else None)
        for index, pieces in finds:
            troubled.append(index)
            origin = examples[index].origin
            for text, hits in pieces:
                for hit in hits:
                    found.setdefault(hit.kind, []).append(origin)
                    if hit.kind not in shown:
                        shown[hit.kind] = _excerpt(text, hits, hit)
        return self._rows(examples, troubled, policy), list(_findings(found, shown, policy))

    def _rows(self, examples: Sequence[Example], troubled: Sequence[int], policy: Policy) -> Sequence[Example]:
        """The rows under the policy; `troubled` are those with a find."""
        if policy == "report" or not troubled:
            return examples
        if policy == "drop":
            return pick(examples, np.setdiff1d(np.arange(len(examples)), troubled))
        masked = RowStore(self._masked(examples[index]) for index in troubled)
        places = np.arange(len(examples))
        places[troubled] = len(examples) + np.arange(len(troubled))
        return pick(Joined((examples, masked)), places)

    def _masked(self, example: Example) -> Example:
        name = example.metadata.get(self.subject) if self.subject else None
        if name is None:
            return mask_row(example, find=self.find)[0]
        masked, self.known[str(name)] = mask_row(example, self.known.get(str(name)), self.find)
        return masked


def personal_data(examples: Sequence[Example]) -> Iterator[Finding]:
    """What is found in the rows, one finding for each kind; the rows stay as they are."""
    yield from Privacy("report").apply(examples, train=True)[1]


def _findings(found: dict[str, list[str]], shown: dict[str, str], policy: Policy) -> Iterator[Finding]:
    """Secrets first. Masked personal data is a remark; all else is a warning."""
    suffix = {"report": "", "mask": "_masked", "drop": "_dropped"}[policy]
    for kind in sorted(found, key=lambda kind: (kind not in SECRET_KINDS, kind)):
        places = tuple(dict.fromkeys(found[kind]))
        name = kind.replace("_", " ")
        if kind in SECRET_KINDS:
            message = f"SECRET in this row: {name}. A model can repeat it word for word{_DONE[policy]}"
            yield Finding(f"secrets{suffix}", "warn", message, _REVOKE + _MEND[policy], places, shown[kind], kind=kind)
        else:
            severity: Severity = "info" if policy == "mask" else "warn"
            message = f"personal data in this row: {name}{_DONE[policy]}"
            yield Finding(f"personal_data{suffix}", severity, message, _MEND[policy], places, shown[kind], kind=kind)


def _excerpt(text: str, hits: Sequence[Hit], shown: Hit) -> str:
    """The words around a find. All finds are masked first and the cut comes after, so no value is shown in part."""
    parts: list[str] = []
    position = place = 0
    for hit in hits:
        parts.append(text[position : hit.start])
        if hit == shown:
            place = sum(map(len, parts))
        parts.append(f"[{hit.kind.upper()}]")
        position = hit.end
    whole = "".join([*parts, text[position:]])
    around = whole[max(0, place - _AROUND) : place + _AROUND]
    return " ".join(mask([around]).texts[0].split())
