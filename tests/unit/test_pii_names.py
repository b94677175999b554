"""Names and places beside what has a shape: with an analyzer made up here, and with Presidio's own where it is."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.errors import MissingError
from tunesmith.core.messages import Example, Message
from tunesmith.data.check_privacy import Privacy
from tunesmith.data.config import DataSpec, NamesSpec
from tunesmith.data.pii import Hit, find, mask
from tunesmith.data.pii.names import Names
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.recipe import RunSpec

PRESIDIO = importlib.util.find_spec("presidio_analyzer") is not None


@dataclass(frozen=True)
class Span:
    entity_type: str
    start: int
    end: int
    score: float = 0.85


class Words:
    """An analyzer that knows a few words, wherever they stand; PERSON, too, as a careless model may."""

    known: ClassVar = {
        "Anna": "PERSON",
        "Anna Holt": "PERSON",
        "Berlin": "LOCATION",
        "PERSON": "PERSON",
        "anna@": "PERSON",
    }

    def analyze(self, text: str, language: str, *, entities: list[str]) -> Sequence[Span]:
        assert (language, entities) == ("en", ["PERSON", "LOCATION"])
        found = [
            Span(kind, m.start(), m.end()) for w, kind in self.known.items() for m in re.finditer(re.escape(w), text)
        ]
        return [*found, *(Span("PERSON", m.start(), m.end(), 0.3) for m in re.finditer("perhaps", text))]


NAMES = Names(Words(), "en")


def test_shapes_come_first_then_the_longer_name() -> None:
    text = "Anna Holt of Berlin (anna@example.org), perhaps; Anna."
    assert [(h.kind, text[h.start : h.end]) for h in NAMES.find(text)] == [
        ("person", "Anna Holt"), ("place", "Berlin"), ("email", "anna@example.org"), ("person", "Anna")
    ]  # fmt: skip
    assert NAMES.find("  ") == []


def test_masked_names_stay_masked_and_the_same_name_has_the_same_placeholder() -> None:
    masked = mask(["Anna met Anna Holt in Berlin.", "ANNA? No: Anna. [PERSON_7]"], find=NAMES.find)
    assert masked.texts == ("[PERSON_8] met [PERSON_9] in [LOCATION_1].".replace("LOCATION", "PLACE"),
                            "ANNA? No: [PERSON_8]. [PERSON_7]")  # fmt: skip
    assert mask(masked.texts, find=NAMES.find).texts == masked.texts


@given(st.text("AnBerli [](PSON_1)@.", max_size=40))
def test_masking_ends_whatever_the_analyzer_says(text: str) -> None:
    class Greedy:
        def analyze(self, text: str, language: str, *, entities: list[str]) -> Sequence[Span]:
            return [Span("PERSON", m.start(), m.end()) for m in re.finditer(r"\S+", text)]

    names = Names(Greedy(), "en")
    masked = mask([text], find=names.find).texts[0]
    assert names.find(masked) == []


def example(text: str, **more: Any) -> Example:
    return Example(messages=(Message(role="user", content=text), Message(role="assistant", content="fine")), **more)


def test_privacy_reports_masks_and_drops_by_names_too() -> None:
    rows = [
        example("Anna is here", origin="f:1"),
        example("nobody is here", origin="f:2"),
        example("Call 1", origin="f:3"),
    ]
    kept, findings = Privacy("report", names=NAMES).apply(rows, train=True)
    assert kept == rows
    assert [(f.code, f.rows, f.example) for f in findings] == [("personal_data", ("f:1",), "[PERSON] is here")]
    kept, _ = Privacy("mask", names=NAMES).apply(rows, train=True)
    assert kept[0].messages[0].content == "[PERSON_1] is here"
    kept, _ = Privacy("drop", names=NAMES).apply(rows, train=True)
    assert [row.origin for row in kept] == ["f:2", "f:3"]
    assert Privacy("report").apply(rows, train=True)[1] == []
    privacy = Privacy("mask", subject="who", names=NAMES)
    kept, _ = privacy.apply(
        [example("Berlin", metadata={"who": 1}), example("In Berlin", metadata={"who": 1})], train=True
    )
    assert [row.messages[0].content for row in kept] == ["[PLACE_1]", "In [PLACE_1]"]


def test_the_recipe_names_a_model() -> None:
    assert DataSpec(train=({"path": "x"},), names="en_core_web_lg").names == NamesSpec(model="en_core_web_lg")


@pytest.mark.skipif(PRESIDIO, reason="Presidio is installed here")
def test_without_the_extra_the_mend_is_told() -> None:
    with pytest.raises(MissingError, match="which is not installed") as caught:
        NamesSpec(model="en_core_web_lg").build()
    assert "tunesmith[pii]" in str(caught.value.mend)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spaCy model that knows three names: a ruler, for models that have read texts are no packages of the index."""
    pytest.importorskip("presidio_analyzer")
    import spacy

    made = spacy.blank("en")
    ruler = made.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Anna Holt"}, {"label": "GPE", "pattern": "Berlin"}])
    path = tmp_path_factory.mktemp("model") / "ruler"
    made.to_disk(path)
    return path


@pytest.mark.skipif(not PRESIDIO, reason="needs the extra `pii`")
class TestPresidio:
    """The real analyzer."""

    def test_it_finds_what_its_model_knows(self, model: Path) -> None:
        names = NamesSpec(model=str(model)).build()
        text = "Anna Holt lives in Berlin; write to a.holt@example.org."
        assert [(h.kind, text[h.start : h.end]) for h in names.find(text)] == [
            ("person", "Anna Holt"), ("place", "Berlin"), ("email", "a.holt@example.org")
        ]  # fmt: skip
        assert find(text) == [Hit("email", 36, 54)]

    def test_a_recipe_masks_names(self, model: Path, tmp_path: Path) -> None:
        rows = [{"prompt": f"Anna Holt asks for number {i}.", "completion": "Berlin says no."} for i in range(12)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        data = {"train": str(tmp_path / "rows.jsonl"), "names": str(model), "personal_data": "mask", "validation": 0}
        prepared = prepare(RunSpec.model_validate({"data": data}))
        assert {row.answer() for row in prepared.train.examples} == {"[PLACE_1] says no."}
        assert prepared.train.examples[0].messages[0].content == "[PERSON_1] asks for number 0."

    def test_a_model_that_is_not_there_is_not_downloaded(self) -> None:
        with pytest.raises(MissingError, match="'en_core_web_xx' is not installed") as caught:
            NamesSpec(model="en_core_web_xx").build()
        assert "spacy download" in str(caught.value.mend)
