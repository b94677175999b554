"""Checks that see a set portion by portion: languages, system prompts, diversity, lengths. Planted, and clean sets."""

import json
import re
import socket
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

import tiny
from tunesmith.cli import show
from tunesmith.core.messages import Example, Message
from tunesmith.data.check_system import SystemPrompts
from tunesmith.data.diversity import SHOWN, DiversityLook, _nearness
from tunesmith.data.excerpt import LONGEST
from tunesmith.data.language import Identifier, Languages, usual_languages
from tunesmith.data.lengths import Lengths
from tunesmith.data.load import load
from tunesmith.data.look import Places, look, portions
from tunesmith.data.pii import Hit
from tunesmith.pipelines.check import Request, check_files

SPOKEN = {
    "de": "Mein Paket sollte am Dienstag ankommen, aber es hat das Lager noch immer nicht verlassen.",
    "fr": "Mon colis devait arriver mardi, mais il n'a toujours pas quitté l'entrepôt de Lyon.",
    "es": "Mi paquete tenía que llegar el martes, pero todavía no ha salido del almacén.",
    "it": "Il mio pacco doveva arrivare martedì, ma non ha ancora lasciato il magazzino.",
    "pt": "A minha encomenda devia chegar na terça-feira, mas ainda não saiu do armazém.",
    "nl": "Mijn pakket zou dinsdag aankomen, maar het heeft het magazijn nog steeds niet verlaten.",
    "sv": "Mitt paket skulle komma på tisdagen, men det har fortfarande inte lämnat lagret.",
    "pl": "Moja paczka miała przyjść we wtorek, ale wciąż nie opuściła magazynu w Poznaniu.",
    "fi": "Pakettini piti saapua tiistaina, mutta se ei ole vieläkään lähtenyt varastosta.",
    "tr": "Paketimin salı günü gelmesi gerekiyordu ama hâlâ depodan çıkmadı, neden?",
    "ru": "Моя посылка должна была прийти во вторник, но она до сих пор не покинула склад.",
    "el": "Το δέμα μου έπρεπε να φτάσει την Τρίτη, αλλά δεν έχει φύγει ακόμα από την αποθήκη.",
    "ar": "كان من المفترض أن تصل شحنتي يوم الثلاثاء لكنها لم تغادر المستودع بعد.",
    "hi": "मेरा पार्सल मंगलवार को आना था, लेकिन वह अब तक गोदाम से नहीं निकला है।",
    "zh": "我的包裹本来应该在星期二送到,但是它到现在还没有离开仓库,请帮我查一下。",
    "ja": "荷物は火曜日に届くはずでしたが、まだ倉庫を出ていないようです。確認してください。",
}
ENGLISH = "My parcel number {} was to arrive on Tuesday, but it has still not left the warehouse."
CLEAN = ("banking77/train.jsonl", "gsm8k/train.jsonl", "snips-json/train.jsonl", "e2e/train.jsonl")


def row(number, question, answer="fine", system=""):
    turns = [Message(role="user", content=question), Message(role="assistant", content=answer)]
    head = [Message(role="system", content=system)] if system else []
    return Example(messages=(*head, *turns), origin=f"f.jsonl:{number}")


def languages(examples):
    return Languages(usual_languages(examples))


def found(examples, *looks):
    return {finding.code: finding for finding in look(examples, looks)}


@cache
def clean(path, limit):
    return load(path, limit=limit).require_supervised()


def test_portions_keep_order_and_sizes():
    rows = [row(i, f"question {i}", f"answer {i}", "be brief") for i in range(10)]
    cut = list(portions(rows, size=4))
    assert [len(portion) for portion in cut] == [4, 4, 2]
    assert [r.origin for portion in cut for r in portion] == [e.origin for e in rows]
    assert (cut[1][0].prompt, cut[1][0].answer, cut[1][0].example) == ("question 4", "answer 4", rows[4])
    assert not list(portions([]))


@given(st.lists(st.one_of(
    st.text(max_size=6), st.builds("{}:{}".format, st.sampled_from(["a", "b:c", ""]), st.integers(0, 10**20)),
    st.sampled_from(["a:007", "a:-1", "a:", ":", "a:١", "a:²"]),
)))  # fmt: skip
def test_places_give_back_what_was_put_in(origins):
    places = Places()
    for origin in origins:
        places.add(origin)
    assert places.at(range(len(places))) == tuple(origins)


@pytest.mark.parametrize("language", SPOKEN)
def test_a_language_is_known_by_one_sentence(language, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("nothing is fetched"))
    assert Identifier().language(SPOKEN[language], "en") == language
    assert Identifier().language(ENGLISH.format(4), language) == "en"


@pytest.mark.parametrize("text", [
    "card_payment_fee_charged", "Tom Sue Max", '{"intent": "PlayMusic", "slots": {"artist": "el mejor"}}', "",
    "for i in range(10): x[i] = y[i] * 2 + z[i] / 3 # {done}", "12/3=<<12/3=4>>4\n#### 13",
    "Add George Thorogood to el mejor rock en español",
])  # fmt: skip
def test_labels_code_and_foreign_names_are_not_judged(text):
    assert Identifier().language(text, "en") in ("", "en")


def test_code_is_in_no_language():
    assert Identifier().language(ENGLISH) == "en"
    code = "return the[0] + parcel[1] if is_not(left[2]) else the[3] - warehouse[4]"
    assert Identifier().guess(code)[0] == "en"
    assert not Identifier().language(code, "en")


def test_rows_in_another_language_are_found_on_their_side():
    rows = [row(i, ENGLISH.format(i), ENGLISH.format(-i)) for i in range(100)]
    rows[41] = row(41, SPOKEN["de"], ENGLISH.format(41))
    rows[7] = row(7, ENGLISH.format(7), SPOKEN["ja"])
    findings = [f for f in look(rows, [languages(rows)]) if f.code == "other_language"]
    assert [(f.severity, f.rows) for f in findings] == [("warn", ("f.jsonl:41",)), ("warn", ("f.jsonl:7",))]
    assert "prompt is not in en" in findings[0].message
    assert "ja 1" in findings[1].message


def test_the_usual_language_may_be_any_and_change(monkeypatch):
    """The first rows are German, those from which the usual language is learned among them."""
    monkeypatch.setattr("tunesmith.data.language.FIRST", 5)
    rows = [row(i, SPOKEN["de"]) for i in range(5)] + [row(i, ENGLISH.format(i)) for i in range(5, 200)]
    shown = languages(rows)
    for portion in portions(rows, size=5):
        shown.see(portion)
    assert dict(shown.counts("prompt")) == {"de": 5, "en": 195}
    [several, other] = shown.findings()
    assert (several.code, several.severity, other.rows) == (
        "languages",
        "info",
        tuple(f"f.jsonl:{i}" for i in range(5)),
    )


def test_a_portion_costs_the_same_however_many_rows_came_before(monkeypatch):
    """What is known of the rows so far is kept up, never counted anew: work on arrays is done at the end alone."""
    rows = [row(i, ENGLISH.format(i)) for i in range(40)]
    shown = languages(rows)
    monkeypatch.setattr("tunesmith.data.language.np", None)
    for portion in portions(rows, size=4):
        shown.see(portion)
    assert shown.counts("prompt") == {"en": 40}


def test_a_set_of_translations_has_one_language_on_each_side_and_a_mixed_set_no_strangers():
    translations = [row(i, ENGLISH.format(i), SPOKEN["fr"]) for i in range(50)]
    assert not found(translations, languages(translations))
    mixed = [row(i, SPOKEN["fr"] if i % 4 else ENGLISH.format(i)) for i in range(100)]
    findings = found(mixed, languages(mixed))
    assert set(findings) == {"languages"}
    assert "fr 75, en 25" in findings["languages"].message


@pytest.mark.parametrize("name", CLEAN)
def test_clean_sets_stay_quiet(name, shared):
    limit = None if "banking77" in name else 1000
    rows = clean(shared / "data" / name, limit)
    findings = found(rows, languages(rows), SystemPrompts())
    assert set(findings) <= {"other_language"}
    assert sum(finding.count for finding in findings.values()) < 0.003 * len(rows)


def test_foreign_rows_among_real_ones_are_found(shared):
    rows = list(clean(shared / "data" / CLEAN[0], None))[:3000]
    planted = {100 * i + 50: text for i, text in enumerate(SPOKEN.values())}
    for index, text in planted.items():
        rows[index] = rows[index].model_copy(
            update={"messages": (Message(role="user", content=text), rows[0].messages[-1])}
        )
    places = found(rows, languages(rows))["other_language"].rows
    assert set(places) >= {rows[index].origin for index in planted}
    assert len(places) <= len(planted) + 0.003 * len(rows)


def test_rows_without_the_system_prompt_of_the_others_are_found():
    rows = [row(i, f"question {i}", system="Be brief." if i % 10 else "") for i in range(100)]
    finding = found(rows, SystemPrompts())["system_prompt_absent"]
    assert (finding.severity, finding.count, finding.rows[:2]) == ("warn", 10, ("f.jsonl:0", "f.jsonl:10"))
    few = [row(i, f"question {i}", system="Be brief." if i < 40 else "") for i in range(100)]
    mixed = found(few, SystemPrompts())["system_prompt_absent"]
    assert (mixed.severity, mixed.count, mixed.rows[-1]) == ("info", 40, "f.jsonl:39")
    assert "has a system prompt: 40 of 100" in mixed.message
    little = [row(i, f"question {i}", system="Be brief." if i else "") for i in range(9)]
    assert found(little, SystemPrompts())["system_prompt_absent"].rows == ("f.jsonl:0",)
    assert not found([row(i, f"question {i}") for i in range(100)], SystemPrompts())
    assert not found(little[1:], SystemPrompts())


def test_a_rare_system_prompt_beside_a_usual_one_is_found():
    rows = [row(i, f"question {i}", system="Be brief." if i != 66 else "Be brieff.") for i in range(200)]
    finding = found(rows, SystemPrompts())["system_prompt_rare"]
    assert (finding.severity, finding.rows) == ("info", ("f.jsonl:66",))
    own = [row(i, f"question {i}", system=f"Answer as of day {i}.") for i in range(200)]
    assert not found(own, SystemPrompts()), "each row has its own"
    two = [row(i, f"question {i}", system="Be brief." if i % 3 else "Be polite.") for i in range(200)]
    assert not found(two, SystemPrompts())


def test_lengths_by_hand():
    shown = Lengths.of(np.array([12, 15, 15, 29, 30, 55, 101]), limit=50)
    assert shown.edges == (10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110)
    assert shown.counts == (3, 1, 1, 0, 1, 0, 0, 0, 0, 1)
    assert (shown.over_limit, shown.tokens_per_epoch) == (2, 12 + 15 + 15 + 29 + 30 + 50 + 50)
    long_tail = Lengths.of(np.array([*range(40, 140), *range(40, 140), 9000]), limit=10_000)
    assert (long_tail.edges[0], long_tail.edges[-2:], long_tail.counts[-1]) == (40, (140, 9001), 1)
    assert Lengths.of(np.array([], dtype=np.int64), 8).counts == ()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_every_length_stands_in_one_of_some_dozen_rising_bins(tokens):
    shown = Lengths.of(np.array(tokens), limit=512)
    assert sum(shown.counts) == len(tokens)
    assert len(shown.counts) == len(shown.edges) - 1 <= 13
    assert list(shown.edges) == sorted(set(shown.edges))
    for low, high, count in zip(shown.edges, shown.edges[1:], shown.counts, strict=False):
        assert count == sum(low <= n < high for n in tokens)


TOPICS = {
    "cards": "When will the new card for my {} arrive by post?",
    "loans": "Which interest rate has a loan over {} years at your bank?",
    "travel": "Can I pay at the hotel in {} with foreign currency?",
}
THINGS = ("house", "boat", "garden", "bicycle", "mother", "office", "school", "horse", "sister", "studio")


def about(texts, answers=("fine",)):
    drawn = DiversityLook()
    rows = [row(i, text, answers[i % len(answers)]) for i, text in enumerate(texts)]
    assert not list(look(rows, [drawn]))
    return drawn.result()


def test_topics_become_clusters_and_a_stranger_is_odd():
    texts = [text.format(thing) for text in TOPICS.values() for thing in THINGS * 4]
    texts[57] = "Dragons guard seventeen violet mountains beyond Zanzibar"
    shown = about(texts, ("yes", "no", "yes"))
    assert (shown.rows, shown.sampled) == (120, 120)
    assert sum(c.size for c in shown.clusters) == 120
    telling = " ".join(c.name for c in shown.clusters)
    assert all(word in telling for word in ("card", "loan", "hotel"))
    assert shown.odd[0].origin == "f.jsonl:57"
    assert shown.odd[0].nearness < 0.1 < 0.3 < shown.typical[-1].nearness
    assert len(shown.typical) <= SHOWN
    assert not {s.origin for s in shown.typical[:5]} & {s.origin for s in shown.odd[:5]}
    assert shown.labels is not None
    assert (shown.labels.different, shown.labels.counts) == (2, {"yes": 80, "no": 40})
    assert shown.labels.entropy == pytest.approx(0.918, abs=1e-3)
    assert shown.labels.largest_share == pytest.approx(2 / 3, abs=1e-3)
    assert about(texts, ("yes", "no", "yes")) == shown, "the same each time"


def test_no_row_is_near_to_a_cluster_that_it_makes_by_itself():
    a, b = 0.6, 0.8
    near, nearest = _nearness(csr_matrix([[1, 0, 0], [0, 1, 0], [0, a, b], [0, a, b]]), np.array([0, 1, 1, 1]))
    beside = np.array([0, 2 * a, 2 * b]) / 2
    others = np.array([0, 1 + a, b]) / np.hypot(1 + a, b)
    assert near == pytest.approx([0, beside[1], others[1] * a + others[2] * b, others[1] * a + others[2] * b])
    assert nearest.tolist()[1:] == [1, 1, 1]


def test_excerpts_are_short_and_hold_no_personal_data():
    texts = [f"{TOPICS['cards'].format(thing)} Write to anna.berg@example.org{' now' * 40}" for thing in THINGS * 4]
    shown = about(texts)
    assert shown.odd
    assert all(len(s.excerpt) <= LONGEST and "example.org" not in s.excerpt for s in (*shown.odd, *shown.typical))


def test_excerpts_hold_no_name_that_the_recipes_own_finder_knows():
    drawn = DiversityLook(lambda text: [Hit("person", m.start(), m.end()) for m in re.finditer("Otto", text)])
    list(look([row(i, f"{TOPICS['cards'].format(thing)} asks Otto") for i, thing in enumerate(THINGS * 4)], [drawn]))
    shown = drawn.result()
    assert shown.odd
    assert all("Otto" not in s.excerpt and "[PERSON_1]" in s.excerpt for s in (*shown.odd, *shown.typical))


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["one"],
        [""] * 50,
        ["same words here"] * 50,
        ["a b c", "1 2 3"] * 30,
        [f"word{i} other{i}" for i in range(40)],
    ],
)
def test_sets_with_nothing_to_cluster_are_no_trouble(texts):
    assert about(texts).rows == len(texts)


def test_a_large_set_is_sampled_evenly(monkeypatch):
    monkeypatch.setattr("tunesmith.data.diversity.SAMPLE", 100)
    drawn = DiversityLook()
    for portion in portions([row(i, f"question {i} about money and time") for i in range(2000)], size=300):
        drawn.see(portion)
    numbers = [int(origin.rpartition(":")[2]) for origin, _ in drawn._sample]
    assert len(set(numbers)) == 100
    assert 800 < np.mean(numbers) < 1200
    assert (drawn.result().rows, drawn.result().sampled) == (2000, 100)


def test_answers_that_are_texts_are_no_labels():
    assert about(TOPICS["cards"].format(i) for i in range(100)).labels is None
    assert about([TOPICS["cards"].format(i) for i in range(100)], ["yes", "no", "x" * 61, *["y\nz"] * 7]).labels is None


def test_check_shows_all_of_it(tmp_path, capsys):
    path = tiny.write_rows(tmp_path / "train.jsonl", tiny.rows(0, 120))
    facts = json.loads(json.dumps(check_files(Request([path])).audit.as_json()))
    assert sum(facts["lengths"]["counts"]) == facts["diversity"]["rows"] == 120
    assert facts["lengths"]["tokens_per_epoch"] == facts["tokens"]["tokens"]
    assert facts["diversity"]["labels"]["different"] == 6
    show.audit(facts)
    text = capsys.readouterr().out
    assert all(part in text for part in (" tokens ", "about", "most typical", "most odd", "6 different"))
