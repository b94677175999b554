"""Write the demo data: support tickets of a fictional shop, each with the JSON a router wants from it.

    python -m tunesmith.pipelines.demo.generate OUT_DIR [--seed N]

Writes `train.jsonl` (900 rows) and `test.jsonl` (300 rows, half of them from templates that never occur in
training). The same seed gives the same bytes. Standard library only; knows no model and no metric.
"""

import argparse
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.pipelines.demo.templates import SEEN, Phrases
from tunesmith.pipelines.demo.templates_unseen import UNSEEN
from tunesmith.pipelines.demo.values import (
    ADJECTIVES,
    FIRST_NAMES,
    OTHER_ITEMS,
    PLACE_ENDINGS,
    PLACE_STEMS,
    PRODUCTS,
    SURNAMES,
    pool,
)

SYSTEM = "Turn the ticket into JSON: intent, product, urgency, entities."
TRAIN_ROWS, TEST_ROWS, UNSEEN_ROWS, DEFAULT_SEED = 900, 300, 150, 7
URGENCIES, URGENCY_WEIGHTS = ("high", "normal", "low"), (0.3, 0.4, 0.3)
ORDER_SHARE, NAME_SHARE, PLACE_SHARE = 0.85, 0.8, 0.4
SIGNED_SHARE, BLOCK_SHARE = 0.85, 0.6
FORM_SHARE, LOWER_SHARE, TYPO_SHARE, FIRST_NAME_ONLY, MOVE_SHARE = 0.12, 0.08, 0.15, 0.1, 0.5
MAX_OVERLAP = 0.6
"""Highest Jaccard overlap of word triples between two tickets of the data."""

Message = dict[str, str]
Row = dict[str, list[Message] | dict[str, str]]


@dataclass
class Taken:
    """What earlier rows used: order numbers are never given twice, tickets never resemble each other."""

    orders: set[str] = field(default_factory=set)
    shingles: list[frozenset[str]] = field(default_factory=list)

    def new_order(self, rng: random.Random) -> str:
        """A number of five or six digits that is no part of an earlier row's, nor the other way round."""
        while True:
            order = str(rng.randrange(10_000, 1_000_000))
            if not any(order in other or other in order for other in self.orders):
                self.orders.add(order)
                return order

    def accept(self, text: str) -> bool:
        """Keep `text` unless it shares too many word triples with an accepted ticket."""
        words = re.findall(r"\w+", text.lower())
        new = frozenset(" ".join(words[i : i + 3]) for i in range(len(words) - 2))
        if any(len(new & old) > MAX_OVERLAP * len(new | old) for old in self.shingles):
            return False
        self.shingles.append(new)
        return True


@dataclass(frozen=True)
class Values:
    """The entity values of one ticket; an empty string is an absent one."""

    order: str
    name: str
    place: str

    def present(self) -> dict[str, str]:
        """The values that the ticket states, in the key order of the answer."""
        return {key: value for key, value in vars(self).items() if value}


def draw_values(rng: random.Random, unseen: bool, needs_place: bool, taken: Taken) -> Values:
    """Draw at least one entity; unseen rows have full names only, as a first name may hide in other words."""
    order = taken.new_order(rng) if rng.random() < ORDER_SHARE else ""
    name = rng.choice(pool(FIRST_NAMES, unseen))
    if unseen or rng.random() >= FIRST_NAME_ONLY:
        name += " " + rng.choice(pool(SURNAMES, unseen))
    if order and rng.random() >= NAME_SHARE:
        name = ""
    place = f"{rng.choice(pool(PLACE_STEMS, unseen))} {rng.choice(PLACE_ENDINGS)}"
    if not needs_place and rng.random() >= PLACE_SHARE:
        place = ""
    return Values(order, name, place)


def letter(rng: random.Random, phrases: Phrases, core: str, cue: str, values: Values) -> str:
    """A ticket in free text, as a template with slots."""
    body = [core]
    if values.order:
        body.insert(rng.randrange(2), rng.choice(phrases.orders))
    signed = bool(values.name) and rng.random() < SIGNED_SHARE
    free_place = bool(values.place) and "{c}" not in core
    block = signed and free_place and rng.random() < BLOCK_SHARE
    if free_place and not block:
        body.insert(rng.randrange(len(body) + 1), rng.choice(phrases.places))
    for aside in rng.sample(phrases.asides, rng.choice((0, 0, 1, 1))):
        body.insert(rng.randrange(len(body) + 1), aside)
    body.insert(rng.choice((len(body), len(body), 0)), cue)
    if values.name and not signed:
        body.insert(rng.choice((0, len(body))), rng.choice(phrases.names))
    gap = rng.choice((" ", "\n"))
    text = gap.join(part for part in (rng.choice(phrases.greetings), " ".join(filter(None, body))) if part)
    signature = rng.choice(phrases.signatures) + ("\n{c}" if block else "")
    return f"{text}\n{signature}" if signed else text


def form(rng: random.Random, phrases: Phrases, core: str, cue: str, values: Values) -> str | None:
    """A ticket from a web form whose slots are exactly the values present, or None when no layout fits."""
    wanted = {slot for slot, value in (("o", values.order), ("n", values.name), ("c", values.place)) if value}
    fits = [layout for layout in phrases.forms if set(re.findall(r"\{(\w)\}", layout)) == wanted]
    if not fits or "{c}" in core:
        return None
    return rng.choice(fits).replace("{core}", core).replace("{cue}", cue)


def add_typos(rng: random.Random, template: str) -> str:
    """Swap two inner letters in one or two words of the template; slots are never touched."""
    words = template.split(" ")
    longer = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for i in rng.sample(longer, min(len(longer), rng.choice((1, 1, 2)))):
        at = rng.randrange(1, len(words[i]) - 2)
        words[i] = words[i][:at] + words[i][at + 1] + words[i][at] + words[i][at + 2 :]
    return " ".join(words)


def fill(rng: random.Random, template: str, product: str, values: Values) -> str:
    """Put the values in the slots."""
    item = f"{rng.choice(ADJECTIVES)} {product}" if rng.random() < 0.4 else product
    slots = {"p": item, "x": rng.choice(OTHER_ITEMS), "o": values.order, "n": values.name, "c": values.place}
    return re.sub(r"\{(\w)\}", lambda match: slots[match[1]], template).strip()


def make_row(rng: random.Random, phrases: Phrases, intent: str, unseen: bool, taken: Taken) -> Row | None:
    """One row, or None when the ticket came out too close to an earlier one."""
    cores = phrases.cores[intent]
    if intent == "address" and rng.random() < MOVE_SHARE:
        cores = phrases.moves
    core, product = rng.choice(cores), rng.choice(PRODUCTS)
    urgency = rng.choices(URGENCIES, URGENCY_WEIGHTS)[0]
    cue = rng.choice(phrases.cues[urgency])
    values = draw_values(rng, unseen, "{c}" in core, taken)
    layout = form(rng, phrases, core, cue, values) if rng.random() < FORM_SHARE else None
    template = layout or letter(rng, phrases, core, cue, values)
    if rng.random() < TYPO_SHARE:
        template = add_typos(rng, template)
    lower = rng.random() < LOWER_SHARE
    if lower:
        template = template.lower().replace(".", "")
        values = Values(values.order, values.name.lower(), values.place.lower())
    text = fill(rng, template, product, values)
    if not taken.accept(text):
        return None
    answer = {"intent": intent, "product": product, "urgency": urgency, "entities": values.present()}
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": text},
        {"role": "assistant", "content": json.dumps(answer)},
    ]
    return {"messages": messages, "metadata": {"template": "unseen" if unseen else "seen"}}


def make_rows(rng: random.Random, count: int, unseen: bool, taken: Taken) -> list[Row]:
    """`count` rows of one set of templates, the intents in equal shares."""
    phrases = UNSEEN if unseen else SEEN
    intents = sorted(phrases.cores)
    rows: list[Row] = []
    while len(rows) < count:
        row = make_row(rng, phrases, intents[len(rows) % len(intents)], unseen, taken)
        if row is not None:
            rows.append(row)
    return rows


def generate(seed: int = DEFAULT_SEED) -> tuple[list[Row], list[Row]]:
    """The training rows and the test rows of `seed`, each shuffled."""
    rng = random.Random(seed)  # noqa: S311 - reproducible data, not a secret
    taken = Taken()
    train = make_rows(rng, TRAIN_ROWS, unseen=False, taken=taken)
    test = make_rows(rng, UNSEEN_ROWS, unseen=True, taken=taken)
    test += make_rows(rng, TEST_ROWS - UNSEEN_ROWS, unseen=False, taken=taken)
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test


def write_jsonl(path: Path, rows: Sequence[Row]) -> None:
    """One JSON object a line, with `\\n` on every platform."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Write both files to the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Write the demo data.")
    parser.add_argument("out", type=Path, help="folder for train.jsonl and test.jsonl")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help=f"seed (default {DEFAULT_SEED})")
    options = parser.parse_args(argv)
    train, test = generate(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    write_jsonl(options.out / "train.jsonl", train)
    write_jsonl(options.out / "test.jsonl", test)


if __name__ == "__main__":
    main()
