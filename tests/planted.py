"""Two made-up tasks whose best way is known: one whose facts change after training, and one that is a form alone.

**Stock.** A warehouse's documents say in which hall each thing is kept, and every week things are moved. Training rows
are of the weeks before: questions with that week's passages, and questions alone with the last week's answers. The test
asks after the next move. A model alone can only say what it has learned; what is right stands in the documents.

**Bookings.** A sentence becomes a line of fields. All that is asked for stands in the sentence; the documents are about
something else.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.data.contexts import ContextPlan
from tunesmith.data.load import load
from tunesmith.pipelines import with_context

THINGS = (
    "lantern", "ladder", "kettle", "bucket", "carpet", "basket", "mirror", "bench", "curtain", "wagon", "drum",
    "saddle", "anchor", "barrel", "candle", "hammer", "shovel", "violin", "pillow", "statue", "clock", "tent",
    "rope", "bell", "spade", "sofa", "desk", "stove", "lamp", "chest", "flag", "globe", "piano", "razor", "scale",
    "tray", "umbrella", "vase", "wheel", "net",
)  # fmt: skip
PLACES = ("north", "south", "river", "garden", "market", "castle", "forest", "harbor", "summer", "winter", "silver",
          "golden", "upper", "lower", "white", "green")  # fmt: skip
ASKED = ("Which hall holds the {}?", "Where is the {} kept?", "Where do I find the {}?", "Look up the hall of the {}.")
ASKED_IN_TEST = ("In which hall is the {} now?", "Tell me where the {} is kept.")

ROOMS = ("Elm", "Birch", "Harbour", "Gallery", "Attic", "Orchard", "Mill", "Terrace")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
PEOPLE = ("Dana", "Igor", "Meera", "Paul", "Rosa", "Tomas", "Wen", "Yusuf", "Lena", "Carl")
BOOKED = (
    "{who} needs the {room} room on {day} at {hour}:00 for {count} people.",
    "Could you book {room} for {who}? {day}, {hour} o'clock, {count} of us.",
    "On {day} from {hour}:00 {count} guests of {who} meet in the {room} room.",
    "{room}, {day}, {hour}:00, {count} seats, please. Thanks, {who}",
)
HANDBOOK = (
    ("Parking", "Visitors park behind the main house. Bicycles are locked at the fence and not in the hall."),
    ("Lunch", "The kitchen is open from noon to two. Cups go back to the rack by the window."),
    ("Keys", "Keys are signed for at the front desk. A lost key is reported on the same day."),
    ("Heating", "Windows stay shut while the heating is on. The caretaker sets it, nobody else."),
    ("Post", "Letters are sorted by eleven. Parcels wait in the cage under the stairs for a week."),
)


@dataclass(frozen=True)
class Task:
    """A recipe and the documents that stand beside it."""

    recipe: Path
    documents: Path


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def _recipe(folder: Path, name: str, training: dict[str, Any], max_tokens: int, seed: int) -> Path:
    recipe = {
        "name": name, "seed": seed, "base": "bundled/tunesmith-8m",
        "data": {"train": "train.jsonl", "validation": 0.05, "test": "test.jsonl"},
        "adapter": {"type": "lora", "r": 16, "alpha": 32}, "training": training,
        "evaluation": {"metrics": ["exact_match"], "max_tokens": max_tokens},
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(recipe, indent=1), "utf-8")
    return path


def _said(hall: str) -> str:
    return f"hall: {hall}"  # the tokens that stand in the document, so that to copy them is all there is to learn


STOCK: dict[str, Any] = {"epochs": 6, "batch_size": 8, "learning_rate": 0.002}
BOOKINGS: dict[str, Any] = {"epochs": 4, "batch_size": 16, "learning_rate": 0.002}
"""Two minutes of training on a core, or less."""


def stock(folder: Path, *, weeks: int = 6, seed: int = 1, **training: Any) -> Task:
    """Facts that change after training: test questions for each thing, on the week after the last one of `weeks`."""
    draw = random.Random(seed)
    train: list[dict[str, Any]] = []
    halls: dict[str, str] = {}
    for week in range(weeks + 1):
        halls = {name: draw.choice([hall for hall in PLACES if hall != halls.get(name)]) for name in THINGS}
        documents = folder / f"week-{week}"
        _stock_list(documents, halls)
        if week < weeks:
            asked = {name: (draw.choice(ASKED), halls[name]) for name in THINGS}
            train += _with_passages(folder, documents, week, asked)
        if week == weeks - 1:
            train += _alone(ASKED, halls)
    _write(folder / "train.jsonl", [_chat(row) for row in train])
    _write(folder / "test.jsonl", [_chat(row) for row in _alone(ASKED_IN_TEST, halls)])
    return Task(_recipe(folder, "stock", STOCK | training, 16, seed), folder / f"week-{weeks}")


def _alone(asked: tuple[str, ...], halls: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"question": text.format(name), "answer": _said(hall)} for name, hall in halls.items() for text in asked
    ]  # fmt: skip


def _stock_list(documents: Path, halls: dict[str, str]) -> None:
    """A file for each thing."""
    documents.mkdir(parents=True)
    for name, hall in halls.items():
        (documents / f"{name}.md").write_text(f"The {name} is kept in hall {hall}.\n", "utf-8")


def _with_passages(folder: Path, documents: Path, week: int, asked: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """A week's questions with that week's passages, as `tunesmith data with-context` makes them."""
    rows = [{"question": text.format(name), "answer": _said(hall)} for name, (text, hall) in asked.items()]
    made = folder / f"with-context-{week}.jsonl"
    plan = ContextPlan(passages=3, unanswerable=0.0, seed=week)
    with_context.build(_write(folder / f"asked-{week}.jsonl", rows), [documents], made, plan, words=100)
    return [{"question": row.prompt()[0].content, "answer": row.answer()} for row in load(made).examples]


def _chat(row: dict[str, Any]) -> dict[str, Any]:
    said = (("user", row["question"]), ("assistant", row["answer"]))
    return {"messages": [{"role": role, "content": text} for role, text in said]}


def bookings(folder: Path, *, count: int = 500, rows: int = 80, seed: int = 1, **training: Any) -> Task:
    """A task that is a form: `count` training rows, `rows` test rows of other bookings."""
    made: dict[str, str] = {}
    draw = random.Random(seed)
    while len(made) < count + rows:
        fields: dict[str, Any] = {
            "who": draw.choice(PEOPLE), "room": draw.choice(ROOMS), "day": draw.choice(DAYS),
            "hour": draw.randint(8, 18), "count": draw.randint(2, 40),
        }  # fmt: skip
        line = "room={room}; day={day}; hour={hour}; people={count}; for={who}".format(**fields)
        made[draw.choice(BOOKED).format(**fields)] = line
    chats = [_chat({"question": asked, "answer": said}) for asked, said in made.items()]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "train.jsonl", chats[:count])
    _write(folder / "test.jsonl", chats[count:])
    documents = folder / "handbook"
    documents.mkdir()
    for title, text in HANDBOOK:
        (documents / f"{title.lower()}.md").write_text(f"# {title}\n\n{text}\n", "utf-8")
    return Task(_recipe(folder, "bookings", BOOKINGS | training, 48, seed), documents)
