"""Real models behind the server, asked through the clients that people have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch

import tiny
from said import live_house
from serving import House
from tunesmith.server.records.models import NoModelError
from tunesmith.server.records.models import Served as Named

BASE = "bundled/tunesmith-8m"
ALIAS = "gpt-4o-mini-2024-07-18"
HI: Any = [{"role": "user", "content": "Hello, who are you?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather", "description": "The weather of a city",
        "parameters": {
            "type": "object", "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
            "required": ["city"], "additionalProperties": False,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[House]:
    """A server over the bundled base and a tiny one."""
    stories = str(shared / "models" / "stories260K")
    with House.open(
        tmp_path_factory.mktemp("real") / "home", aliases={ALIAS: BASE, "stories": stories}, bases=[stories],
        answering={"waiting": 40},
    ) as made:  # fmt: skip
        yield made


@pytest.fixture(scope="module")
def url(house: House) -> Iterator[str]:
    """Where it is."""
    with live_house(house) as made:
        yield made


@pytest.fixture
def client(house: House, url: str) -> Iterator[openai.OpenAI]:
    """The official client."""
    with openai.OpenAI(
        base_url=url, api_key=house.keys["all"], max_retries=0, http_client=httpx2.Client(trust_env=False)
    ) as made:
        yield made


@cache
def _alone(text: str, most: int) -> str:
    """transformers' greedy answer to one message, in the numbers that the server computes with on this machine."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunesmith.engine import precision
    from tunesmith.pipelines.served import served_base

    served = served_base(BASE)
    folder = served.base.folder
    words = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    given = words.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with precision.context(served.number_type, model):
        out = model.generate(**given, max_new_tokens=most, do_sample=False)[0, given["input_ids"].shape[1] :]
    return str(words.decode(out, skip_special_tokens=True))


def test_a_chat_is_the_models_own_greedy_answer(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(model=ALIAS, messages=HI, temperature=0, max_tokens=20)
    assert said.choices[0].message.content == _alone(HI[0]["content"], 20)
    stream = client.chat.completions.create(
        model=BASE, messages=HI, temperature=0, max_tokens=20, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == said.choices[0].message.content
    assert chunks[-1].usage == said.usage


def test_embeddings_tell_texts_apart(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model=BASE, input=["I want a flight", "I want a flight", "Play some music"])
    first, same, other = (torch.tensor(one.embedding) for one in made.data)
    assert float(first.norm()) == pytest.approx(1, abs=1e-5)
    assert float(first @ same) == pytest.approx(1, abs=1e-5)
    assert float(first @ other) < 0.999
    assert made.usage.prompt_tokens > 3
    raw = client.embeddings.create(model=BASE, input="I want a flight", encoding_format="float")
    assert raw.data[0].embedding == pytest.approx(first.tolist(), abs=1e-6)


@pytest.mark.slow
def test_seeds_stops_and_bias(client: openai.OpenAI) -> None:
    def ask(**more: Any) -> list[str | None]:
        said = client.chat.completions.create(model=BASE, messages=HI, max_tokens=12, **more)
        return [choice.message.content for choice in said.choices]

    drawn = ask(seed=5, n=3)
    assert drawn == ask(seed=5, n=3)
    assert len(set(drawn)) > 1
    assert drawn != ask(seed=6, n=3)
    whole = _alone(HI[0]["content"], 12)
    stop = whole.split()[1]
    assert ask(temperature=0, stop=[stop]) == [whole[: whole.index(stop)]]
    told = client.chat.completions.create(
        model=BASE, messages=HI, max_tokens=1, temperature=0, logprobs=True, top_logprobs=5
    )
    logprobs = told.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    top = [one.logprob for one in logprobs.content[0].top_logprobs]
    assert len(top) == 5
    assert top == sorted(top, reverse=True)
    assert logprobs.content[0].logprob == top[0]


@pytest.mark.slow
def test_json_as_it_is_asked_for(client: openai.OpenAI) -> None:
    schema = {
        "type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "maximum": 9}},
        "required": ["city", "days"], "additionalProperties": False,
    }  # fmt: skip
    for seed in range(3):
        said = client.chat.completions.create(
            model=BASE, messages=HI, max_tokens=80, seed=seed,
            response_format={"type": "json_schema", "json_schema": {"name": "trip", "schema": schema, "strict": True}},
        )  # fmt: skip
        made = json.loads(said.choices[0].message.content or "")
        assert set(made) == {"city", "days"}
        assert made["city"] in ("Rome", "Oslo")
    answer = client.responses.create(
        model=BASE, input="Where?", max_output_tokens=80,
        text={"format": {"type": "json_schema", "name": "trip", "schema": schema}},
    )  # fmt: skip
    assert set(json.loads(answer.output_text)) == {"city", "days"}


@pytest.mark.slow
def test_a_tool_that_must_be_called(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(
        model=BASE,
        messages=HI,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=120,
        seed=1,
    )
    assert said.choices[0].finish_reason == "tool_calls"
    calls = said.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert json.loads(calls[0].function.arguments)["city"] in ("Rome", "Oslo")
    flat = {"type": "function", "strict": True} | WEATHER["function"]
    answer = client.responses.create(
        model=BASE, input="Weather?", tools=[flat], tool_choice="required", parallel_tool_calls=False
    )
    assert answer.output[0].type == "function_call"
    assert json.loads(answer.output[0].arguments)["city"] in ("Rome", "Oslo")


@pytest.mark.slow
def test_completions_are_scored_as_the_model_scores(client: openai.OpenAI, shared: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunesmith.engine import precision
    from tunesmith.pipelines.served import served_base

    folder = shared / "models" / "stories260K"
    served = served_base(str(folder))
    words, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
    )
    ids = words("Once upon a time there was a cat")["input_ids"]
    said = client.completions.create(model="stories", prompt=ids, echo=True, logprobs=0, max_tokens=0)
    with torch.inference_mode(), precision.context(served.number_type, model):
        logits = model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
    wanted = logits[range(len(ids) - 1), ids[1:]].tolist()
    logprobs = said.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.token_logprobs[0] is None
    near = 0.1 if served.number_type == "bf16" else 1e-4
    assert logprobs.token_logprobs[1:] == pytest.approx(wanted, abs=near)
    told = client.completions.create(model="stories", prompt=["Once upon", "The cat"], max_tokens=8, temperature=0, n=2)
    texts = [choice.text for choice in told.choices]
    assert texts[0] == texts[1] != texts[2] == texts[3]


@pytest.mark.slow
def test_a_prompt_that_is_too_long(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "long " * 5_000}])
    assert raised.value.code == "context_length_exceeded"
    assert raised.value.param == "messages"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-17", messages=HI)
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=BASE, messages=HI, logit_bias={"99999999": 1})
    assert raised.value.param == "logit_bias"


@pytest.mark.slow
def test_a_queue_that_is_full_is_a_429_and_callers_who_leave_make_room(house: House, url: str) -> None:
    async def crowd() -> list[int]:
        async with httpx2.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {house.keys['all']}"}, trust_env=False, timeout=120
        ) as client:
            body = {"model": BASE, "messages": HI, "max_tokens": 400, "n": 20, "logit_bias": {}}
            asked = [asyncio.create_task(client.post("/chat/completions", json=body)) for _ in range(8)]
            done, _ = await asyncio.wait(asked, timeout=120, return_when=asyncio.FIRST_COMPLETED)
            codes = [task.result().status_code for task in done]
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            last = await client.post("/chat/completions", json={"model": BASE, "messages": HI, "max_tokens": 2})
            while last.status_code == 429:
                await asyncio.sleep(float(last.headers["retry-after"]))
                last = await client.post("/chat/completions", json={"model": BASE, "messages": HI, "max_tokens": 2})
            return [*codes, last.status_code]

    *codes, last = asyncio.run(crowd())
    assert 429 in codes
    assert last == 200


@pytest.mark.slow
def test_langchain(house: House, url: str) -> None:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    chat = ChatOpenAI(model=ALIAS, base_url=url, api_key=house.keys["all"], temperature=0, max_tokens=20, max_retries=0)
    wanted = _alone("Hello, who are you?", 20)
    assert chat.invoke("Hello, who are you?").content == wanted
    assert "".join(str(part.content) for part in chat.stream("Hello, who are you?")) == wanted
    assert asyncio.run(chat.ainvoke("Hello, who are you?")).content == wanted
    longer = ChatOpenAI(model=ALIAS, base_url=url, api_key=house.keys["all"], max_tokens=100, max_retries=0)
    called = longer.bind_tools([WEATHER], tool_choice="weather").invoke("Hello")
    assert called.tool_calls[0]["args"]["city"] in ("Rome", "Oslo")
    place = {
        "title": "place", "type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"],
        "additionalProperties": False,
    }  # fmt: skip
    shaped = ChatOpenAI(model=ALIAS, base_url=url, api_key=house.keys["all"], max_tokens=60, max_retries=0)
    assert shaped.with_structured_output(place, method="json_schema").invoke("Where?")["city"] in ("Rome", "Oslo")
    answered = ChatOpenAI(
        model=ALIAS, base_url=url, api_key=house.keys["all"], temperature=0, max_tokens=20, max_retries=0,
        use_responses_api=True,
    ).invoke("Hello, who are you?")  # fmt: skip
    assert answered.text == wanted
    embedded = OpenAIEmbeddings(
        model=ALIAS, base_url=url, api_key=house.keys["all"], check_embedding_ctx_length=False
    ).embed_query("Hello")
    assert sum(x * x for x in embedded) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_a_tuned_model_answers_under_its_name(
    house: House, client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny.write_task(tmp_path / "task", tiny.base_folder(tmp_path / "base"))
    assert tiny.tunesmith("train", recipe, "--out", tmp_path / "run").returncode == 0
    prompt = tiny.rows(100, 1)[0]["messages"][0]["content"]
    done = tiny.tunesmith("generate", tmp_path / "run", "--prompt", prompt, "--max-tokens", 8, "--json")
    name, known = "ft:base:personal::abcdefgh", house.services.models.resolve

    def resolve(project_id: str, asked: str) -> Named:
        if asked != name:
            return known(project_id, asked)
        if project_id != "proj_default":
            raise NoModelError("no")
        return Named(name, "base", run=tmp_path / "run", weights=tmp_path / "run" / "adapter")

    monkeypatch.setattr(house.services.models, "resolve", resolve)
    said = client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=8
    )
    assert said.model == name
    assert said.choices[0].message.content == json.loads(done.stdout)["text"]
    house.services.answerer.forget(tmp_path / "run" / "adapter")
    with (
        openai.OpenAI(
            base_url=client.base_url, api_key=house.keys["other"], http_client=httpx2.Client(trust_env=False)
        ) as other,
        pytest.raises(openai.NotFoundError),
    ):
        other.chat.completions.create(model=name, messages=HI)
