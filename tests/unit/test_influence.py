"""Influence of training rows on lost ones: products of gradients, by autograd itself; what is told of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_lost import TRAIN, WAITING, row

import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.data.tokenize import Encoded
from tunesmith.evaluation import influence as module
from tunesmith.evaluation.influence import PROJECTED, Projection, influence
from tunesmith.evaluation.neighbour import Neighbours
from tunesmith.pipelines import pulls
from tunesmith.pipelines.lost import Pull, facts, lost, rows

HOW: dict[str, Any] = {"pad_id": 0, "number_type": "fp32", "seed": 0}


def rows_of(count: int, seed: int) -> list[Encoded]:
    """Rows of different lengths; the first two tokens are the prompt, and one label counts twice."""
    draw, made = np.random.default_rng(seed), []
    for _ in range(count):
        length = int(draw.integers(5, 12))
        weight = np.ones(length, dtype=np.float32)
        weight[:2], weight[3] = 0, 2
        made.append(Encoded(draw.integers(3, 96, length).astype(np.int32), weight))
    return made


@pytest.fixture(scope="module")
def tuned() -> tuple[Any, list[torch.nn.Parameter]]:
    """A tiny model whose adapter adds something."""
    model = tiny.model()
    adapter = LoraSpec(r=3, alpha=6, dropout=0.5).build()
    adapter.attach(model)
    torch.manual_seed(1)
    parameters = list(adapter.parameters().values())
    for parameter in parameters:
        parameter.data.normal_(std=0.3)
    return model, parameters


def by_autograd(model: Any, parameters: list[torch.nn.Parameter], one: Encoded) -> torch.Tensor:
    """The gradient of the weighted mean cross entropy, by a forward pass of transformers and `backward`."""
    ids = torch.from_numpy(one.input_ids.astype(np.int64))[None]
    logits = model(input_ids=ids).logits[0, :-1].double()
    weight = torch.from_numpy(one.loss_weight[1:]).double()
    losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    for parameter in parameters:
        parameter.grad = None
    torch.autograd.backward((losses * weight).sum() / weight.sum())
    found = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]).double()
    for parameter in parameters:
        parameter.grad = None
    return found


def test_scores_are_products_of_gradients(tuned: tuple[Any, list[torch.nn.Parameter]]) -> None:
    model, parameters = tuned
    test, train = rows_of(3, 1), rows_of(5, 2)
    model.train()  # dropout must be off all the same
    found = influence(model, parameters, test, train, **HOW)
    assert model.training
    model.eval()
    of_test, of_train = ([by_autograd(model, parameters, one) for one in part] for part in (test, train))
    wanted = np.array([[float(a @ b) for b in of_train] for a in of_test])
    lengths = np.outer([float(a.norm()) for a in of_test], [float(b.norm()) for b in of_train])
    # A product is rounded by a share of the lengths, also where most of it cancels.
    assert np.abs((found.dot_TC - wanted) / lengths).max() < 1e-6
    assert found.cosine_TC == pytest.approx(wanted / lengths, rel=1e-4, abs=1e-5)
    assert found.dimensions == found.parameters == sum(parameter.numel() for parameter in parameters)
    assert all(parameter.grad is None for parameter in parameters)
    assert np.abs(found.cosine_TC).max() < 0.999, "else a wrong row would pass"


def test_a_step_on_the_row_lowers_the_loss_by_the_product(tuned: tuple[Any, list[torch.nn.Parameter]]) -> None:
    model, parameters = tuned
    [test], [train] = rows_of(1, 3), rows_of(1, 4)
    found = influence(model, parameters, [test], [train], **HOW)

    def loss() -> float:
        ids = torch.from_numpy(test.input_ids.astype(np.int64))[None]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1].double()
        weight = torch.from_numpy(test.loss_weight[1:]).double()
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        return float((each * weight).sum() / weight.sum())

    step, rate, losses = module.gradient(model, parameters, train, 0), 1e-3, []
    for way in (rate, -2 * rate, rate):  # there, as far back on the other side, home
        for parameter, part in zip(parameters, step, strict=True):
            parameter.data += way * part
        losses.append(loss())
    assert (losses[0] - losses[1]) / 2 == pytest.approx(rate * found.dot_TC[0, 0], rel=0.02)


def test_projected_products_are_right_on_average_and_nearly_so_each() -> None:
    torch.manual_seed(0)
    a = [torch.randn(60, 100), torch.randn(3001)]
    b = [part + torch.randn_like(part) for part in a]
    exact = float(sum((x * y).sum() for x, y in zip(a, b, strict=True)))
    length = float(torch.cat([x.flatten() for x in a]).norm() * torch.cat([y.flatten() for y in b]).norm())
    found = []
    for seed in range(200):
        project = Projection(9001, 500, seed)
        assert not project.exact
        found.append(float(project(a) @ project(b)) / length)
    assert np.mean(found) == pytest.approx(exact / length, abs=3 * 1.5 / np.sqrt(500 * 200))
    assert 0.2 / np.sqrt(500) < np.std(found) < 2 / np.sqrt(500)


def test_gradients_too_large_to_be_kept_are_projected(
    tuned: tuple[Any, list[torch.nn.Parameter]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, parameters = tuned
    test, train = rows_of(2, 5), rows_of(4, 6)
    exact = influence(model, parameters, test, train, **HOW)
    monkeypatch.setattr(module, "MOST_BYTES", 4 * exact.parameters * 2 - 1)
    monkeypatch.setattr(module, "PROJECTED", 1024)
    found = influence(model, parameters, test, train, **HOW)
    assert (found.dimensions, found.parameters) == (1024, exact.parameters)
    assert np.abs(found.cosine_TC - exact.cosine_TC).max() < 5 / np.sqrt(1024)
    assert (found.dot_TC != exact.dot_TC).any()
    assert PROJECTED > 1024


def test_the_furthest_on_either_side_are_told_and_none_that_pulls_nowhere() -> None:
    cosine = np.array([0.5, -0.1, 0.0, 0.9, -0.7, 0.2, 0.3, -0.2, -0.3])
    found = pulls._furthest(list(range(10, 19)), cosine, 2 * cosine)
    assert [one.place for one in found] == [14, 18, 17, 13, 10, 16]
    assert found[0] == Pull(14, -0.7, -1.4)
    assert [one.place for one in pulls._furthest([3, 4], np.array([0.0, 0.1]), np.zeros(2))] == [4]


def test_contradictions_among_near_and_influential_rows_are_flagged() -> None:
    """The near row t:1 has a contrary among the influential ones that is not near enough to be told itself."""
    test = [row(WAITING.format("week"), "tracking", "v:1")]
    train = [TRAIN[0], TRAIN[2], TRAIN[1]]
    [near] = lost(train[:2], test, [0])
    assert (near.reason, near.contradicting) == ("near_but_wrong", ())
    pulled = pulls._contradicted(
        pulls.replace(near, pulls=(Pull(2, -0.4, -1.0), Pull(1, 0.2, 0.5))), Neighbours(train)
    )  # fmt: skip
    assert (pulled.reason, sorted(pulled.contradicting)) == ("contradicted", [0, 2])
    told = facts([pulled], train)[0]
    assert [(one["source"], one["pulls"], one["contradicted"]) for one in told["influential"]] == [
        ("t:2", "away", True), ("t:3", "towards", False)
    ]  # fmt: skip
    assert told["near"][0]["contradicted"]
    [line] = rows([pulled], train, test, ["refund"])
    assert line["influential"] == told["influential"]
    assert "influential" not in rows([near], train, test, ["refund"])[0]
    [away] = pulls._away([pulled], train)
    assert (away["source"], away["lost_rows"], away["similarity"], away["contradicted"]) == ("t:2", 1, -0.4, True)


def test_candidates_are_the_nearest_and_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [row(f"order {i} of thing {i}", str(i)) for i in range(60)]
    neighbours = Neighbours(many)
    monkeypatch.setattr(pulls, "NEAREST", 4)
    monkeypatch.setattr(pulls, "SAMPLED", 10)
    found = pulls._candidates(neighbours, [row("order 7 of thing 7", "x")], 3)
    assert 7 in found
    assert found == sorted(set(found))
    assert 10 <= len(found) <= 14
    assert found == pulls._candidates(neighbours, [row("order 7 of thing 7", "x")], 3)
