"""Requests for answers made from our own description, with every model there: nothing of them is a fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from fuzzing import fuzz
from said import Fake, live_house, with_fake, words
from serving import House
from tunesmith.inference.ask import ToolCall
from tunesmith.server.records.models import Served as Named

OURS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/tunesmith/feedback")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server where each name is that of a model, which keeps all that it is asked."""
    rates = {"requests_per_minute": 10**9, "tokens_per_minute": 10**12}
    with House.open(
        tmp_path_factory.mktemp("fuzzed") / "home", limits=rates, keep={"answers": True, "most": 50}
    ) as made:
        with_fake(made, Fake(words("Hel", "lo", calls=[ToolCall("look", "{}")], finish="tool_calls")))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(made.services.models, "resolve", lambda project, name: Named(name, "base"))
            yield made


@pytest.fixture(scope="module")
def url(house: House) -> Iterator[str]:
    """The same over a socket."""
    with live_house(house) as made:
        yield made.removesuffix("/v1")


def _fuzz(house: House, url: str, cases: int) -> Counter[int]:
    """So many cases of each route; the statuses of POSTs that the schema allows."""
    seen: Counter[int] = Counter()

    def after(case: Any, response: Any, mode: GenerationMode) -> None:
        if mode is GenerationMode.POSITIVE and case.operation.method == "post":
            seen[response.status_code] += 1

    fuzz(house, url, cases, [not_a_server_error, status_code_conformance], prefixes=OURS, after=after)
    return seen


def test_some_cases_of_each_route(house: House, url: str) -> None:
    assert _fuzz(house, url, 12)[200] >= 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_cases_of_each_route(house: House, url: str) -> None:
    assert _fuzz(house, url, 150)[200] >= 50
