"""Files of all sorts of damage: no row is lost in silence, each problem has its line and reason."""

import hashlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.errors import ContentError, MissingError, UsageError
from tunesmith.data import arrays
from tunesmith.data.load import load
from tunesmith.data.raw import LIMITS, Limits

GOOD = {"prompt": "2+2", "completion": "4"}


def line(**more):
    return json.dumps(GOOD | more)


def written(tmp_path, content, name="data.jsonl"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    loaded = load(written(tmp_path, f"\n{line()}\n\n   \n{line()}\nbroken\n{line()}"))
    assert [e.origin for e in loaded.examples] == ["data.jsonl:2", "data.jsonl:5", "data.jsonl:7"]
    [problem] = loaded.problems
    assert problem.place == "data.jsonl:6"
    assert problem.reason.startswith("invalid JSON")
    assert loaded.rows == 4


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    loaded = load(written(tmp_path, b"\xef\xbb\xbf" + f"{line()}\r\n{line()}\r\n".encode()))
    assert len(loaded.examples) == 2
    assert not loaded.problems


def test_unicode_line_separators_inside_a_row_do_not_end_it(tmp_path):
    text = json.dumps({"prompt": "a\u2028b\u0085c", "completion": "d\u2029"}, ensure_ascii=False)
    loaded = load(written(tmp_path, text + "\n" + line()))
    assert [e.prompt()[0].content for e in loaded.examples] == ["a\u2028b\u0085c", "2+2"]
    assert loaded.examples[1].origin == "data.jsonl:2"


def test_an_array_counts_its_items(tmp_path):
    loaded = load(written(tmp_path, json.dumps([GOOD, 5, GOOD], indent=2), "data.json"))
    assert [e.origin for e in loaded.examples] == ["data.json:1", "data.json:3"]
    assert [(p.line, p.reason) for p in loaded.problems] == [(2, "a row must be a JSON object, not int")]


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("[\n{},\n{]\n", [], [1, 2]), ("[]", [], []), ("[ {good} ]\n \n", [1], []), ("[{good},{good},]", [1, 2], [3]),
        ("[{good},{x},{good}]", [1, 3], [2]), ("[{good},{good}", [1], [2]), ("[{good}] {good}", [1], [2]),
        ("[{good},{good}}]", [1, 2], [3]), ("[,{good}]", [2], [1]), ('[{good},"],[",{good}]', [1, 3], [2]),
        ('[{good},"\\\\",{good},"\\"]"]', [1, 3], [2, 4]),
    ],
)  # fmt: skip
def test_what_is_wrong_in_an_array_costs_no_item_before_it(tmp_path, text, good, bad):
    loaded = load(written(tmp_path, text.replace("{good}", json.dumps(GOOD)), "data.json"))
    assert [int(e.origin.rpartition(":")[2]) for e in loaded.examples] == good
    assert [p.line for p in loaded.problems] == bad


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(st.sampled_from('a"\\[]{},é\n')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('a"],')), inner, max_size=3),
)


@given(st.lists(JSON, max_size=6), st.sampled_from([1, 2, 3, 7, 1 << 16]), st.sampled_from([None, 1]))
def test_items_are_those_of_the_array_wherever_it_is_cut(items, piece, indent):
    text = json.dumps(items, ensure_ascii=False, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_PIECE", piece)
        found = list(arrays.array_items(io.BufferedReader(io.BytesIO(text)), LIMITS))
    assert [json.loads(item) for item in found] == items


def test_an_array_is_read_item_by_item_and_an_endless_item_is_passed_over():
    small = Limits(row=100_000)
    long = b'{"prompt": "' + b'x\\"' * 200_000 + b'"}'
    text = b"[" + b",".join([json.dumps(GOOD).encode()] * 5000 + [long, b"7"]) + b"]"
    stream = io.BufferedReader(io.BytesIO(text))
    found = arrays.array_items(stream, small)
    assert json.loads(next(found)) == GOOD
    assert stream.tell() < 100_000
    rest = list(found)
    assert (len(rest), rest[-2:]) == (5001, [None, b"7"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"prompt": "caf\xe9", "completion": "x"}', "UTF-8"),
        (b'{"prompt": "\\ud800", "completion": "x"}', "surrogate"),
        (b'{"prompt": NaN, "completion": "x"}', "invalid JSON"),
        (b'{"prompt": "x", "completion": "y"} {}', "invalid JSON"),
        (b"[1, 2]", "a row must be a JSON object, not list"),
        (b"null", "a row must be a JSON object, not NoneType"),
        (b"{}", "its keys are none"),
        (b'{"conversation": []}', "its keys are 'conversation'"),
    ],
)
def test_a_bad_row_is_a_problem_with_its_reason(tmp_path, row, reason):
    loaded = load(written(tmp_path, line().encode() + b"\n" + row + b"\n"))
    assert len(loaded.examples) == 1
    [problem] = loaded.problems
    assert problem.line == 2
    assert reason in problem.reason


def test_one_format_a_file(tmp_path):
    other = json.dumps({"messages": [{"role": "user", "content": "x"}]})
    loaded = load(written(tmp_path, f"{line()}\n{other}\n"))
    assert loaded.format == "prompt_completion"
    assert loaded.problems[0].reason == "this row is 'chat', the file is 'prompt_completion': one format a file"


def test_a_format_named_is_a_format_held_to(tmp_path):
    path = written(tmp_path, line())
    assert load(path, format="prompt_completion").rows == 1
    assert len(load(path, format="chat").problems) == 1
    with pytest.raises(UsageError):
        load(path, format="nonsense")


def test_an_unrecognised_file_says_what_is_known(tmp_path):
    loaded = load(written(tmp_path, '{"a": 1}'))
    assert loaded.format == "unknown"
    assert "chat, prompt_completion, instruction" in loaded.problems[0].reason


def test_an_integer_beyond_64_bits_is_a_problem_and_a_large_float_is_none(tmp_path):
    numbers = (
        "18446744073709551615",
        "18446744073709551617",
        "-9223372036854775809",
        "1e300",
        "9" * 40,
        "2.5e19",
        str(2**70),
        "9" * 400,
    )
    rows = [{"prompt": f"q{number}", "completion": "a"} for number in range(len(numbers))]
    texts = [json.dumps(r)[:-1] + f', "id": {n}}}' for r, n in zip(rows, numbers, strict=True)]
    for name, text in (("f.jsonl", "\n".join(texts)), ("f.json", f"[{','.join(texts)}]")):
        loaded = load(written(tmp_path, text, name))
        assert [p.line for p in loaded.problems] == [2, 3, 5, 8]
        assert "64 bits" in loaded.problems[0].reason
        assert [r.metadata["id"] for r in loaded.records] == [2**64 - 1, 1e300, 2.5e19, 2.0**70]


def test_one_object_over_several_lines_is_one_clear_problem(tmp_path):
    (tmp_path / "f.json").write_text(json.dumps({"prompt": "a", "completion": "b", "list": list(range(50))}, indent=2))
    [problem] = load(tmp_path / "f.json").problems
    assert problem.line == 1
    assert "several lines" in problem.reason
    assert "JSON Lines" in problem.reason


def test_the_limit_counts_bad_rows_too(tmp_path):
    loaded = load(written(tmp_path, f"{line()}\nbroken\n{line()}\n"), limit=2)
    assert (len(loaded.examples), len(loaded.problems)) == (1, 1)


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    a, b = written(tmp_path, line(), "a.jsonl"), written(tmp_path, line(), "b.jsonl")
    assert load(a).sha256 == load(b).sha256 == hashlib.sha256(a.read_bytes()).hexdigest()
    assert load(a).sha256 != load(written(tmp_path, line() + "\n", "c.jsonl")).sha256


@pytest.mark.parametrize("content", [b"", b" \n\t\n", b"\xef\xbb\xbf\n"])
def test_an_empty_file_says_so(tmp_path, content):
    with pytest.raises(ContentError, match="is empty"):
        load(written(tmp_path, content))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be"])
def test_another_encoding_is_named_with_the_command_that_mends_it(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    with pytest.raises(ContentError, match="is not in UTF-8") as refused:
        load(written(tmp_path, (mark + line()).encode(encoding)))
    assert f"iconv -f {encoding[:6].upper()} -t UTF-8" in refused.value.mend


def test_absent_and_not_a_file(tmp_path):
    with pytest.raises(MissingError):
        load(tmp_path / "absent.jsonl")
    with pytest.raises(ContentError, match="not a file"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["snips-json", "banking77", "gsm8k", "e2e"])
def test_real_training_files_load_without_a_problem(shared, name):
    path = shared / "data" / name / "train.jsonl"
    loaded = load(path)
    lines = sum(1 for text in path.read_bytes().split(b"\n") if text.strip())
    assert loaded.problems == []
    assert loaded.format == "chat"
    assert len(loaded.examples) == lines > 1000
    assert all(e.answer().strip() for e in loaded.examples)


def test_every_real_training_file_is_tested(shared):
    names = {p.parent.name for p in (shared / "data").glob("*/train.jsonl")}
    assert names == {"snips-json", "banking77", "gsm8k", "e2e"}


def test_a_file_of_another_trainer_loads(shared):
    loaded = load(shared / "data" / "formats" / "alpaca_en_demo.json")
    rows = json.loads(loaded.path.read_bytes())
    assert loaded.format == "instruction"
    assert loaded.rows == len(rows)
    refused = [p.line for p in loaded.problems]
    assert refused == [i for i, r in enumerate(rows, start=1) if not (r["output"].strip() and r["instruction"].strip())]


@pytest.mark.parametrize(
    ("file", "format", "kind", "count"),
    [
        ("formats/dpo_en_demo.json", "preference", "preference", 300),
        ("formats/kto_en_demo.json", "kto", "labelled", 300),
        ("formats/glaive_toolcall_en_demo.json", "sharegpt", "supervised", 300),
        ("formats/c4_demo.jsonl", "text", "text", 300),
        ("hh-helpful/pairs.jsonl", "preference", "preference", 2339),
    ],
)
def test_files_of_every_kind_load_as_they_are(shared, file, format, kind, count):
    loaded = load(shared / "data" / file)
    assert (loaded.format, loaded.kind, len(loaded.records)) == (format, kind, count)
    assert all(row.kind == kind for row in loaded.records)
    reasons = {p.reason for p in loaded.problems}
    assert reasons <= {
        "'rejected': the assistant turn is empty",
        "the chosen and the rejected answer are the same: there is nothing to prefer",
    }


def test_every_file_of_other_trainers_is_tested(shared):
    names = {p.name for p in (shared / "data" / "formats").iterdir()}
    assert names == {
        "alpaca_en_demo.json", "c4_demo.jsonl", "dpo_en_demo.json", "glaive_toolcall_en_demo.json", "kto_en_demo.json"
    }  # fmt: skip


def test_only_supervised_rows_are_supervised(tmp_path):
    rows = json.dumps({"prompt": "2+2?", "chosen": "4", "rejected": "5"})
    with pytest.raises(ContentError, match="kind 'preference'") as refused:
        load(written(tmp_path, rows)).require_supervised()
    assert "another method: preference (dpo, simpo, ...) or reward" in refused.value.why
    assert len(load(written(tmp_path, line())).require_supervised()) == 1
