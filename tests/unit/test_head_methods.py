"""The model side of reward models and classifiers: batches to losses, against plain torch on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import families
from tunesmith.adapters.config import FullSpec
from tunesmith.adapters.headed import Headed
from tunesmith.core.messages import Example, Message
from tunesmith.data.answers import Pair
from tunesmith.data.classes import Classed, ClassedRows, answer, by_frequency, prompt
from tunesmith.data.tokenize import Encoded
from tunesmith.engine.evaluate import validate
from tunesmith.methods.base import Heading, Scene
from tunesmith.methods.classify.config import ClassifySpec
from tunesmith.methods.classify.method import class_weights
from tunesmith.methods.preference.config import PreferenceSpec
from tunesmith.methods.reward.config import RewardSpec
from tunesmith.methods.sft.config import SftSpec
from tunesmith.models import load
from tunesmith.models.heads import Head
from tunesmith.models.refs import Base

CPU = torch.device("cpu")
LABELS = ("red", "green", "blue")


class _Words:
    pad_token_id = 0


def _row(prompt_ids: list[int], answer_ids: list[int]) -> Encoded:
    weight = [0.0] * len(prompt_ids) + [1.0] * len(answer_ids)
    return Encoded(np.array(prompt_ids + answer_ids, np.int32), np.array(weight, np.float32))


PAIRS = [
    Pair(_row([1, 5, 9, 13, 17], [30, 31, 2]), _row([1, 5, 9, 13, 17], [40, 2]), 0.5),
    Pair(_row([1, 8], [50, 51, 2]), _row([1, 8], [50, 52, 53, 54, 55, 56, 2]), 1.5),
    Pair(_row([1, 8, 7], [60, 2]), _row([1, 8, 7], [61, 2])),
]
PROMPTS = [Classed(_row(ids, []), label) for ids, label in (([1, 5, 9], 0), ([1, 8, 7, 6, 5], 2), ([1, 4], 0))]


@pytest.fixture
def scene(tmp_path: Path) -> Any:
    """A tiny base with a head of so many labels that says something."""

    def made(labels: tuple[str, ...], rows: Any) -> Scene:
        families.model("llama").save_pretrained(tmp_path)
        model: Any = load.model(Base("tiny", tmp_path), torch.float32, Head(labels))
        torch.manual_seed(1)
        torch.nn.init.normal_(model.score.weight)
        adapter = Headed(FullSpec().build(), "score")
        adapter.attach(model)
        return Scene(model, adapter, _Words(), 0, rows, rows[:1])

    return made


def _alone(model: Any, row: Encoded) -> torch.Tensor:
    return model(input_ids=torch.tensor(row.input_ids, dtype=torch.long).unsqueeze(0)).logits[0]


def test_the_reward_loss_is_that_of_each_answer_alone(scene: Any) -> None:
    found = scene(("reward",), PAIRS)
    method = RewardSpec(margin="m", centring=0.1).build()
    learned = method.prepare(found)
    loss = method.loss_sum(found.model, method.batch(learned.train, 0, CPU))
    rewards = [(_alone(found.model, pair.chosen), _alone(found.model, pair.rejected)) for pair in PAIRS]
    expected = sum(
        -F.logsigmoid(c - r - pair.margin) + 0.1 * (c + r) ** 2 for pair, (c, r) in zip(PAIRS, rewards, strict=True)
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    told = method.tally.take()
    assert told["margin"] == pytest.approx(sum((c - r).item() for c, r in rewards), rel=1e-4)
    assert told["accuracy"] == sum(c > r for c, r in rewards)


def test_held_out_rewards_have_neither_margin_nor_centring(scene: Any) -> None:
    found = scene(("reward",), PAIRS)
    method = RewardSpec(margin="m", centring=0.1).build()
    figures = method.held_out(found.model, PAIRS, pad_id=0, number_type="fp32")
    difference = figures["chosen"] - figures["rejected"]
    np.testing.assert_allclose(figures["loss"], np.log1p(np.exp(-difference)), rtol=1e-6)
    with torch.no_grad():
        assert figures["chosen"][1] == pytest.approx(_alone(found.model, PAIRS[1].chosen).item(), rel=1e-5)
    [(base, tuned)] = method.compared({"chosen": np.zeros(3), "rejected": np.zeros(3)}, figures).values()
    assert base.tolist() == [0.5, 0.5, 0.5]
    assert tuned.tolist() == (difference > 0).astype(float).tolist()


@pytest.mark.parametrize("weights", ["equal", "balanced", {"blue": 3.0}])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_class_loss_is_torch_s_mean(weights: Any, smoothing: float, scene: Any) -> None:
    found = scene(LABELS, PROMPTS)
    method = ClassifySpec(labels=LABELS, class_weights=weights, label_smoothing=smoothing).build()
    learned = method.prepare(found)
    loss = method.loss_sum(found.model, method.batch(learned.train, 0, CPU)) / sum(r.weight for r in learned.train)
    logits = torch.stack([_alone(found.model, row.prompt) for row in PROMPTS])
    weight = {"equal": [1, 1, 1], "balanced": [3 / (3 * 2), 1, 3 / 3]}.get(str(weights), [1, 1, 3])
    expected = F.cross_entropy(
        logits, torch.tensor([0, 2, 0]), torch.tensor(weight, dtype=torch.float32), label_smoothing=smoothing
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_validation_tells_the_share_put_right(scene: Any) -> None:
    found = scene(LABELS, PROMPTS)
    method = ClassifySpec(labels=LABELS).build()
    method.prepare(found)
    told = validate(found.model, method, PROMPTS, pad_id=0, number_type="fp32")
    right = [int(_alone(found.model, row.prompt).argmax()) == row.label for row in PROMPTS]
    assert told.figures["accuracy"] == pytest.approx(sum(right) / 3)
    figures = method.held_out(found.model, PROMPTS, pad_id=0, number_type="fp32")
    assert figures["loss"].mean() == pytest.approx(told.loss, rel=1e-5)


def test_balanced_weights_are_1_on_average_and_a_label_without_rows_counts_1() -> None:
    numbers = [0] * 6 + [1] * 3
    found = class_weights(ClassifySpec(labels=LABELS, class_weights="balanced"), numbers)
    assert found.tolist() == [pytest.approx(0.5), pytest.approx(1.0), 1.0]


def test_which_methods_have_a_head() -> None:
    heading = (RewardSpec(), ClassifySpec(labels=LABELS))
    assert all(isinstance(spec.build(), Heading) and spec.head for spec in heading)
    assert not any(isinstance(spec.build(), Heading) or spec.head for spec in (SftSpec(), PreferenceSpec()))


def _said(*turns: tuple[str, str, float | None]) -> Example:
    return Example(messages=tuple(Message(role=r, content=c, weight=w) for r, c, w in turns))


def test_the_label_is_the_last_learned_turn_and_the_prompt_what_stands_before_it() -> None:
    example = _said(("user", "a", None), ("assistant", "one", None), ("user", "b", None), ("assistant", " two ", None),
                    ("assistant", "note", 0.0))  # fmt: skip
    assert answer(example) == "two"
    weight = np.array([0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0], np.float32)
    found = prompt(Encoded(np.arange(11, dtype=np.int32), weight))
    assert found.input_ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert not found.loss_weight.any()
    [row] = ClassedRows([example], [Encoded(np.arange(11, dtype=np.int32), weight)], ("one", "two"))
    assert (row.label, row.length, row.labelled) == (1, 6, 1)


def test_thinking_is_no_part_of_a_label() -> None:
    assert answer(_said(("user", "a", None), ("assistant", "<think>hm</think>\nyes", None))) == "yes"


def test_labels_come_by_frequency_and_then_by_name() -> None:
    assert by_frequency(["b", "c", "a", "c"]) == ("c", "a", "b")
