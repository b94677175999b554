"""`import csv-crm` by the command line: presets, mappings, layouts, filters, refusals, and a training after it."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith.data.load import load

Cli = Callable[..., tiny.Result]
DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "examples" / "customer-systems"
MAPPING = "tickets: {id: t, status: s}\ncomments: {ticket: t, time: at, role: who, body: text}\n"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def imported(cli: Cli, out: Path, *arguments: object) -> dict[str, Any]:
    done = cli("import", "csv-crm", *arguments, "--out", out, "--json")
    assert done.code == 0, done.err
    told: dict[str, Any] = json.loads(done.out)
    return told


def table(path: Path, *content: dict[str, object]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(content[0]))
        writer.writeheader()
        writer.writerows(content)
    return path


def comment(ticket: int, at: int, who: str, text: str, status: str = "closed") -> dict[str, object]:
    return {"t": ticket, "s": status, "at": f"2026-01-{at:02} 10:00", "who": who, "text": text}


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.yaml"
    path.write_text(MAPPING, "utf-8")
    return path


def test_zendesk(tmp_path: Path, cli: Cli) -> None:
    sources = (EXAMPLES / "zendesk-tickets.json", EXAMPLES / "zendesk-users.json")
    told = imported(cli, tmp_path / "rows.jsonl", *sources, "--preset", "zendesk")
    assert told["files"][0]["holds"] == ["tickets", "comments"]
    assert told["tickets"] == {"read": 14, "kept": 13, "left_out": {"no public reply of an agent": 1}}
    assert told["comments"]["left_out"] == {
        "internal note": 4, "written by the customer after the last reply": 2, "automatic message": 1,
    }  # fmt: skip
    assert told["notes"] == []
    made = rows(tmp_path / "rows.jsonl")
    assert made[0]["metadata"] == {
        "subject": "7001", "ticket": "501", "status": "closed", "satisfaction": "good",
        "created": "2026-01-10T09:15:00Z",
    }  # fmt: skip
    assert [m["role"] for m in made[7]["messages"]] == ["user", "assistant", "user", "assistant"]
    whole = json.dumps(made)
    assert not any(word in whole for word in ("Kind regards", "+49", "wrote:", "March had it", "#499", "@"))
    assert load(tmp_path / "rows.jsonl").examples[0].metadata["subject"] == "7001"


def test_zendesk_csv_with_a_file_of_comments_and_no_people(tmp_path: Path, cli: Cli) -> None:
    ticket = {"Id": 1, "Subject": "Lamp", "Requester id": 7, "Requester email": "c@home.example", "Status": "Closed",
              "Created at": "2026-01-05 10:00", "Satisfaction Score": "Good"}  # fmt: skip
    view = table(tmp_path / "view.csv", ticket, ticket | {"Id": 2, "Satisfaction Score": "Not Offered"})
    lines = [
        {"id": n, "ticket_id": t, "author_id": author, "plain_body": text, "public": True,
         "created_at": f"2026-01-05T1{n}:00:00Z"}
        for n, t, author, text in (
            (3, 1, 9, "A"), (1, 1, 7, "Q"), (2, 2, 7, "Q2"), (4, 2, 9, "A2"), (5, 1, -1, "robot"), (6, 3, 9, "x"),
        )
    ]  # fmt: skip
    comments = tiny.write_rows(tmp_path / "comments.jsonl", lines)
    told = imported(
        cli, tmp_path / "rows.jsonl", comments, view, "--preset", "zendesk", "--min-satisfaction", "good",
        "--with-title",
    )  # fmt: skip
    assert told["tickets"]["left_out"] == {
        "no satisfaction rating": 1, "comments of a ticket that no file tells of": 1,
    }  # fmt: skip
    [row] = rows(tmp_path / "rows.jsonl")
    assert [m["content"] for m in row["messages"]] == ["Lamp\n\nQ", "A"]
    assert row["metadata"]["subject"] == "7"
    assert "give the file of people too" in told["notes"][0]


def test_salesforce(tmp_path: Path, cli: Cli) -> None:
    sources = [EXAMPLES / name for name in ("EmailMessage.csv", "CaseComment.csv", "Case.csv", "User.csv")]
    told = imported(cli, tmp_path / "rows.jsonl", *sources, "--preset", "salesforce", "--status", "closed")
    assert (told["rows"], told["notes"]) == (12, [])
    assert told["tickets"]["left_out"] == {"no public reply of an agent": 1, "another status": 1}
    assert told["comments"]["left_out"] == {"internal note": 3, "written by the customer after the last reply": 2}
    assert told["stripped"]["HTML"] > 0
    made = {row["metadata"]["ticket"][3:15]: row for row in rows(tmp_path / "rows.jsonl")}
    lamp, remote = made["000000000501"], made["000000000508"]
    assert lamp["metadata"]["subject"] == "003000000000501AAA"
    assert lamp["messages"][0]["content"].startswith("The desk lamp flickers")
    assert len(lamp["messages"]) == 2  # the description and the first mail are one message
    assert [m["role"] for m in remote["messages"]] == ["user", "assistant", "user", "assistant"]


def test_both_presets_tell_the_same_story(tmp_path: Path, cli: Cli) -> None:
    sources = [EXAMPLES / name for name in ("EmailMessage.csv", "CaseComment.csv", "Case.csv", "User.csv")]
    imported(cli, tmp_path / "s.jsonl", *sources, "--preset", "salesforce")
    imported(cli, tmp_path / "z.jsonl", EXAMPLES / "zendesk-tickets.json", "--preset", "zendesk")
    told = [sorted(json.dumps(r["messages"]) for r in rows(tmp_path / name)) for name in ("s.jsonl", "z.jsonl")]
    assert told[0] == told[1]


def test_flat_comments_in_any_order_and_a_hole(tmp_path: Path, cli: Cli, mapping: Path) -> None:
    source = table(
        tmp_path / "flat.csv",
        comment(2, 4, "agent", "A2"), comment(1, 2, "agent", "A1"), comment(2, 3, "client", "Q2"),
        comment(1, 1, "client", "Q1"), comment(3, 1, "client", "Q3"), comment(3, 2, "agent", "A3"),
        comment(3, 2, "agent", "A4") | {"at": "soon"}, comment(1, 3, "neighbour", "N"),
    )  # fmt: skip
    told = imported(cli, tmp_path / "rows.jsonl", source, "--mapping", mapping)
    assert [[m["content"] for m in r["messages"]] for r in rows(tmp_path / "rows.jsonl")] == [
        ["Q2", "A2"],
        ["Q1", "A1"],
    ]
    assert told["tickets"]["left_out"] == {"a comment of it could not be read": 1}
    assert told["unreadable"]["rows"] == 1
    assert told["unreadable"]["first"][0].startswith("flat.csv:8: 'at' is no time: 'soon'")
    assert any("neighbour (1)" in note for note in told["notes"])
    assert any("every comment counts as public" in note for note in told["notes"])
    assert any("2 rows name no customer" in note for note in told["notes"])


def test_two_files_are_joined_and_packed_ones_read(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "two.yaml").write_text(
        "tickets: {id: id, status: s, customer: who}\n"
        "comments: {ticket: t, id: id, author: by, body: text, order: n}\n",
        "utf-8",
    )
    tickets = table(tmp_path / "tickets.csv", {"id": 1, "s": "closed", "who": "c"})
    lines = [{"t": 1, "id": 12, "by": "a", "text": "A", "n": 2}, {"t": 1, "id": 11, "by": "c", "text": "Q", "n": 1}]
    packed = tmp_path / "comments.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    imported(cli, tmp_path / "rows.jsonl", packed, tickets, "--mapping", tmp_path / "two.yaml")
    [row] = rows(tmp_path / "rows.jsonl")
    assert [m["content"] for m in row["messages"]] == ["Q", "A"]
    assert row["metadata"] == {"subject": "c", "ticket": "1", "status": "closed"}


def test_comments_inside_tickets_as_an_array_and_as_a_cell(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "m.yaml").write_text(
        "tickets: {id: nr, comments: talk}\ncomments: {role: who.is, html: said}\n", "utf-8"
    )
    talk = [{"who": {"is": "client"}, "said": "<p>Q</p>"}, {"who": {"is": "agent"}, "said": "<p>A</p>"}]
    (tmp_path / "a.json").write_text(json.dumps([{"nr": 1, "talk": talk}], indent=1), "utf-8")
    table(tmp_path / "b.csv", {"nr": 2, "talk": json.dumps(talk)}, {"nr": 3, "talk": "[{"})
    told = imported(
        cli, tmp_path / "rows.jsonl", tmp_path / "a.json", tmp_path / "b.csv", "--mapping", tmp_path / "m.yaml"
    )
    assert [[m["content"] for m in r["messages"]] for r in rows(tmp_path / "rows.jsonl")] == [["Q", "A"]] * 2
    assert told["unreadable"]["first"] == ["b.csv:3: 'talk' is not JSON: unexpected end of data"]


def test_a_second_export_of_the_same_tickets_changes_nothing(tmp_path: Path, cli: Cli) -> None:
    source = EXAMPLES / "zendesk-tickets.json"
    once = imported(cli, tmp_path / "once.jsonl", source, "--preset", "zendesk")
    shutil.copy(source, tmp_path / "again.json")
    twice = imported(cli, tmp_path / "twice.jsonl", source, tmp_path / "again.json", "--preset", "zendesk")
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "twice.jsonl").read_bytes()
    assert twice["comments"]["left_out"]["the same comment again"] == once["comments"]["read"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["flat.csv"], 2, ["--preset", "--mapping"]),
        (["flat.csv", "--preset", "zendesc"], 2, ["did you mean 'zendesk'"]),
        (["flat.csv", "--preset", "salesforce"], 3, ["none of the mapping's tables", "'text'", "'who'", "--mapping"]),
        (["flat.csv", "--mapping", "typo.yaml"], 3, ["no status: 'statsu'", "'s'"]),
        (["flat.csv", "--mapping", "key.yaml"], 3, ["key.yaml:2", "did you mean 'body'"]),
        (["flat.csv", "--mapping", "mapping.yaml", "--status", "open"], 3, ["the statuses are 'closed'", "--status"]),
        (["flat.csv", "--mapping", "mapping.yaml", "--min-satisfaction", "4"], 2, ["names no column"]),
        (["absent.csv", "--mapping", "mapping.yaml"], 4, ["no such file"]),
        (["broken.json", "--mapping", "mapping.yaml"], 3, ["broken.json", "invalid JSON"]),
        (["empty.csv", "--mapping", "mapping.yaml"], 3, ["empty"]),
    ],
)
def test_refusals_leave_nothing(
    tmp_path: Path, cli: Cli, mapping: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int,
    says: list[str],
) -> None:  # fmt: skip
    table(tmp_path / "flat.csv", comment(1, 1, "client", "Q"), comment(1, 2, "agent", "A"))
    (tmp_path / "broken.json").write_text('{"t": \n', "utf-8")
    (tmp_path / "empty.csv").write_text("", "utf-8")
    (tmp_path / "typo.yaml").write_text(MAPPING.replace("status: s", "status: statsu"), "utf-8")
    (tmp_path / "key.yaml").write_text(MAPPING.replace("body:", "boody:"), "utf-8")
    monkeypatch.chdir(tmp_path)
    done = cli("import", "csv-crm", *arguments, "--out", "new/rows.jsonl")
    assert done.code == code, done.err
    assert [word for word in says if word not in done.err] == []
    assert not (tmp_path / "new").exists()


def test_an_output_is_never_replaced(tmp_path: Path, cli: Cli, mapping: Path) -> None:
    source = table(tmp_path / "flat.csv", comment(1, 1, "client", "Q"), comment(1, 2, "agent", "A"))
    before = source.read_bytes()
    assert cli("import", "csv-crm", source, "--mapping", mapping, "--out", source).code == 2
    (tmp_path / "rows.jsonl").write_text("mine", "utf-8")
    done = cli("import", "csv-crm", source, "--mapping", mapping, "--out", tmp_path / "rows.jsonl")
    assert done.code == 6, done.err
    assert ((tmp_path / "rows.jsonl").read_text("utf-8"), source.read_bytes()) == ("mine", before)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["flat.csv", "mapping.yaml", "rows.jsonl"]


def _commands() -> Iterator[list[str]]:
    for block in re.findall(r"```sh\n(.*?)```", (DOCS / "customer-systems.md").read_text("utf-8"), flags=re.DOTALL):
        yield from (shlex.split(line) for line in block.splitlines() if line.startswith("tunesmith "))


def test_the_commands_of_the_docs_work(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "customer-systems.md").read_text("utf-8")
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    columns = [line.split("#")[0].rstrip() for line in page.split("```yaml\n")[2].split("```")[0].splitlines()]
    written = [
        line for line in (tmp_path / "helpdesk.yaml").read_text("utf-8").splitlines() if not line.startswith("#")
    ]
    assert columns == written
    with (tmp_path / "Case.csv").open(encoding="utf-8") as file:
        cases = list(csv.DictReader(file))
    table(tmp_path / "Case.csv", *({**case, "Rating__c": "Good"} for case in cases))
    (tmp_path / "mine.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], "utf-8")
    commands = list(_commands())
    assert len(commands) == 5
    for words in commands:
        done = cli(*words[1:])
        assert done.code == 0, (words, done.err)
        if "zendesk.jsonl" in words and "import" in words:
            assert done.out.strip() in page


def test_imported_rows_train(tmp_path: Path, cli: Cli, base: Path) -> None:
    imported(cli, tmp_path / "z.jsonl", EXAMPLES / "zendesk-tickets.json", "--preset", "zendesk")
    recipe = tiny.write_task(tmp_path, base)
    values = json.loads(recipe.read_text("utf-8"))
    values["data"] = {
        "train": "z.jsonl", "validation": 0, "on_long": "truncate", "personal_data": "mask", "subject": "subject",
    }  # fmt: skip
    values["training"] = values.get("training", {}) | {"max_steps": 2}
    recipe.write_text(json.dumps(values), "utf-8")
    done = cli("train", recipe, "--out", tmp_path / "run")
    assert done.code == 0, done.err
