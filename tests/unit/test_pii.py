"""Personal data: check digits by published examples, masking, rows, and what the audit says and does not say."""

from __future__ import annotations

import json

import pytest

from tunesmith.core.messages import Example, Message
from tunesmith.data.check_privacy import Privacy, personal_data
from tunesmith.data.pii import DETECTORS, checksums, find, ids_europe, ids_world, mask
from tunesmith.data.pii.rows import mask_row
from tunesmith.models.refs import DEFAULT
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.recipe import RunSpec

MAIL = "ann@example.org"
KEY = "ghp_" + "a1B2" * 9


def row(prompt, answer="yes", origin="f.jsonl:1", **metadata):
    turns = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Example(messages=turns, metadata=metadata, origin=origin)


def kinds(text):
    return [hit.kind for hit in find(text)]


@pytest.mark.parametrize(
    ("check", "number"),
    [
        (checksums.luhn, "79927398713"),
        (checksums.verhoeff, "2363"),
        (checksums.verhoeff, "234123412346"),
        (checksums.mod11_10, "86095742719"),
        (ids_europe.german_tax_id, "86095742719"),
        (ids_europe.nhs, "9434765919"),
        (ids_europe.french_nir, "255081416802538"),
        (ids_europe.french_nir, "292082A00491583"),
        (ids_europe.spanish_dni, "12345678Z"),
        (ids_europe.spanish_dni, "X1234567L"),
        (ids_europe.codice_fiscale, "RSSMRA85T10A562S"),
        (ids_europe.bsn, "111222333"),
        (ids_europe.pesel, "44051401359"),
        (ids_europe.personnummer, "8112189876"),
        (ids_world.cpf, "52998224725"),
        (ids_world.cnpj, "11222333000181"),
    ],
)
def test_known_examples_pass_and_a_changed_digit_fails(check, number):
    assert check(number)
    place = max(i for i, c in enumerate(number) if c.isdigit())
    assert not check(number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :])


@pytest.mark.parametrize("number", ["000-12-3456", "666-12-3456", "912-12-3456", "123-00-4567", "123-45-0000"])
def test_numbers_that_are_never_issued_are_no_ssn(number):
    assert "us_ssn" in kinds("My SSN is 856-45-6789.")
    assert "us_ssn" not in kinds(f"My SSN is {number}.")


def test_the_same_bare_number_counts_with_its_word_and_not_without():
    assert kinds("I wrote 111222333 on it") == []
    assert kinds("my BSN: 111222333") == ["nl_bsn"]
    assert kinds("856-45-6789") == ["us_ssn"]
    assert kinds("part number 856-45-6789") == []


def test_of_overlapping_finds_the_more_certain_stays():
    assert kinds("https://bob:s3cr3t9@host.example/") == ["url_password"]
    assert kinds(f"api_key: {KEY}") == ["github_token"]
    assert kinds("+4411 11 11 11") == ["phone"]


def test_every_detector_says_its_kind_and_what_it_needs():
    for detector in DETECTORS:
        assert detector.kind == detector.kind.lower()
        assert detector.needs > 0


def test_one_value_has_one_placeholder_and_another_value_another():
    masked = mask([f"{MAIL} and bob@example.org", "write to Ann@Example.org"])
    assert masked.texts == ("[EMAIL_1] and [EMAIL_2]", "write to [EMAIL_1]")
    later = mask(["bob@example.org, carl@example.org"], masked.known)
    assert later.texts == ("[EMAIL_2], [EMAIL_3]",)


def test_a_placeholder_that_stands_in_the_text_is_not_given_again():
    assert mask([f"[EMAIL_3] wrote to {MAIL}"]).texts == ("[EMAIL_3] wrote to [EMAIL_4]",)


def test_tool_calls_stay_json_and_long_numbers_are_read_with_their_name():
    arguments = json.dumps({"phone": 5550101234, "order": 5550101234, "to": [MAIL]})
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": arguments}}
    example = Example(messages=(Message(role="user", content="send it"), Message(role="assistant", tool_calls=(call,))))
    masked, _ = mask_row(example)
    assert masked.messages[1].tool_calls is not None
    read = json.loads(masked.messages[1].tool_calls[0]["function"]["arguments"])
    assert read == {"phone": "[PHONE_1]", "order": 5550101234, "to": ["[EMAIL_1]"]}


def test_the_audit_names_kind_and_place_and_never_the_value():
    rows = [row(f"I am {MAIL}"), row("hello", origin="f.jsonl:2"), row(f"token {KEY}", origin="f.jsonl:3")]
    secret, mail = personal_data(rows)
    assert (secret.code, secret.severity, secret.rows) == ("secrets", "warn", ("f.jsonl:3",))
    assert (mail.code, mail.severity, mail.rows) == ("personal_data", "warn", ("f.jsonl:1",))
    assert mail.example == "I am [EMAIL]"
    told = repr([secret, mail])
    assert MAIL not in told
    assert KEY not in told


def test_an_example_beside_a_long_value_shows_no_part_of_it():
    near = f"{KEY} {MAIL} {KEY}"
    assert all("a1B2" not in finding.example and "ann" not in finding.example for finding in personal_data([row(near)]))


def test_drop_leaves_training_rows_out_and_never_held_out_ones():
    rows = [row(f"I am {MAIL}"), row("hello")]
    kept, findings = Privacy("drop").apply(rows, train=True)
    assert list(kept) == rows[1:]
    assert [f.code for f in findings] == ["personal_data_dropped"]
    kept, findings = Privacy("drop").apply(rows, train=False)
    assert kept == rows
    assert [f.code for f in findings] == ["personal_data"]


def test_mask_changes_held_out_rows_too_and_report_none():
    rows = [row(f"I am {MAIL}", f"hello {MAIL}"), row("hello")]
    for train in (True, False):
        kept, findings = Privacy("mask").apply(rows, train=train)
        assert [m.content for m in kept[0].messages] == ["I am [EMAIL_1]", "hello [EMAIL_1]"]
        assert kept[1] == rows[1]
        assert [(f.code, f.severity) for f in findings] == [("personal_data_masked", "info")]
    assert Privacy("report").apply(rows, train=True)[0] == rows


def test_a_subject_has_the_same_placeholders_in_all_files():
    first, second = row(f"{MAIL}", who="ann"), row(f"b@example.org, {MAIL}", who="ann")
    privacy = Privacy("mask", "who")
    privacy.apply([first], train=True)
    [masked], _ = privacy.apply([second], train=False)
    assert masked.messages[0].content == "[EMAIL_2], [EMAIL_1]"
    [other], _ = Privacy("mask", "who").apply([second], train=False)
    assert other.messages[0].content == "[EMAIL_1], [EMAIL_2]"


def prepared(folder, policy):
    train = [{"prompt": f"question {i} of user{i}@example.org", "completion": f"yes {i}"} for i in range(3)]
    files = {"train": [*train, {"prompt": "no address", "completion": "no"}], "test": train[:1]}
    files["test"] = [{"prompt": f"is {MAIL} known", "completion": f"as {MAIL}"}]
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl"), "validation": 0.0}
    data["personal_data"] = policy
    return prepare(RunSpec.model_validate({"name": "x", "base": DEFAULT, "data": data}))


def test_a_recipe_reports_masks_or_drops(tmp_path):
    found = {policy: prepared(tmp_path, policy) for policy in ("report", "mask", "drop")}
    asked = {policy: [e.messages[0].content for e in one.train.examples] for policy, one in found.items()}
    assert asked["report"][0] == "question 0 of user0@example.org"
    assert asked["mask"] == [*(f"question {i} of [EMAIL_1]" for i in range(3)), "no address"]
    assert asked["drop"] == ["no address"]
    answers = {policy: one.test.examples[0].answer() for policy, one in found.items()}
    assert answers == {"report": f"as {MAIL}", "mask": "as [EMAIL_1]", "drop": f"as {MAIL}"}
    codes = {policy: [f.code for f in one.audit.findings if "personal" in f.code] for policy, one in found.items()}
    assert codes == {
        "report": ["personal_data"] * 2,
        "mask": ["personal_data_masked"] * 2,
        "drop": ["personal_data_dropped", "personal_data"],
    }
    assert len({one.data_fingerprint for one in found.values()}) == 3


def test_a_sum_beside_the_word_phone_is_no_number_to_call():
    assert kinds("7500 phones: <<10000-2500=7500>>") == []
    assert kinds("phone 10000-2500") == ["phone"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part", ["1:", ":", "::1", "1.", "1 ", "a.", "://a:", "password is ", "-----BEGIN PRIVATE KEY-----"]
)
def test_a_hostile_text_does_not_keep_the_patterns_busy_for_ever(part):
    assert len(find(part * 3000 + "@ key")) <= 3000
