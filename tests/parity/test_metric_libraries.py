"""Each metric beside the library it comes from, or beside another's code or figures where it has none of its own."""

import random
import re

import numpy as np
import pytest
from nltk.metrics import edit_distance
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from scipy import stats as scipy_stats
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from tunesmith.core.messages import Example, Message
from tunesmith.evaluation.classes import said_classes
from tunesmith.evaluation.metrics import named
from tunesmith.evaluation.metrics.config import BleuSpec, ChrfSpec, LabelsSpec, RougeSpec
from tunesmith.evaluation.metrics.edit_similarity import edits
from tunesmith.evaluation.metrics.over_rows import of_mean, scored
from tunesmith.evaluation.significance import mcnemar, permutation
from tunesmith.evaluation.stats import bootstrap

WORDS = re.findall(r"\S+", "the cat sat on a mat while two dogs slept near Tom's old house , and it rained all day .")


def row(*right: str) -> Example:
    messages = (Message(role="user", content="?"), Message(role="assistant", content=right[0]))
    return Example(messages=messages, metadata={"references": list(right[1:])} if right[1:] else {})


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 14))) for _ in range(count)]


def noisy(texts: list[str], seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(w for w in text.split() if draw.random() < 0.8) for text in texts]


TRUTH = sentences(60, 0)
SAID = noisy(TRUTH, 1)


@pytest.mark.parametrize("tokenize", ["13a", "intl", "char", "none"])
def test_bleu_is_sacrebleus(tokenize):
    metric = BleuSpec(type="bleu", tokenize=tokenize).build()
    ours = scored(metric, SAID, [row(text) for text in TRUTH])
    library = BLEU(tokenize=tokenize, force=True)
    assert 0.2 < ours.value < 0.95
    assert ours.value == pytest.approx(library.corpus_score(SAID, [TRUTH]).score / 100, abs=1e-12)
    sentence = BLEU(tokenize=tokenize, effective_order=True)
    for text, right, got in zip(SAID, TRUTH, ours.rows, strict=True):
        assert got == pytest.approx(sentence.sentence_score(text, [right]).score / 100, abs=1e-12)


def test_bleu_of_little_text_is_smoothed_as_sacrebleu_does_it():
    for said, right in (
        (["the cat sat here now"], ["the cat was there today ."]),  # no pair, no triple
        (["cat"], ["cat"]),  # too short for four words
        ([""], ["cat"]),
        (["x y z w"], ["the cat sat on"]),
        (["the cat sat on", "a dog"], ["the cat sat on it all day", "a dog ran to the house"]),
    ):
        ours = scored(named("bleu"), said, [row(text) for text in right]).value
        assert ours == pytest.approx(BLEU().corpus_score(said, [right]).score / 100, abs=1e-12), said


def test_bleu_and_chrf_take_several_references_some_rows_fewer():
    second = [*noisy(TRUTH, 7)[:40], *[None] * 20]
    rows = [row(*(t for t in pair if t is not None)) for pair in zip(TRUTH, second, strict=True)]
    ours = scored(named("bleu"), SAID, rows).value
    assert ours == pytest.approx(BLEU(force=True).corpus_score(SAID, [TRUTH, second]).score / 100, abs=1e-12)
    assert ours > scored(named("bleu"), SAID, [row(text) for text in TRUTH]).value
    ours = scored(named("chrf"), SAID, rows).value
    assert ours == pytest.approx(CHRF().corpus_score(SAID, [TRUTH, second]).score / 100, abs=1e-12)


@pytest.mark.parametrize("orders", [{}, {"word_order": 2}, {"char_order": 4, "word_order": 1, "beta": 1}])
def test_chrf_is_sacrebleus(orders):
    metric = ChrfSpec(type="chrf", **orders).build()
    ours = scored(metric, SAID, [row(text) for text in TRUTH])
    library = CHRF(**orders)
    assert ours.value == pytest.approx(library.corpus_score(SAID, [TRUTH]).score / 100, abs=1e-12)
    for text, right, got in zip(SAID, TRUTH, ours.rows, strict=True):
        assert got == pytest.approx(library.sentence_score(text, [right]).score / 100, abs=1e-12)
    assert scored(metric, [""], [row("cat")]).value == 0


def test_intervals_of_bleu_are_those_of_resampled_texts():
    """The interval from n-gram counts is the one that scoring resampled texts gives."""
    other = noisy(TRUTH, 3)
    rows = [row(text) for text in TRUTH]
    ours = bootstrap(scored(named("bleu"), SAID, rows), scored(named("bleu"), other, rows), resamples=300, seed=5)
    rng, library, draws = np.random.default_rng(5), BLEU(force=True), []
    for pick in [*rng.integers(0, 60, size=(200, 60)), *rng.integers(0, 60, size=(100, 60))]:
        right = [[TRUTH[i] for i in pick]]
        base, tuned = (library.corpus_score([texts[i] for i in pick], right).score for texts in (SAID, other))
        draws.append((tuned - base) / 100)
    np.testing.assert_allclose(ours.draws, draws, atol=1e-12)
    assert ours.delta.low < ours.delta.value < ours.delta.high


@pytest.mark.parametrize(("name", "kind"), [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")])
@pytest.mark.parametrize("stem", [False, True])
def test_rouge_is_rouge_scores(name, kind, stem):
    library, metric = RougeScorer([kind], use_stemmer=stem), RougeSpec(type=name, stem=stem).build()
    differing = 0
    for said, right in zip(SAID, [text.replace("slept", "sleeping") for text in TRUTH], strict=True):
        score = metric.score(said, right)
        assert score == library.score(right, said)[kind].fmeasure
        differing += 0 < score < 1
    assert differing > 20


LABELS = ["billing", "shipping", "returns", "other"]


def labelled(seed: int, strangers: bool) -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    truth = draw.choices(LABELS[:3], weights=(6, 3, 1), k=120)
    said = [
        t if draw.random() < 0.7 else draw.choice(["refunds", *LABELS[:3]] if strangers else LABELS[:3]) for t in truth
    ]
    return truth, said


@pytest.mark.parametrize("strangers", [False, True])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_label_figures_are_scikit_learns(average, strangers):
    truth, said = labelled(1, strangers)
    theirs = precision_recall_fscore_support(truth, said, labels=LABELS[:3], average=average, zero_division=0.0)
    rows = [row(text) for text in truth]
    for share, expected in zip(("precision", "recall", "f1"), theirs, strict=False):
        if average == "weighted" and share != "f1":
            continue
        ours = scored(named(f"{average}_{share}"), [f" {text}\n" for text in said], rows).value
        assert ours == pytest.approx(expected), share
    assert scored(named("accuracy"), said, rows).value == accuracy_score(truth, said)


def test_classes_of_answers_are_scikit_learns_with_strangers_as_one_column():
    truth, said = labelled(2, strangers=True)
    found = said_classes(truth, said)
    theirs = precision_recall_fscore_support(truth, said, labels=sorted(LABELS[:3]), zero_division=0.0)
    assert [one.label for one in found.labels] == sorted(LABELS[:3])
    for place, figures in enumerate(zip(*theirs, strict=True)):
        one = found.labels[place]
        assert (one.precision, one.recall, one.f1, one.rows) == pytest.approx(figures)
    assert found.macro_f1 == pytest.approx(np.mean(theirs[2]))
    folded = [text if text in LABELS[:3] else "(no label)" for text in said]
    names = [*sorted(LABELS[:3]), "(no label)"]
    table = confusion_matrix(truth, folded, labels=names)
    assert {(t, s): n for t, s, n in found.confusions} == {
        (t, s): table[i, j] for i, t in enumerate(names) for j, s in enumerate(names) if i != j and table[i, j]
    }
    assert any(s == "(no label)" for _, s, _ in found.confusions)


def test_the_interval_of_macro_f1_is_that_of_resampled_labels():
    truth, said = labelled(3, strangers=True)
    _, other = labelled(4, strangers=True)
    other = [t if i % 3 else o for i, (t, o) in enumerate(zip(truth, other, strict=True))]
    rows = [row(text) for text in truth]
    metric = LabelsSpec(type="macro_f1").build()
    ours = bootstrap(scored(metric, said, rows), scored(metric, other, rows), resamples=150, seed=2)
    draws = []
    for pick in np.random.default_rng(2).integers(0, 120, size=(150, 120)):
        right = [truth[i] for i in pick]
        base, tuned = (
            precision_recall_fscore_support(
                right, [texts[i] for i in pick], labels=LABELS[:3], average="macro", zero_division=0.0
            )[2]
            for texts in (said, other)
        )
        draws.append(tuned - base)
    np.testing.assert_allclose(ours.draws, draws, atol=1e-12)


def test_edit_distance_is_nltks():
    draw = random.Random(0)
    for _ in range(200):
        a, b = ("".join(draw.choices("abcé ", k=draw.randint(0, 90))) for _ in range(2))
        assert edits(a, b) == edit_distance(a, b)
    assert named("edit_similarity").score("kitten", "sitting") == pytest.approx(
        1 - 3 / 7
    )  # Levenshtein's standard case


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 0), (6, 0), (9, 4), (30, 12), (200, 260), (1, 1)])
def test_mcnemar_is_the_binomial_test(won, lost):
    expected = scipy_stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected)


def test_mcnemars_exact_test_on_a_published_table():
    # Agresti 2002, table 10.1 (approval of a prime minister, asked twice): 150 and 86 changed their minds, z^2 = 17.36.
    squared = (150 - 86) ** 2 / (150 + 86)
    assert squared == pytest.approx(17.36, abs=0.005)
    assert mcnemar(86, 150) == pytest.approx(scipy_stats.chi2.sf(squared, df=1), rel=0.3)
    assert mcnemar(86, 150) == pytest.approx(scipy_stats.binomtest(86, 236).pvalue)


@pytest.mark.parametrize("rows", [9, 60])
def test_the_permutation_test_is_scipys(rows):
    rng = np.random.default_rng(rows)
    base = rng.random(rows)
    tuned = np.clip(base + rng.normal(0.12, 0.3, rows), 0, 1)
    theirs = scipy_stats.permutation_test(
        (tuned, base), lambda t, b, axis: (t - b).mean(axis), permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=1,
    ).pvalue  # fmt: skip
    ours = permutation(of_mean(base), of_mean(tuned), permutations=20_000, seed=1)
    assert 0.001 < ours < 0.5
    assert ours == pytest.approx(theirs, abs=1e-12 if rows == 9 else 0.012)
