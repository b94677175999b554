"""Answers over a real connection: streams as they are written, callers who leave, faults that clients raise on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from said import BASE, Fake, live_house, until, with_fake, words
from serving import House
from tunesmith.inference.errors import BusyError, NoRoomError
from tunesmith.server.answering import Answerer

HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def fake(house: House) -> Fake:
    """What answers in the house."""
    return with_fake(house)


@pytest.fixture
def url(house: House, fake: Fake) -> Iterator[str]:
    """Where the house is."""
    with live_house(house) as made:
        yield made


def _client(house: House, url: str, **options: Any) -> openai.OpenAI:
    options = {"max_retries": 0, "timeout": 30} | options
    return openai.OpenAI(base_url=url, api_key=house.keys["all"], http_client=httpx2.Client(trust_env=False), **options)


def _still(house: House) -> int:
    """Tokens that the caller's rate has left."""
    return int(house.services.rates.headers(house.keys["all"][3:11])["x-ratelimit-remaining-tokens"])


def test_a_stream_comes_as_it_is_written(house: House, url: str, fake: Fake) -> None:
    fake.gate = threading.Event()
    with _client(house, url) as client, client.chat.completions.create(model=BASE, messages=HI, stream=True) as stream:
        texts = []
        for chunk in stream:
            texts.append(chunk.choices[0].delta.content)
            if texts[-1] == "lo":
                assert not fake.gate.is_set()
                fake.gate.set()
    assert texts == ["", "Hel", "lo", None]


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_cancels(house: House, url: str, fake: Fake, stream: bool) -> None:
    fake.gate = threading.Event()
    before = _still(house)
    with _client(house, url, timeout=0.5 if not stream else 30) as client:
        if stream:
            opened = client.chat.completions.create(model=BASE, messages=HI, stream=True)
            next(iter(opened))
            opened.close()
        else:
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(model=BASE, messages=HI)
    assert until(lambda: bool(fake.handles) and fake.handles[0].cancelled)
    assert until(lambda: _still(house) >= before - 10), "what was not written is given back"
    fake.gate.set()


def test_a_caller_who_leaves_before_the_first_piece_cancels(house: House, url: str, fake: Fake) -> None:
    fake.gate, fake.script = threading.Event(), words()
    with _client(house, url, timeout=0.5) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model=BASE, messages=HI, stream=True)
    assert until(lambda: fake.handles[0].cancelled)
    fake.gate.set()


def test_a_caller_who_leaves_a_response_cancels_and_leaves_nothing(house: House, url: str, fake: Fake) -> None:
    fake.gate = threading.Event()
    with _client(house, url) as client:
        opened = client.responses.create(model=BASE, input="Hi", stream=True)
        first = next(iter(opened))
        opened.close()
        assert until(lambda: fake.handles[0].cancelled)
        fake.gate.set()
        assert first.type == "response.created"
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.response.id)


def test_a_fault_in_a_stream_is_raised_by_clients(house: House, url: str, fake: Fake) -> None:
    fake.script = [*words("Hel")[:-1], RuntimeError("x")]
    with _client(house, url) as client:
        stream = client.chat.completions.create(model=BASE, messages=HI, stream=True)
        assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "Hel"]
        with pytest.raises(openai.APIError, match="had an error"):
            next(stream)
        with pytest.raises(openai.APIError, match="had an error"):
            list(client.responses.create(model=BASE, input="Hi", stream=True))


def test_a_full_queue_is_tried_again(house: House, url: str, fake: Fake) -> None:
    fake.refuse = BusyError("full")
    with _client(house, url) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=BASE, messages=HI)
    assert raised.value.response.headers["retry-after"] == "1"
    assert raised.value.code == "engine_overloaded"
    threading.Timer(0.2, lambda: setattr(fake, "refuse", None)).start()
    with _client(house, url, max_retries=3) as client:
        assert client.chat.completions.create(model=BASE, messages=HI).choices[0].message.content == "Hello"


def test_many_at_once_for_the_asynchronous_client(house: House, url: str, fake: Fake) -> None:
    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=url, api_key=house.keys["all"], max_retries=0, http_client=httpx2.AsyncClient(trust_env=False)
        ) as client:

            async def one(number: int) -> str:
                if number % 2:
                    said = await client.chat.completions.create(model=BASE, messages=HI)
                    return said.choices[0].message.content or ""
                stream = await client.chat.completions.create(model=BASE, messages=HI, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return list(await asyncio.gather(*map(one, range(40))))

    assert asyncio.run(all_of_them()) == ["Hello"] * 40


def test_the_strict_client_finds_the_shapes_that_it_knows(house: House, url: str, fake: Fake) -> None:
    with _client(house, url, _strict_response_validation=True) as client:
        client.chat.completions.create(model=BASE, messages=HI, logprobs=True, n=2)
        list(
            client.chat.completions.create(model=BASE, messages=HI, stream=True, stream_options={"include_usage": True})
        )
        client.completions.create(model=BASE, prompt="Once", logprobs=1)
        client.embeddings.create(model=BASE, input="Once", encoding_format="float")
        said = client.responses.create(model=BASE, input="Hi", instructions="Be brief.")
        assert said.output_text == "Hello"
        assert client.responses.retrieve(said.id).output_text == "Hello"
        assert [item.id for item in client.responses.input_items.list(said.id)]
        again = client.responses.create(model=BASE, input="More", previous_response_id=said.id, stream=True)
        assert "".join(event.delta for event in again if event.type == "response.output_text.delta") == "Hello"
        client.responses.delete(said.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(said.id)


def test_torch_is_loaded_with_the_first_question_and_not_before() -> None:
    code = (
        "import sys, tempfile, pathlib; from tunesmith.server.app import create_app; "
        "from tunesmith.server.settings import Settings; create_app(Settings(home=pathlib.Path(tempfile.mkdtemp()))); "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_while_a_model_is_loaded_other_routes_go_on(house: House, url: str) -> None:
    loading, loaded = threading.Event(), threading.Event()
    codes: list[int] = []

    def build() -> Any:
        loading.set()
        assert loaded.wait(30)
        raise NoRoomError("none")

    house.services.answerer = Answerer(house.services.models, house.services.settings.answering, build)
    with _client(house, url) as client:
        asks = [threading.Thread(target=_ask, args=(client, codes)) for _ in range(50)]
        for ask in asks:
            ask.start()
        try:
            assert loading.wait(30)
            for _ in range(3):
                assert client.models.list().data
        finally:
            loaded.set()
        for ask in asks:
            ask.join(30)
    assert codes == [503] * 50


def _ask(client: openai.OpenAI, codes: list[int]) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=BASE, messages=HI)
    codes.append(raised.value.status_code)
