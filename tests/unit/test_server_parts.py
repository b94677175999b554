"""The server's small parts: hosts, rates, settings, places to listen, forms."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.cli import serve
from tunesmith.core.errors import ConflictError, ContentError, MissingError, NotAllowedError, UsageError
from tunesmith.server import settings as server_settings
from tunesmith.server.errors import ApiError
from tunesmith.server.hosts import Hosts
from tunesmith.server.listen import Place, bound, only_server
from tunesmith.server.multipart import Form
from tunesmith.server.rates import Rates
from tunesmith.server.routes import keys, tunesmith
from tunesmith.server.services import Services

# hosts


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Never called here."""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8000"}, None),
        ({"host": "localhost"}, None),
        ({"host": "LOCALHOST:1"}, None),
        ({"host": "[::1]:8000"}, None),
        ({"host": "api.ours.example"}, None),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "localhost.evil.example:8000"}, 421),
        ({"host": "evil.example@127.0.0.1"}, 421),
        ({"host": "127.0.0.1:8000/v1"}, 421),
        ({"host": "[::1"}, 421),
        ({"host": ""}, 421),
        ({}, 421),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, None),
        ({"host": "localhost:8000", "origin": "http://localhost:3000"}, 403),
        ({"host": "localhost:8000", "origin": "https://tools.example"}, None),
        ({"host": "localhost:8000", "origin": "http://tools.example"}, 403),
        ({"host": "localhost:8000", "origin": "null"}, 403),
        ({"host": "localhost:8000", "origin": "file://localhost:8000"}, 403),
        ({"host": "localhost:8000", "origin": ""}, 403),
    ],
)
def test_hosts_and_origins(headers: dict[str, str], status: int | None) -> None:
    judge = Hosts(_app, ["api.ours.example"], ["https://tools.example/"])
    found = judge.judge([(name.encode(), value.encode()) for name, value in headers.items()])
    assert (found and found.status) == status


def test_two_hosts_are_none_and_a_star_is_all() -> None:
    assert Hosts(_app, []).judge([(b"host", b"localhost"), (b"host", b"localhost")])
    assert Hosts(_app, ["*"]).judge([(b"host", b"anything.example")]) is None
    assert Hosts(_app, ["*"]).judge([(b"host", b"a.example"), (b"origin", b"http://b.example")])


# rates


def test_a_bucket_empties_and_fills_evenly() -> None:
    now = 0.0
    rates = Rates(60, 600, lambda: now)
    for _ in range(60):
        rates.request("a")
    with pytest.raises(ApiError) as refused:
        rates.request("a")
    assert refused.value.headers["retry-after-ms"] == "1001"
    assert rates.headers("a")["x-ratelimit-remaining-requests"] == "0"
    assert rates.headers("a")["x-ratelimit-reset-requests"] == "60000ms"
    rates.request("b")  # another key has its own
    now = 1.5
    rates.request("a")
    with pytest.raises(ApiError):
        rates.request("a")


def test_more_tokens_than_a_bucket_holds_wait_for_a_full_one() -> None:
    now = 0.0
    rates = Rates(60, 600, lambda: now)
    rates.tokens("a", 5_000)
    with pytest.raises(ApiError):
        rates.tokens("a", 1)
    rates.give_back("a", 10**9)
    assert rates.headers("a")["x-ratelimit-remaining-tokens"] == "600"


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 40)), max_size=60))
def test_no_bucket_gives_more_than_its_rate(asked: list[tuple[float, int]]) -> None:
    now = given_out = 0.0
    rates = Rates(1, 60, lambda: now)
    for pause, amount in asked:
        now += pause
        try:
            rates.tokens("a", amount)
        except ApiError:
            continue
        given_out += amount
    assert given_out <= 60 + now + 1e-6


# settings


def _read(folder: Path, text: str, **environment: str) -> server_settings.Settings:
    (folder / "server.yaml").write_text(text, "utf-8")
    return server_settings.read(environment)


def test_settings_come_from_flag_then_environment_then_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    text = "organization: ours\naliases: {gpt-4o: bundled/tunesmith-8m}\nlimits: {body_bytes: 5}\n"
    found = _read(tmp_path, text)
    assert (found.organization, found.result_csv, found.limits.body_bytes) == ("ours", "base64", 5)
    assert found.limits.file_bytes == 512 * 2**20
    assert _read(tmp_path, text, TUNESMITH_SERVER_ORGANIZATION="theirs").organization == "theirs"
    assert server_settings.read({"TUNESMITH_SERVER_ORGANIZATION": "a"}, organization="b").organization == "b"
    assert _read(tmp_path, "").aliases == {}


@pytest.mark.parametrize(("flag", "found"), [(None, "bf16"), ("fp32", "fp32"), ("auto", "auto")])
def test_a_number_type_of_the_flag_comes_before_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: Any, found: str
) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    (tmp_path / "server.yaml").write_text("answering: {precision: bf16, waiting: 3}", "utf-8")
    seen: list[Services] = []
    monkeypatch.setattr(serve, "_serve", lambda services, place, *, worker: seen.append(services))
    serve.command(port=0, worker=False, precision=flag)
    answering = seen[0].settings.answering
    assert (answering.precision, answering.waiting) == (found, 3)
    seen[0].close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("organisation: x", "did you mean 'organization'"),
        ("limits: {bodybytes: 3}", "did you mean 'body_bytes'"),
        ("limits: {body_bytes: 0}", "wrong setting 'limits.body_bytes'"),
        ("organization: 'a:b'", "wrong setting 'organization'"),
        ("result_csv: base32", "wrong setting 'result_csv'"),
        ("aliases: {'ft:a:b::c': bundled/tunesmith-8m}", "wrong setting 'aliases'"),
        ("- a list", "no table of settings"),
        ("a: [", "cannot read"),
    ],
)
def test_wrong_settings_name_file_and_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    with pytest.raises(ContentError) as refused:
        _read(tmp_path, text)
    assert says in str(refused.value)
    assert "server.yaml" in str(refused.value)


PAGE = (Path(__file__).parents[2] / "docs/serve.md").read_text("utf-8")


def test_the_page_tells_every_limit_and_its_default() -> None:
    told = dict(re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", PAGE, flags=re.MULTILINE))
    assert told == {name: str(int(value)) for name, value in server_settings.Limits().model_dump().items()}


def test_the_page_s_settings_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    block = re.search(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert block is not None
    found = _read(tmp_path, block.group(1))
    assert found.model_fields_set == set(server_settings.Settings.model_fields) - {"database"}


def test_the_page_tells_every_call_of_our_own() -> None:
    told = set(re.findall(r"`(?:GET|POST|DELETE) (/v1/tunesmith/[^`?]+)", PAGE))
    every = [*tunesmith.routes.routes, *keys.routes.routes]
    ours = {re.sub(r"{\w+}", "ID", route.path_format) for route in every}
    assert told == ours


# places


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_nothing(host: str) -> None:
    Place(host).require_allowed(has_keys=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "10.0.0.1", "example.com", "127.0.0.1.example.com"])
def test_other_addresses_need_encryption_and_keys(host: str, tmp_path: Path) -> None:
    with pytest.raises(NotAllowedError, match="nothing would be encrypted"):
        Place(host).require_allowed(has_keys=True)
    with pytest.raises(NotAllowedError, match="no valid API key"):
        Place(host, behind_proxy=True).require_allowed(has_keys=False)
    Place(host, behind_proxy=True).require_allowed(has_keys=True)
    pem = tmp_path / "a.pem"
    pem.touch()
    Place(host, certificate=pem, private_key=pem).require_allowed(has_keys=True)
    with pytest.raises(UsageError):
        Place(host, certificate=pem).require_allowed(has_keys=True)
    with pytest.raises(MissingError):
        Place(host, certificate=pem, private_key=tmp_path / "b.pem").require_allowed(has_keys=True)


def test_one_server_for_a_home_and_one_for_a_port(tmp_path: Path) -> None:
    with only_server(tmp_path), pytest.raises(ConflictError, match="another server"), only_server(tmp_path):
        pass
    with only_server(tmp_path):
        pass
    first = bound(Place(port=0))
    with pytest.raises(ConflictError, match="cannot listen"):
        bound(Place(port=first.getsockname()[1]))
    first.close()
    with pytest.raises(MissingError, match="no address"):
        bound(Place(host="203.0.113.7", port=0))


# forms


def _form(*parts: tuple[str, bytes]) -> bytes:
    made = b""
    for name, content in parts:
        made += f'--bound\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'.encode()
        made += content + b"\r\n"
    return made + b"--bound--\r\n"


KIND = "multipart/form-data; boundary=bound"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=300)), min_size=1, max_size=5),
    st.lists(st.integers(0, 2_000), max_size=12),
)
def test_a_form_is_the_same_in_whatever_pieces_it_comes(parts: list[tuple[str, bytes]], cuts: list[int]) -> None:
    parts = [(name, content.replace(b"--bound", b"")) for name, content in parts]
    whole = _form(*parts)
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(edges)]
    assert [(part.name, b"".join(part.content)) for part in Form(pieces, KIND)] == parts


@given(st.integers(0, 400))
def test_a_form_that_is_cut_anywhere_is_refused(cut: int) -> None:
    whole = _form(("a", b"x" * 100), ("b", b"y" * 100))
    kept = whole[: min(cut, len(whole) - 4)]  # the last boundary without its two hyphens is none
    with pytest.raises(ApiError) as refused:
        list(Form([kept], KIND))
    assert refused.value.status == 400


def test_a_part_that_is_not_read_is_skipped() -> None:
    assert [part.name for part in Form([_form(("a", b"1"), ("b", b"2"))], KIND)] == ["a", "b"]
