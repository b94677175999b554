"""`check --show`: rows token by token, which rows are chosen, and what a terminal is given."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tunesmith.cli import tokens
from tunesmith.core.messages import Example, Message
from tunesmith.data.audit import Audit, Finding
from tunesmith.data.shown import chosen, codes_of, pieces, place_of
from tunesmith.data.template import render_example
from tunesmith.data.tokenize import Encoded, encode
from tunesmith.pipelines.check import Request, check_files


def row(question: str, answer: str) -> Example:
    return Example(messages=(Message(role="user", content=question), Message(role="assistant", content=answer)))


@given(question=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30), answer=st.just("ok 😀 né"))
def test_pieces_are_the_text_and_the_weights(bundled_tokenizer: Any, question: str, answer: str) -> None:
    example = row(question, answer)
    [one] = encode(bundled_tokenizer, [example])
    assert isinstance(one, Encoded)
    made = list(pieces(bundled_tokenizer, one))
    assert [i for piece in made for i in piece.ids] == one.input_ids.tolist()
    assert [piece.weight for piece in made for _ in piece.ids] == one.loss_weight.tolist()
    text = render_example(bundled_tokenizer, example).text
    assert "".join(piece.text for piece in made) == text
    assert "".join(piece.text for piece in made if piece.weight) == f"{answer}{bundled_tokenizer.eos_token}"
    assert [piece.text for piece in made if piece.special][-1] == bundled_tokenizer.eos_token


def test_bytes_that_are_no_character_are_no_piece_without_end(bundled_tokenizer: Any) -> None:
    letter = bundled_tokenizer("é", add_special_tokens=False)["input_ids"]
    broken = [bundled_tokenizer.convert_tokens_to_ids("Ã")] * 9
    ids = np.array([*broken, *letter], dtype=np.int32)
    made = list(pieces(bundled_tokenizer, Encoded(ids, np.zeros(len(ids), dtype=np.float32))))
    assert [i for piece in made for i in piece.ids] == ids.tolist()
    assert max(len(piece.ids) for piece in made) <= 4
    assert made[-1].text.endswith("é")


def found(code: str, severity: Any, *places: str) -> Finding:
    return Finding(code, severity, "m", "m", places)


def test_a_place_beside_another_is_told_from_a_name_that_holds_the_same_mark() -> None:
    for name in ("f.jsonl", "a = b.jsonl", "a ~ 3.jsonl"):
        assert place_of(f"{name}:3") == place_of(f"{name}:3 = {name}:1") == place_of(f"{name}:3 ~ c:1") == f"{name}:3"


def test_rows_with_findings_come_first_and_by_turns() -> None:
    origins = [f"f:{i}" for i in range(1, 10)]
    audit = Audit(findings=[
        found("mild", "info", "f:9"), found("bad", "block", "f:5", "f:77", "f:6"), found("near", "warn", "f:4 ~ f:2"),
    ])  # fmt: skip
    assert [origins[i] for i in chosen(audit, origins, 6)] == ["f:5", "f:4", "f:9", "f:6", "f:1", "f:2"]
    assert [origins[i] for i in chosen(audit, origins, 2)] == ["f:5", "f:4"]
    assert chosen(Audit(), origins, 99) == list(range(9))
    assert chosen(Audit(), [], 5) == []
    assert codes_of(audit, "f:4") == ["near"]
    assert place_of("a.jsonl:1 = b.jsonl:2") == "a.jsonl:1"


def printed(monkeypatch: pytest.MonkeyPatch, shown: list[dict[str, Any]], *, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=400, force_terminal=terminal, color_system="standard" if terminal else None)
    monkeypatch.setattr(tokens, "out", console)
    tokens.rows(shown)
    return stream.getvalue()


def token(text: str, weight: float = 0.0, special: bool = False) -> dict[str, Any]:
    return {"text": text, "ids": [1], "weight": weight, "special": special}


def test_without_colour_brackets_say_what_carries_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [token("<s>", special=True), token("hi\n"), token("yes [b]", 1.0), token("\x1b[31m", 1.0)]
    told = {"row": "f:1", "part": "chosen", "findings": ["typo_label"], "length": 4, "tokens": made, "error": ""}
    text = printed(monkeypatch, [told], terminal=False)
    assert "‹<s>›hi⏎\n⟦yes [b]\\u001b[31m⟧" in text
    assert "f:1 chosen 4 tokens, 2 with loss (typo_label)" in text
    coloured = printed(monkeypatch, [told], terminal=True)
    assert "⟦" not in coloured
    assert "\x1b[32myes [b]" in coloured
    assert "\\u001b" in coloured, "what stands in a row gives a terminal no orders"


def test_a_long_run_is_shown_from_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [token(f"{i} ") for i in range(500)] + [token(f"a{i} ", 1.0) for i in range(3)]
    told = {"row": "f:1", "part": "", "findings": [], "length": 503, "tokens": made, "error": ""}
    text = printed(monkeypatch, [told], terminal=False).replace("\n", " ")
    assert "79  [… 340 tokens …] 420 " in text
    assert text.rstrip().endswith("499 ⟦a0 a1 a2 ⟧")


def test_shown_rows_carry_places_findings_and_both_answers(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {i} in words?", "chosen": f"word {i}", "rejected": "no"} for i in range(12)]
    rows[8]["prompt"] += " Write to anna.berg@example.com"
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    first, second, *_ = shown = check_files(Request([path])).shown(3)
    assert [(r["row"], r["part"], "personal_data" in r["findings"]) for r in (first, second)] == [
        ("a.jsonl:9", "chosen", True), ("a.jsonl:9", "rejected", True),
    ]  # fmt: skip
    assert len(shown) == 6
    assert "".join(t["text"] for t in first["tokens"] if t["weight"]).startswith("word 8")
