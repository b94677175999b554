"""What lm-evaluation-harness is told of a model equals what its own backend for transformers would say."""

from __future__ import annotations

from typing import Any

import pytest

import tiny

pytest.importorskip("lm_eval", reason="needs the extra 'lm-eval', which is not installed here")
pytestmark = pytest.mark.filterwarnings("default")  # the harness's own dependencies warn

PAIRS = [("Tom has a", " ball"), ("Tom has a ", "ball"), ("", "Sue"), ("Lily has a cat, no 3. What?", " cat, surely")]
TEXTS = ["Tom has a ball.", " ".join(["Lily has a cat and Sue has a dog"] * 20)]


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    """The harness's own backend, and ours, over one model. A token that is only predicted takes a place in our context,
    and none in theirs."""
    from lm_eval.models.huggingface import HFLM

    from tunesmith.evaluation.harness import _Asked
    from tunesmith.evaluation.harness_config import Loaded

    words = tiny.tokenizer()
    model = tiny.model("llama", vocabulary=len(words))
    theirs = HFLM(pretrained=model, tokenizer=words, max_length=tiny.CONTEXT - 1, batch_size=4)
    loaded = Loaded(model, words, words.pad_token_id, {words.eos_token_id}, tiny.CONTEXT, "fp32")
    return theirs, _Asked(loaded, lambda done, total: None)


def requests(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, one, number) for number, one in enumerate(arguments)]


def test_log_likelihoods_and_whether_greedy_decoding_says_it(both: tuple[Any, Any]) -> None:
    theirs, ours = both
    asked: list[tuple[Any, ...]] = [*PAIRS]
    [said] = ours.generate_until(requests("generate_until", [("Tom has a", {"max_gen_toks": 3, "until": []})]))
    asked.append(("Tom has a", said))
    expected = theirs.loglikelihood(requests("loglikelihood", asked), disable_tqdm=True)
    found = ours.loglikelihood(requests("loglikelihood", asked))
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=2e-4)
    assert [greedy for _, greedy in found] == [bool(greedy) for _, greedy in expected]


def test_whole_texts_in_windows(both: tuple[Any, Any]) -> None:
    theirs, ours = both
    asked = [(text,) for text in TEXTS]
    expected = theirs.loglikelihood_rolling(requests("loglikelihood_rolling", asked), disable_tqdm=True)
    found = ours.loglikelihood_rolling(requests("loglikelihood_rolling", asked))
    assert found == pytest.approx(expected, abs=2e-3)


def test_answers_up_to_a_stop_text(both: tuple[Any, Any]) -> None:
    theirs, ours = both
    how = {"until": ["e"], "max_gen_toks": 12, "do_sample": False}
    asked = [(text, dict(how)) for text in ("Tom has a", "Sue", "Lily has a cat, no 3. What?")]
    expected = theirs.generate_until(requests("generate_until", asked), disable_tqdm=True)
    assert ours.generate_until(requests("generate_until", [(t, dict(h)) for t, h in asked])) == expected
