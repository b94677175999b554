"""Columns, mappings, filters, the store on disk, and how comments become turns."""

import pytest

from tunesmith.core.errors import ContentError, MissingError, OutputError, UsageError
from tunesmith.data.formats.base import RowError
from tunesmith.data.tickets import PRESETS, columns
from tunesmith.data.tickets.conversation import Builder
from tunesmith.data.tickets.filters import filters
from tunesmith.data.tickets.mapping import CommentTable, Mapping, PeopleTable, TicketTable
from tunesmith.data.tickets.records import LONGEST, Comment, Ticket, comment_of
from tunesmith.data.tickets.store import MOST_COMMENTS, Store
from tunesmith.pipelines.read_mapping import read_mapping

PLAIN = Mapping(tickets={"id": "t", "status": "s", "satisfaction": "r"}, comments={"ticket": "t", "body": "b"})


def built(comments, ticket=None, people=None, **more):
    """(roles and texts, counts) of a ticket of customer c."""
    builder = Builder(
        Mapping(**{"comments": {"ticket": "t", "body": "b"}} | more), lambda id: (people or {}).get(id, ("", ""))
    )
    messages = builder.messages(ticket or Ticket("1", customer="c"), comments)
    return messages and [(m.role, m.content) for m in messages], builder.counts


def test_columns_are_found_by_name_and_inside_objects():
    row = {"a": {"b": 1, "c": None}, "a.d": "x", "e": "", "f": 2.0, "g": None, "n": [3, "4", None]}
    assert columns.text(row, ("a.b",)) == "1"
    assert columns.text(row, ("a.d",)) == "x"
    assert columns.text(row, ("e", "a.c", "f")) == "2"
    assert columns.texts(row, ("n", "a.b")) == ("3", "4", "1")
    assert columns.has(row, ("g.anything",))
    assert not columns.has(row, ("a.z", "z"))
    assert columns.text({"a": True}, ("a",)) == "true"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (True, True),
        ("1", True),
        ("Public", True),
        ("no", False),
        (0, False),
        ("internal", False),
        ("?", None),
        ("", None),
    ],
)
def test_flags(said, meant):
    assert columns.flag({"f": said}, ("f",)) is meant


@pytest.mark.parametrize(
    "said",
    ["2026-03-05T10:15:00Z", "2026-03-05 10:15:00 UTC", "2026-03-05T11:15:00+01:00", "2026-03-05T10:15:00.000+0000",
     1772705700, "1772705700", 1772705700000],
)  # fmt: skip
def test_times_are_one_moment(said):
    assert columns.time({"t": said}, ("t",), None) == 1772705700.0


def test_times_in_a_form_of_their_own():
    assert columns.time({"t": "05.03.2026 10:15"}, ("t",), "%d.%m.%Y %H:%M") == 1772705700.0
    with pytest.raises(RowError, match="time_format"):
        columns.time({"t": "05.03.2026 10:15"}, ("t",), None)
    with pytest.raises(RowError, match="no time"):
        columns.time({"t": "2026-03-05"}, ("t",), "%d.%m.%Y")


def test_a_comment_without_its_time_is_a_bad_row():
    with pytest.raises(RowError, match="no time in 'at'"):
        comment_of({"at": "", "b": "x"}, CommentTable(time="at", body="b"), None)


@pytest.mark.parametrize(
    ("row", "public"),
    [
        ({"p": "1"}, True),
        ({"p": "0"}, False),
        ({"p": ""}, None),
        ({"p": "1", "i": "yes"}, False),
        ({"p": "1", "i": "x"}, None),
    ],
)
def test_public_and_private_must_agree(row, public):
    table = CommentTable(public="p", private="i") if "i" in row else CommentTable(public="p")
    assert comment_of(row, table, None).public is public


def test_a_conversation_begins_with_the_customer_and_ends_with_an_agent():
    made, counts = built(
        [Comment(author="a", body="Hi"), Comment(author="c", body="One"), Comment(author="c", body="Two"),
         Comment(author="a", body="Three"), Comment(author="b", body="Four"), Comment(author="c", body="Bye")]
    )  # fmt: skip
    assert made == [("user", "One\n\nTwo"), ("assistant", "Three\n\nFour")]
    assert +counts.comments == {
        "written by an agent before the customer": 1, "written by the customer after the last reply": 1,
    }  # fmt: skip
    assert counts.assumed == 3


@pytest.mark.parametrize(
    ("comments", "reason"),
    [
        ([Comment(author="c", body="x")], "no public reply of an agent"),
        ([Comment(author="c", body="x"), Comment(author="a", body="y", public=False)], "no public reply of an agent"),
        ([Comment(author="a", body="y")], "no message of the customer"),
        (
            [Comment(author="a", body="y"), Comment(author="c", body="x")],
            "no reply of an agent behind the customer's message",
        ),
        ([], "no public reply of an agent"),
    ],
)
def test_tickets_without_a_reply_are_counted(comments, reason):
    made, counts = built(comments)
    assert made is None
    assert counts.tickets == {reason: 1}


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        (Comment(author="a", body="N", public=False), "internal note"),
        (Comment(author="a", body="N", public=None), "not said to be public or internal"),
        (Comment(author="a", body="N", automated=True), "automatic message"),
        (Comment(author="a", role="BOT", body="N"), "automatic message"),
        (Comment(author="a", body="This is an automated message."), "automatic message"),
        (Comment(author="a", body="N", left_out=True), "left out by the mapping"),
        (Comment(author="a", body="> N\n> N"), "nothing left but quoted mail and signature"),
        (Comment(author="a"), "empty"),
        (Comment(author="a", body="N" * (LONGEST + 1)), "longer than 200,000 letters"),
        (Comment(author="copied", body="N"), "written by nobody that is known to be an agent or the customer"),
        (Comment(body="N"), "written by nobody that is known to be an agent or the customer"),
        (
            Comment(author="a", role="partner", body="N"),
            "written by nobody that is known to be an agent or the customer",
        ),
        (Comment(id="2", author="a", body="N"), "the same comment again"),
    ],
)
def test_comments_that_are_left_out(comment, reason):
    ticket = Ticket("1", customer="c", copied=("copied",))
    made, counts = built(
        [Comment(id="1", author="c", body="Q"), Comment(id="2", author="a", body="A"), comment], ticket
    )
    assert made == [("user", "Q"), ("assistant", "A")]
    assert +counts.comments == {reason: 1}


@pytest.mark.parametrize(
    ("comment", "people", "side"),
    [
        (Comment(incoming=True, author="a", body="x"), {"a": ("agent", "")}, "user"),
        (Comment(incoming=False, author="c", body="x"), {}, "assistant"),
        (Comment(author="c", body="x"), {"c": ("agent", "")}, "user"),
        (Comment(email="C@home.example", body="x"), {}, "user"),
        (Comment(author="p", body="x"), {"p": ("Agent", "")}, "assistant"),
        (Comment(author="p", body="x"), {"p": ("end-user", "")}, "user"),
        (Comment(author="p", role="client", body="x"), {"p": ("agent", "")}, "user"),
        (Comment(author="boss", body="x"), {}, "assistant"),
        (Comment(author="p", role="partner", body="x"), {}, None),
    ],
)
def test_whose_a_comment_is(comment, people, side):
    ticket = Ticket("1", customer="c", customer_email="c@home.example", assignee="boss")
    others = [Comment(incoming=True, body="Q"), Comment(incoming=False, body="A")]
    made, _ = built([*others, comment, Comment(incoming=False, body="Z")], ticket, people, others="unknown")
    texts = {"user": [c for r, c in made if r == "user"], "assistant": [c for r, c in made if r == "assistant"]}
    assert [name for name, found in texts.items() if any("x" in text for text in found)] == ([side] if side else [])


def test_the_tickets_own_message_comes_first_but_not_twice():
    answer = Comment(incoming=False, body="A")
    ticket = Ticket("1", body="My lamp\nis dark.\n\nBest regards,\nMira")
    assert built([answer], ticket)[0] == [("user", "My lamp\nis dark."), ("assistant", "A")]
    mailed = Comment(incoming=True, body="Hello, my lamp\nMy lamp is dark. Help!")
    assert built([mailed, answer], ticket)[0] == [("user", mailed.body), ("assistant", "A")]


def test_system_message_and_title():
    builder = Builder(PLAIN, lambda _: ("", ""), "Be kind.", with_title=True)
    made = builder.messages(
        Ticket("1", title="Lamp"), [Comment(incoming=True, body="Dark."), Comment(incoming=False, body="A")]
    )
    assert [(m.role, m.content) for m in made or ()] == [
        ("system", "Be kind."), ("user", "Lamp\n\nDark."), ("assistant", "A"),
    ]  # fmt: skip


def test_an_agents_name_at_the_end_goes():
    people = {"a": ("agent", "Mira Holt")}
    made, counts = built([Comment(author="c", body="Q"), Comment(author="a", body="It ships.\n\nMira")], people=people)
    assert made == [("user", "Q"), ("assistant", "It ships.")]
    assert counts.taken == {"signature": 1}


def test_the_store_puts_comments_of_any_order_together(tmp_path):
    out = tmp_path / "rows.jsonl"
    with Store(out) as store:
        for number in (5, 1, 4, 2, 3):
            store.add_comment(f"t{number % 2}", Comment(time=float(number), body=str(number)))
        store.add_ticket(Ticket("t1", status="open", copied=("x",)))
        store.add_ticket(Ticket("t1", status="closed"))
        store.add_person("a", "agent", "A")
        store.mark_broken("t0")
        found = {g.ticket.id: g for g in store.tickets()}
        assert [f.stat().st_mode & 0o077 for f in tmp_path.iterdir()] == [0]
        assert (store.person("a"), store.person("b")) == (("agent", "A"), ("", ""))
    assert [c.body for c in found["t1"].comments] == ["1", "3", "5"]
    assert [c.body for c in found["t0"].comments] == ["2", "4"]
    assert found["t1"].ticket == Ticket("t1", status="closed", copied=("x",))
    assert (found["t1"].known, found["t0"].known, found["t0"].broken) == (True, False, True)
    assert list(tmp_path.iterdir()) == []


def test_the_store_keeps_a_bounded_number_of_comments(tmp_path):
    with Store(tmp_path / "x") as store:
        for _ in range(MOST_COMMENTS + 1):
            store.add_comment("t", Comment(body="b"))
        [found] = store.tickets()
    assert found.too_many
    assert len(found.comments) == MOST_COMMENTS


def test_the_store_says_where_it_cannot_write(tmp_path):
    with pytest.raises(OutputError, match="cannot write"), Store(tmp_path / "absent" / "x"):
        pass


def test_a_store_that_finds_no_room_is_an_output_error_and_leaves_nothing(tmp_path):
    with Store(tmp_path / "rows.jsonl") as store:
        store._base.execute("PRAGMA max_page_count = 20")  # SQLite says of both that the disk is full
        with pytest.raises(OutputError) as raised:
            store.add_comment("1", Comment(body="x" * 1_000_000))
    assert (raised.value.why, raised.value.exit_code) == ("the disk is full", 7)
    assert list(tmp_path.iterdir()) == []


def test_filters_take_days_statuses_and_ratings():
    scale = PLAIN.model_copy(update={"satisfaction_scale": ("bad", "good")})
    wanted = filters(scale, statuses=["Solved,closed"], satisfaction="good", since="2026-01-02", until="2026-01-03")
    day = 86400.0
    first = 1767225600.0  # 2026-01-01
    good = Ticket("1", status="SOLVED", satisfaction="Good")
    assert wanted.refusal(good, first + day) == wanted.refusal(good, first + 3 * day - 1) == ""
    assert wanted.refusal(good, first + day - 1) == wanted.refusal(good, first + 3 * day) == "another date"
    assert wanted.refusal(good, None) == "no date"
    assert wanted.refusal(Ticket("1", status="open", satisfaction="good"), first + day) == "another status"
    assert (
        wanted.refusal(Ticket("1", status="closed", satisfaction="bad"), first + day) == "a lower satisfaction rating"
    )
    assert wanted.refusal(Ticket("1", status="closed", satisfaction="offered"), first) == "no satisfaction rating"
    numbers = filters(PLAIN, satisfaction="4")
    assert [numbers.refusal(Ticket("1", satisfaction=said), None) for said in ("4", "5.0", "3.9", "good")] == [
        "", "", "a lower satisfaction rating", "no satisfaction rating",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"satisfaction": "goood"}, "good"), ({"since": "yesterday"}, "--since"), ({"until": "2026-02-30"}, "--until")],
)
def test_filters_that_cannot_be_meant(asked, says):
    scale = PLAIN.model_copy(update={"satisfaction_scale": ("bad", "good")})
    with pytest.raises(UsageError, match=says):
        filters(scale, **asked)
    bare = Mapping(comments={"ticket": "t", "body": "b"})
    for more in ({"satisfaction": "4"}, {"statuses": ["x"]}):
        with pytest.raises(UsageError, match="names no column"):
            filters(bare, **more)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    assert read_mapping(name, None).lenient


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("comments:\n  ticket: t\n  boddy: b\n", 3, "did you mean 'body'"),
        ("commments: {ticket: t}\n", 1, "did you mean 'comments'"),
        ("tickets: {id: t}\n", None, "'comments' is missing"),
        ("comments: {ticket: t, body: b}\nothers: maybe\n", 2, "'others'"),
        ("comments: {ticket: t, body: b}\ntickets:\n  status: s\n", None, "'tickets.id' is missing"),
        ("comments: [1", 1, "not valid YAML"),
        ("- 1\n", 1, "holds no mapping"),
    ],
)
def test_a_mapping_with_errors_says_where(tmp_path, text, line, says):
    path = tmp_path / "mapping.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ContentError) as raised:
        read_mapping(None, path)
    assert says in str(raised.value)
    assert line is None or f"mapping.yaml:{line}" in str(raised.value.where)


def test_a_mapping_is_laid_over_a_preset(tmp_path):
    path = tmp_path / "more.yaml"
    path.write_text("tickets: {satisfaction: Rating__c}\nsatisfaction_scale: [poor, good]\n", "utf-8")
    laid = read_mapping("salesforce", path)
    assert [(table.id, table.satisfaction) for table in laid.tickets] == [(("Id",), ("Rating__c",))]
    assert laid.satisfaction_scale == ("poor", "good")
    path.write_text("\ntickets: {satisfactoin: Rating__c}\n", "utf-8")
    with pytest.raises(ContentError, match="did you mean 'satisfaction'") as raised:
        read_mapping("salesforce", path)
    assert str(raised.value.where).endswith("more.yaml:2")


def test_which_mapping_is_asked_for(tmp_path):
    with pytest.raises(UsageError, match="--preset"):
        read_mapping(None, None)
    with pytest.raises(UsageError, match="did you mean 'zendesk'"):
        read_mapping("zendes", None)
    with pytest.raises(MissingError, match="no such mapping"):
        read_mapping(None, tmp_path / "absent.yaml")


def test_the_docs_name_every_key_of_a_mapping():
    from test_docs import ROOT

    page = (ROOT / "docs/customer-systems.md").read_text("utf-8")
    tables = {"tickets": TicketTable, "comments": CommentTable, "people": PeopleTable}
    keys = [f"{name}.{key}" for name, table in tables.items() for key in table.model_fields]
    keys += [key for key in Mapping.model_fields if key not in tables]
    assert [key for key in keys if f"`{key}`" not in page] == []
