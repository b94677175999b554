"""The report: what it must say, what it must escape, and what it must never load."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from pydantic import ValidationError

from tunesmith.report import (
    AuditFacts,
    BaselineFacts,
    CostFacts,
    FileFacts,
    FindingFacts,
    ForgettingFacts,
    GateReason,
    LossCurves,
    MetricFacts,
    NextCommand,
    OutcomeCounts,
    OverfittingFacts,
    PhaseTime,
    ReportFacts,
    RowFacts,
    SliceFacts,
    TokenFacts,
    WaysFacts,
    render,
)
from tunesmith.report.charts import MAX_POINTS, loss_chart, metric_chart, smooth, thin
from tunesmith.report.rows import CLIP_LENGTHS, MAX_ROWS, TEXT_BUDGET, arrange
from tunesmith.report.wording import caveats, change, duration, number, verdict

ATTACK = "<script>alert('x')</script><img src=http://evil.example/a.png onerror=alert(1)>\u2028&amp;"
EXACT = MetricFacts(name="exact_match", base=0.41, tuned=0.883, ci95=(0.412, 0.53))


def row(index: int, outcome: str = "win", **changes: object) -> RowFacts:
    base, tuned = {"win": (0, 1), "loss": (1, 0), "tie_right": (1, 1), "tie_wrong": (0, 0)}[outcome]
    fields = {
        "index": index,
        "source": f"test.jsonl:{index}",
        "prompt": f"Which queue is ticket {index} for?",
        "reference": '{"queue": "billing"}',
        "base_answer": "It seems to be about money.",
        "tuned_answer": '{"queue": "billing"}',
        "base_score": base,
        "tuned_score": tuned,
        "outcome": outcome,
        "slices": {"language": "de"},
    }
    return RowFacts.model_validate(fields | changes)


def facts(**changes: object) -> ReportFacts:
    """A whole report of four rows, one of each outcome; `changes` replace fields."""
    fields = {
        "name": "ticket-router",
        "run_id": "20261121-a41f",
        "created": "2026-11-21T14:31:07Z",
        "verdict": "pass",
        "reasons": [GateReason(ok=True, text="gain of exact_match: lower bound +41.2 points, needs +20.0")],
        "base_name": "bundled/tunesmith-8m",
        "method": "supervised fine-tuning",
        "adapter": "LoRA r=16",
        "test_rows": 4,
        "metrics": [
            EXACT,
            MetricFacts(name="loss", base=2.9, tuned=0.2, ci95=(-3, -2.4), higher_is_better=False, unit="nats"),
        ],
        "slices": [SliceFacts(field="language", value="de", rows=4, metrics=[EXACT])],
        "baselines": [BaselineFacts(name="nearest neighbour", metric="exact_match", score=0.52)],
        "forgetting": ForgettingFacts(base_loss=2.913, tuned_loss=2.934, limit=0.1, rows=200, tokens=41_223),
        "overfitting": OverfittingFacts(
            verdict="mild",
            best_step=20,
            last_step=30,
            best_validation_loss=0.5,
            last_validation_loss=0.6,
            last_train_loss=0.2,
            explanation="Lowest at step 20, so step 20 was kept.",
        ),
        "curves": LossCurves(
            train=[(step, 3 / step) for step in range(1, 31)],
            validation=[(10, 0.9), (20, 0.5), (30, 0.6)],
            kept_step=20,
        ),
        "row_metric": "exact_match",
        "outcomes": OutcomeCounts(wins=1, losses=1, ties_right=1, ties_wrong=1),
        "rows": [row(1, "win"), row(2, "loss"), row(3, "tie_right"), row(4, "tie_wrong")],
        "audit": AuditFacts(
            files=[
                FileFacts(
                    path="t.jsonl",
                    role="train",
                    rows=512,
                    accepted=509,
                    rejected=3,
                    format="chat",
                    sha256="9f" * 32,
                )
            ],
            findings=[
                FindingFacts(
                    code="personal-data",
                    severity="warn",
                    count=17,
                    message="e-mail addresses",
                    mend="set pii: mask",
                    examples=["t.jsonl:4"],
                )
            ],
            tokens=TokenFacts(
                rows=509,
                tokens=48_211,
                labelled_tokens=12_044,
                length_p50=88,
                length_p95=161,
                length_max=402,
                truncated_rows=3,
            ),
        ),
        "recipe_yaml": "name: ticket-router\nseed: 7\n",
        "versions": {"torch": "2.13.0"},
        "fingerprints": {"data": "sha256:5d41"},
        "machine": {"cpu": "2 cores"},
        "times": [PhaseTime(phase="train", seconds=512)],
        "cost": CostFacts(
            wall_seconds=1800,
            trained_tokens=144_633,
            tokens_per_second=282,
            peak_memory_mib=913,
            price_per_hour=3.0,
        ),
        "next_commands": [NextCommand(what="Serve it", command="tunesmith serve runs/x --port 8000")],
    }
    return ReportFacts.model_validate(fields | changes)


class Page(HTMLParser):
    """Reads a page into (tag, attributes) pairs, its visible text, and the text of style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inlined: dict[str, list[str]] = {"style": [], "script": []}
        self._in = ""
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag in self.inlined:
            self.inlined[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in self.inlined:
            self.inlined[self._in][-1] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def policy(self) -> str:
        return next(m["content"] for m in self.all("meta") if m.get("http-equiv") == "Content-Security-Policy")


@pytest.mark.parametrize(
    "hostile",
    [
        {"rows": [row(1, tuned_answer=ATTACK)]},
        {"rows": [row(1, base_answer=ATTACK)]},
        {"rows": [row(1, prompt=ATTACK)]},
        {"rows": [row(1, reference=ATTACK, source=ATTACK)]},
        {"rows": [row(1, slices={ATTACK: ATTACK})]},
        {"recipe_yaml": ATTACK},
        {"name": ATTACK, "run_id": ATTACK, "base_name": ATTACK, "method": ATTACK, "adapter": ATTACK},
        {"metrics": [EXACT.model_copy(update={"name": ATTACK})]},
        {"slices": [SliceFacts(field=ATTACK, value=ATTACK, rows=4, metrics=[EXACT])]},
        {"audit": AuditFacts(findings=[FindingFacts(code=ATTACK, severity="info", count=1, message=ATTACK)])},
        {"next_commands": [NextCommand(what=ATTACK, command=ATTACK)], "machine": {ATTACK: ATTACK}},
    ],
    ids="+".join,
)
def test_foreign_text_stays_text(hostile: dict[str, object]) -> None:
    html = render(facts(**hostile))
    page = Page(html)
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_a_metric_name_in_a_chart_is_neither_mathematics_nor_markup() -> None:
    drawing = metric_chart([EXACT.model_copy(update={"name": "$F_1$ <b>\x07 得点"})])
    assert len(re.findall(r"<text [^>]*>\$F_1\$ &lt;b&gt;\x07 得点</text>", drawing)) == 2


def test_the_page_loads_nothing() -> None:
    page = Page(render(facts(rows=[row(1, tuned_answer="see https://example.com")])))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert "url(" not in page.inlined["style"][0]
    assert "@import" not in page.inlined["style"][0]


def test_the_policy_names_exactly_the_inlined_style_and_script() -> None:
    page = Page(render(facts()))
    assert page.policy.startswith("default-src 'none'; ")
    assert "unsafe" not in page.policy
    for tag, source in (("style", "style-src"), ("script", "script-src")):
        (text,) = page.inlined[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}';" in page.policy
    # Such a policy silently drops style attributes and handlers, so there must be none.
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag


def test_equal_facts_give_an_equal_page() -> None:
    assert render(facts()) == render(facts())


def test_facts_survive_json() -> None:
    assert render(ReportFacts.model_validate_json(facts().model_dump_json())) == render(facts())


def test_a_passing_page_says_ship_it_with_the_figures() -> None:
    page = Page(render(facts()))
    assert "Ship it: exact_match rises from 41.0% to 88.3% on 4 held-out rows" in page.text
    assert "(+47.3 points, 95% interval +41.2 to +53.0), and the gate's one condition holds." in page.text
    assert "Do not ship" not in page.text
    for figure in (
        "+0.021, within the limit of 0.100",
        "Mild overfitting",
        "nearest neighbour",
        "+36.3 points",
    ):
        assert figure in page.text
    for figure in (
        "30 min 00 s",
        "1.50 USD",
        "12,044 (25.0%)",
        "9f" * 32,
        "seed: 7",
        "tunesmith serve runs/x",
    ):
        assert figure in page.text


def test_a_failing_page_says_so_and_why() -> None:
    failed = GateReason(ok=False, text="forgetting is 0.300 nats, limit 0.100")
    page = Page(render(facts(verdict="fail", reasons=[*facts().reasons, failed])))
    assert "Do not ship: " in page.text
    assert "1 of 2 gate conditions fails: forgetting is 0.300 nats, limit 0.100." in page.text
    assert "Fails: forgetting is 0.300 nats" in page.text
    assert "Ship it" not in page.text


def test_a_verdict_must_agree_with_the_gate() -> None:
    with pytest.raises(ValidationError, match='verdict is "fail" but all conditions hold'):
        facts(verdict="fail")
    with pytest.raises(ValidationError, match='verdict is "pass" but not all conditions hold'):
        facts(reasons=[GateReason(ok=False, text="no")])
    with pytest.raises(ValidationError, match="reasons"):
        facts(reasons=[])


def test_outcomes_must_add_up_to_the_test() -> None:
    with pytest.raises(ValidationError, match="outcomes sum to 4 rows, the test has 5"):
        facts(test_rows=5)


def test_facts_are_frozen_and_closed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        facts().name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        facts(colour="red")


def test_a_page_of_the_least_facts_says_what_is_missing() -> None:
    empty = {
        "slices": [],
        "baselines": [],
        "rows": [],
        "next_commands": [],
        "times": [],
        "audit": AuditFacts(),
    }
    none = {"forgetting": None, "overfitting": None, "cost": None, "curves": LossCurves()}
    bare = {"versions": {}, "fingerprints": {}, "machine": {}}
    outcomes = OutcomeCounts(wins=4, losses=0, ties_right=0, ties_wrong=0)
    page = Page(render(facts(**empty, **none, **bare, outcomes=outcomes)))
    assert "Not measured: this run compared no loss on general text" in page.text
    assert "Forgetting was not measured." in page.text
    assert "No row got worse than with the base." in page.text
    assert "The audit found nothing to report." in page.text
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert not ids & {"slices", "next", "row-filter"}
    assert {link["href"][1:] for link in page.all("a")} <= ids


def test_the_kept_step_is_marked() -> None:
    drawing = loss_chart(facts().curves)
    assert drawing.count("kept: step 20") == 2  # one drawing for a desk, one for a phone
    assert "The kept checkpoint is step 20." in drawing
    assert "kept" not in loss_chart(LossCurves(train=[(1, 2.0), (2, 1.0)]))


def test_curves_without_validation_or_with_nan_are_drawn() -> None:
    drawing = loss_chart(LossCurves(train=[(1, 2.0), (2, float("nan")), (3, 1.0)], kept_step=3))
    assert "training" in drawing
    assert ">- ● - validation<" not in drawing
    assert "nan" not in drawing
    assert loss_chart(LossCurves(train=[(1, float("inf"))])) == ""


def test_charts_are_named_for_screen_readers_and_their_ids_are_unique() -> None:
    page = Page(render(facts()))
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    charts = page.all("svg")
    assert len(charts) == 4
    for chart in charts:
        assert chart["role"] == "img"
        assert set(chart["aria-labelledby"].split()) <= set(ids)
        assert "viewbox" in chart
        assert "width" not in chart


def test_only_shares_stand_on_the_percent_axis() -> None:
    loss = facts().metrics[1]
    assert metric_chart([loss]) == ""
    assert "41.0% → 88.3%" in metric_chart([EXACT, loss])


def test_every_table_has_a_caption_and_headers() -> None:
    tables = re.findall(r"<table.*?</table>", render(facts()), re.DOTALL)
    assert len(tables) == 12
    for table in tables:
        head, body = table.split("<tbody", 1)
        columns = head.count('<th scope="col"')
        assert "<caption>" in head
        for line in re.findall(r"<tr>.*?</tr>", body, re.DOTALL):
            assert line.count('<th scope="row"') == 1
            assert line.count('<th scope="row"') + line.count("<td") == columns


def test_rows_are_grouped_worst_first_and_know_their_slices() -> None:
    rows = [row(1, "win"), row(2, "loss", slices={"language": "en", "queue": "a=b"}), row(3, "tie_right")]
    view = arrange(rows)
    assert [group.outcome for group in view.groups] == ["loss", "win", "tie_right"]
    assert view.slices == ("language=de", "language=en", "queue=a=b")
    assert view.groups[0].rows[0].slice_ids == "1 2"


def test_the_page_keeps_to_its_budget_and_says_what_it_leaves_out() -> None:
    long = [row(index, "tie_right", prompt="x" * 20_000) for index in range(MAX_ROWS)]
    view = arrange([*long, row(MAX_ROWS, "loss")])
    assert view.left_out == 1
    assert view.groups[0].outcome == "loss"  # the rows that matter are kept
    clipped = view.groups[1].rows[0].prompt
    assert len(clipped.text) in CLIP_LENGTHS
    assert len(clipped.text) + clipped.cut == 20_000
    assert sum(len(shown.prompt.text) for group in view.groups for shown in group.rows) <= TEXT_BUDGET
    page = Page(render(facts(rows=[row(1, prompt="y" * 9_000)])))
    assert "1,000 characters more in predictions.jsonl" in page.text


def test_what_cannot_be_seen_or_written_is_shown_in_its_place() -> None:
    html = render(facts(rows=[row(1, tuned_answer="a\x00b\x1b[31m\ud800", base_answer="")]))
    assert "a\u2400b\u241b[31m\ufffd" in html
    assert "(empty)" in html
    html.encode("utf-8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baselines": [BaselineFacts(name="BM25", metric="exact_match", score=0.9)]}, "BM25 does as well"),
        (
            {"audit": AuditFacts(findings=[FindingFacts(code="leak", severity="block", count=2, message="m")])},
            "1 blocking finding",
        ),
        (
            {
                "slices": [
                    SliceFacts(
                        field="language",
                        value="fr",
                        rows=30,
                        metrics=[MetricFacts(name="exact_match", base=0.9, tuned=0.5, ci95=(-0.6, -0.2))],
                    )
                ]
            },
            "Clearly worse on part of the test: language: fr.",
        ),
        ({}, "1 row got worse than with the base"),
        ({}, "The test has only 4 rows"),
        ({}, "3 training rows lost text by truncation."),
    ],
)
def test_caveats_name_what_a_pass_can_hide(changes: dict[str, object], words: str) -> None:
    assert any(words in note for note in caveats(facts(**changes)))


@pytest.mark.parametrize(
    ("metric", "effect"),
    [
        (MetricFacts(name="m", base=0.4, tuned=0.5, ci95=(0.01, 0.2)), "gain"),
        (MetricFacts(name="m", base=0.4, tuned=0.5, ci95=(-0.01, 0.2)), "unclear"),
        (MetricFacts(name="m", base=2, tuned=1, ci95=(-2, -0.5), higher_is_better=False), "gain"),
        (MetricFacts(name="m", base=1, tuned=2, ci95=(0.5, 2), higher_is_better=False), "loss"),
        (MetricFacts(name="m", base=0.4, tuned=0.5, ci95=None), "unclear"),
        (MetricFacts(name="m", base=0.4, tuned=0.5, ci95=(float("nan"), float("nan"))), "unclear"),
    ],
)
def test_only_an_interval_off_zero_is_a_clear_change(metric: MetricFacts, effect: str) -> None:
    assert metric.effect == effect


def test_figures_carry_their_signs_and_units() -> None:
    assert number(0.4567, "share") == "45.7%"
    assert number(float("nan"), "nats") == "not a number"
    assert change(-0.0213, "nats") == "−0.021"
    assert change(-0.00001, "share") == "0.0"
    assert duration(59.7) == "1 min 00 s"
    assert duration(7_500) == "2 h 05 min"
    falls = facts(metrics=[facts().metrics[1]])
    assert verdict(falls).startswith("Ship it: loss falls from 2.900 to 0.200 on")


def test_a_forgetting_that_is_not_a_number_is_over_the_limit() -> None:
    lost = ForgettingFacts(base_loss=2.9, tuned_loss=float("nan"), limit=0.1, rows=1, tokens=1)
    assert not lost.ok
    assert "Over the limit." in render(facts(forgetting=lost))


def test_thinning_keeps_spikes_and_smoothing_has_no_lag() -> None:
    line = [(float(step), 1.0) for step in range(5_000)]
    line[2_345] = (2_345.0, 9.0)
    assert (2_345.0, 9.0) in thin(line)
    assert len(thin(line)) <= MAX_POINTS
    ramp = [(float(step), float(step)) for step in range(200)]
    assert smooth(ramp)[100] == (100.0, pytest.approx(100.0))
    assert smooth(ramp)[0] == (0.0, 0.0)


def ways(**changes: object) -> WaysFacts:
    plain = {"name": "prompt", "value": 0.2, "ci95": (0.1, 0.3), "tokens_in": 40, "tokens_out": 9, "seconds": 0.5}
    tuned = plain | {"name": ATTACK, "value": 0.8, "ci95": (0.7, 0.9), "cost": 1.5, "set_up_seconds": 90}
    fields = {"rows": 100, "metric": "exact_match", "ways": [plain, tuned], "take": ATTACK, "reasons": [ATTACK]}
    return WaysFacts.model_validate(fields | changes)


def test_ways_stand_in_table_and_chart_and_are_escaped() -> None:
    page = render(facts(ways=ways()))
    assert "Other ways to the same task" in page
    assert "<script>alert" not in page
    assert 'href="#ways"' in page
    assert "no price given" in page
    assert "ways-wide" in page
    assert "80.0%" in page
    assert "Other ways" not in render(facts())


def test_ways_by_a_metric_that_is_no_share_have_a_table_and_no_chart() -> None:
    one = {"name": "prompt", "value": 12.5, "ci95": (11, 14), "tokens_in": 40, "tokens_out": 9, "seconds": 0.5}
    page = render(facts(ways=ways(ways=[one], take="prompt")))
    assert "12.500" in page
    assert "ways-wide" not in page
