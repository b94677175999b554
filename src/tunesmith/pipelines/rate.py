"""Two models' answers of finished runs before a person, and what comes of it: a verdict, and preference rows.

A rater's choices stand in `ratings/RATER.jsonl` of the (first) run, written whole after every choice. Nothing here
loads a model: the answers are those of `predictions.jsonl`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import orjson

from ..core import clock, files, fingerprints
from ..core.errors import ConflictError, ContentError, UsageError
from ..evaluation.rating import TIE, Agreement, Choices, Pair, Shown, agreement, choices, shown
from .rundir import RunDir

FOLDER = "ratings"
JUDGE = "judge-"
"""How the names of raters begin that are models."""
Side = Literal["left", "right", "tie"]


@dataclass(frozen=True)
class Table:
    """What is to be rated, and where ratings are kept."""

    run: RunDir
    names: tuple[str, str]
    pairs: tuple[Pair, ...]

    def raters(self) -> list[str]:
        """Who has rated something here."""
        return sorted(path.stem for path in (self.run.path / FOLDER).glob("*.jsonl"))

    def rated(self, rater: str) -> list[dict[str, Any]]:
        """A rater's choices, the oldest first: of these pairs as they now are."""
        known = {pair.key for pair in self.pairs}
        return [row for row in self.run.read_lines(_file(rater)) if row["pair"] in known]

    def winners(self, rater: str) -> dict[str, str]:
        """Whom this rater prefers, by pair."""
        return {row["pair"]: row["winner"] for row in self.rated(rater)}


def table(first: Path, second: Path | None = None) -> Table:
    """Base beside tuned model of a run; with a second run the tuned models of both, on the rows that both answered."""
    run = RunDir.open(first)
    if second is None:
        names = ("base", "tuned")
        pairs = [_pair(row, names, (row["base"], row["tuned"])) for row in _answered(run)]
        return Table(run, names, tuple(pairs))
    other = RunDir.open(second)
    names = _names(first, second)
    theirs = {_asked(row): row["tuned"] for row in _answered(other)}
    both = [row for row in _answered(run) if _asked(row) in theirs]
    if not both:
        raise ContentError(
            f"{first} and {second} have no test row in common", mend="name runs that were tested on the same file"
        )
    return Table(run, names, tuple(_pair(row, names, (row["tuned"], theirs[_asked(row)])) for row in both))


def _names(first: Path, second: Path) -> tuple[str, str]:
    a, b = first.resolve(), second.resolve()
    if a == b:
        raise UsageError("both runs are the same", mend="name one run, or two different ones")
    return (a.name, b.name) if a.name != b.name else (str(a), str(b))


def _answered(run: RunDir) -> list[dict[str, Any]]:
    run.read_json("evaluation.json")  # says how to get one
    rows = run.read_lines("predictions.jsonl")
    if not rows or rows[0]["tuned"] is None:
        raise ContentError(f"{run.path} has no answers to rate", mend="name a run whose models write answers")
    return rows


def _pair(row: Mapping[str, Any], names: tuple[str, str], answers: tuple[str, str]) -> Pair:
    return Pair(tuple(row["prompt"]), names, answers, row["reference"])


def _asked(row: Mapping[str, Any]) -> str:
    return fingerprints.of_object([row["prompt"], row["reference"]])


class Rating:
    """One rater's way through a table: the pairs that are left, and the choices so far."""

    def __init__(self, of: Table, rater: str, seed: int = 0, most: int | None = None):
        if not re.fullmatch(r"[\w.-]{1,64}", rater) or rater.startswith((".", JUDGE)):
            raise UsageError(
                f"'{rater}' is no rater's name",
                mend=f"use letters, digits, '-', '_' and '.', and no '{JUDGE}' in front: that is for models",
            )
        self.table, self.rater = of, rater
        self._order: list[Shown] = shown(of.pairs, rater, seed)[:most]
        self._rows = of.rated(rater)

    @property
    def total(self) -> int:
        """Pairs to rate in all; equal answers are none."""
        return len(self._order)

    @property
    def done(self) -> int:
        """Those that are rated."""
        return self.total - len(self._left())

    def next(self) -> Shown | None:
        """The next pair; None when all are rated."""
        return next(iter(self._left()), None)

    def _left(self) -> list[Shown]:
        known = {row["pair"] for row in self._rows}
        return [one for one in self._order if one.pair.key not in known]

    def choose(self, pair: Shown, side: Side) -> None:
        """Keep a choice. OutputError where it cannot be written; then it was not made."""
        winner = TIE if side == "tie" else getattr(pair, side)[0]
        self._write([*self._rows, {"pair": pair.pair.key, "left": pair.left[0], "winner": winner, "at": clock.now()}])

    def put_off(self, pair: Shown) -> None:
        """Look at this pair last."""
        self._order.remove(pair)
        self._order.append(pair)

    def undo(self) -> bool:
        """Take the last choice back; whether there was one."""
        if not self._rows:
            return False
        self._write(self._rows[:-1])
        return True

    def _write(self, rows: list[dict[str, Any]]) -> None:
        files.make_folder(self.table.run.path / FOLDER)
        self.table.run.write_lines(_file(self.rater), rows)
        self._rows = rows


def _file(rater: str) -> str:
    return f"{FOLDER}/{rater}.jsonl"


@dataclass(frozen=True)
class Summary:
    """What all raters of a table say."""

    pairs: int
    alike: int
    by_rater: dict[str, Choices]
    together: Choices
    agreements: tuple[Agreement, ...]


def summary(of: Table) -> Summary:
    """Each rater's verdict, that of all people together (of judges where nobody else has rated), and how far every two
    agree."""
    winners = {rater: of.winners(rater) for rater in of.raters()}
    winners = {rater: found for rater, found in winners.items() if found}
    pairs = combinations(sorted(winners), 2)
    found = [agreement((a, b), winners[a], winners[b]) for a, b in pairs]
    return Summary(
        len(of.pairs), sum(pair.alike for pair in of.pairs),
        {rater: choices(of.names, list(said.values())) for rater, said in winners.items()},
        choices(of.names, [_majority(said) for said in _by_pair(_people(winners)).values()]),
        tuple(one for one in found if one),
    )  # fmt: skip


def _people(winners: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
    """What people say; what models say where no person does."""
    return {rater: said for rater, said in winners.items() if not rater.startswith(JUDGE)} or winners


def _by_pair(winners: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for said in winners.values():
        for key, winner in said.items():
            found.setdefault(key, []).append(winner)
    return found


def _majority(said: Sequence[str]) -> str:
    """What most raters of a pair say; a tie where two sides have as many. A pair counts once, whoever rated it."""
    counts = sorted(((said.count(winner), winner) for winner in {*said} - {TIE}), reverse=True)
    if not counts or (len(counts) > 1 and counts[0][0] == counts[1][0]) or counts[0][0] * 2 <= len(said):
        return TIE
    return counts[0][1]


def write_preferences(of: Table, out: Path) -> int:
    """The decided pairs as preference rows, for DPO or a reward model; how many there are. ConflictError where `out` is
    there already."""
    if out.exists():
        raise ConflictError(f"{out} is there already", mend="choose another --preferences")
    rows = list(_preferences(of))
    files.write_bytes(out, b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return len(rows)


def _preferences(of: Table) -> Iterator[dict[str, Any]]:
    said = _by_pair(_people({rater: found for rater in of.raters() if (found := of.winners(rater))}))
    for pair in of.pairs:
        winner = _majority(said.get(pair.key, [TIE]))
        if winner == TIE:
            continue
        better = pair.names.index(winner)
        chosen, rejected = pair.answers[better], pair.answers[1 - better]
        yield {
            "prompt": list(pair.prompt),
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
