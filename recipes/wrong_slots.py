"""SNIPS chat rows to preference pairs with a known truth: the right answer against one with a single wrong slot.

python recipes/wrong_slots.py ROWS.jsonl OUT.jsonl [MOST]      standard library only; MOST pairs at most

A slot's value is replaced by words of the same sentence where there are others, else by another row's value for the
same slot. So the wrong answer is as plausible as the right one, and about as long. Rows without a slot are left out.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

SEED = 0


def known_values(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Every value of each slot, in the rows' order."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for slot, value in _answer(row)["slots"].items():
            found.setdefault(slot, {})[value] = None
    return {slot: list(values) for slot, values in found.items()}


def pair(row: dict[str, Any], known: dict[str, list[str]], draw: random.Random) -> dict[str, Any] | None:
    """The row as a pair; None where no slot can be wrong."""
    answer = _answer(row)
    if not answer["slots"]:
        return None
    slot = draw.choice(sorted(answer["slots"]))
    right = answer["slots"][slot]
    wrong = _other_words(row["messages"][-2]["content"], right, draw)
    if wrong is None:
        others = [value for value in known[slot] if value.casefold() != right.casefold()]
        if not others:
            return None
        wrong = draw.choice(others)
    rejected = answer | {"slots": answer["slots"] | {slot: wrong}}
    chosen = row["messages"][-1]["content"]
    return {"prompt": row["messages"][:-1], "chosen": chosen, "rejected": json.dumps(rejected, ensure_ascii=False)}


def _other_words(sentence: str, value: str, draw: random.Random) -> str | None:
    """As many words of the sentence as the value has, standing together, but others; None where there are none."""
    words, size = sentence.split(), len(value.split())
    spans = [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]
    other = [span for span in spans if span.casefold() != value.casefold()]
    return draw.choice(other) if other else None


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(row["messages"][-1]["content"])
    return answer


def convert(source: Path, out: Path, most: int | None = None) -> int:
    """Write the pairs; how many there are."""
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    known, draw = known_values(rows), random.Random(SEED)
    pairs = [made for row in rows if (made := pair(row, known, draw))][:most]
    out.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in pairs), "utf-8")
    return len(pairs)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    print(convert(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else None))
