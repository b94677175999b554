"""Requests for answers made from our own description, with every model there: nothing of them is a fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from said import Fake, live_house, with_fake, words
from serving import House, error
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
    """So many cases of each route, half of them wrong on purpose; the statuses of POSTs that the schema allows."""
    schema = schemathesis.openapi.from_dict(house.client.get("/openapi.json").json())
    seen: Counter[int] = Counter()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["authorization"] = f"Bearer {house.keys['all']}"
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path.startswith(OURS):
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    _ask(lambda case: case.call(session=session, base_url=url), operation, mode, -(-cases // 2), seen)
    return seen


def _ask(call: Callable[[Any], Any], operation: Any, mode: GenerationMode, cases: int, seen: Counter[int]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: Any) -> None:
        response = call(case)
        case.validate_response(response, checks=[not_a_server_error, status_code_conformance])
        if response.status_code >= 400:
            error(response)
        if mode is GenerationMode.POSITIVE and operation.method == "post":
            seen[response.status_code] += 1

    with suppress(Unsatisfiable):
        ask()


def test_some_cases_of_each_route(house: House, url: str) -> None:
    assert _fuzz(house, url, 12)[200] >= 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_cases_of_each_route(house: House, url: str) -> None:
    assert _fuzz(house, url, 150)[200] >= 50
