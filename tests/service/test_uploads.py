"""Uploads in parts: truncated, reordered, doubled, missing; nothing half-made is left."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from serving import ROWS, House, error


def _begin(house: House, size: int = len(ROWS), purpose: str = "fine-tune") -> str:
    body = {"filename": "rows.jsonl", "purpose": purpose, "bytes": size, "mime_type": "application/jsonl"}
    answer = house.ask("POST", "/v1/uploads", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "pending"
    assert answer.json()["expires_at"] == answer.json()["created_at"] + 3600
    return str(answer.json()["id"])


def _part(house: House, upload: str, data: bytes) -> Any:
    return house.ask("POST", f"/v1/uploads/{upload}/parts", files={"data": ("part", data)})


def _parts(house: House, upload: str, *pieces: bytes) -> list[str]:
    return [str(_part(house, upload, piece).json()["id"]) for piece in pieces]


def _complete(house: House, upload: str, parts: list[str], **more: str) -> Any:
    return house.ask("POST", f"/v1/uploads/{upload}/complete", json={"part_ids": parts} | more)


def _files(house: House) -> int:
    return len(house.ask("GET", "/v1/files").json()["data"])


def test_parts_are_put_together_in_the_order_that_is_named(house: House) -> None:
    upload = _begin(house)
    last, first = _parts(house, upload, ROWS[300:], ROWS[:300])
    done = _complete(house, upload, [first, last], md5=hashlib.md5(ROWS).hexdigest()).json()
    assert (done["status"], done["file"]["bytes"]) == ("completed", len(ROWS))
    assert house.ask("GET", f"/v1/files/{done['file']['id']}/content").content == ROWS
    assert house.blobs() == 1  # the parts are gone


def test_an_md5_may_be_in_base64(house: House) -> None:
    upload = _begin(house)
    digest = base64.b64encode(hashlib.md5(ROWS).digest()).decode()
    assert _complete(house, upload, _parts(house, upload, ROWS), md5=digest).status_code == 200


def test_wrong_parts_leave_the_upload_open(house: House) -> None:
    upload = _begin(house)
    one, two = _parts(house, upload, ROWS[:300], ROWS[300:])
    wrong: list[tuple[list[str], dict[str, str], str]] = [
        ([one], {}, "part_ids"),
        ([], {}, "part_ids"),
        ([one, one], {}, "part_ids"),
        ([one, two, one], {}, "part_ids"),
        ([one, "part_of_nobody"], {}, "part_ids"),
        ([one, two], {"md5": "0" * 32}, "md5"),
    ]
    for parts, more, param in wrong:
        answer = _complete(house, upload, parts, **more)
        assert (answer.status_code, error(answer)["param"]) == (400, param)
    reordered = _complete(house, upload, [two, one])
    assert reordered.status_code == 400
    assert error(reordered)["message"].startswith("Expected file to have JSONL format")
    assert (_files(house), house.blobs()) == (0, 2)
    assert _complete(house, upload, [one, two]).status_code == 200
    assert (_files(house), house.blobs()) == (1, 1)


def test_a_part_that_is_named_twice_does_not_count_twice(house: House) -> None:
    upload = _begin(house, 2 * len(ROWS))
    (part,) = _parts(house, upload, ROWS)
    answer = _complete(house, upload, [part, part])
    assert (answer.status_code, error(answer)["message"]) == (400, "A part is named twice.")
    assert (_files(house), house.blobs()) == (0, 1)


def test_a_part_of_another_upload_is_a_stranger(house: House) -> None:
    mine, other = _begin(house), _begin(house)
    (part,) = _parts(house, other, ROWS)
    assert _complete(house, mine, [part]).status_code == 400


def test_a_part_that_is_cut_short_is_not_there(house: House) -> None:
    upload = _begin(house)
    head = b'--xx\r\nContent-Disposition: form-data; name="data"; filename="part"\r\n\r\n'
    for body in (head + ROWS, head + ROWS + b"\r\n--xx", head, b""):
        answer = house.ask(
            "POST", f"/v1/uploads/{upload}/parts", content=body,
            headers={"content-type": "multipart/form-data; boundary=xx"},
        )  # fmt: skip
        assert answer.status_code == 400
        error(answer)
    assert house.blobs() == 0


def test_empty_and_strange_parts(house: House) -> None:
    upload = _begin(house)
    url = f"/v1/uploads/{upload}/parts"
    for files in (
        {"data": ("part", b"")},
        {"file": ("part", b"x")},
        [("data", ("part", b"x")), ("data", ("part", b"y"))],
    ):
        answer = house.ask("POST", url, files=files)
        assert answer.status_code == 400
        error(answer)
    assert house.blobs() == 0


def test_a_closed_upload_takes_nothing_more(house: House) -> None:
    upload = _begin(house)
    parts = _parts(house, upload, ROWS)
    assert _complete(house, upload, parts).status_code == 200
    for answer in (
        _part(house, upload, b"x"),
        _complete(house, upload, parts),
        house.ask("POST", f"/v1/uploads/{upload}/cancel"),
    ):
        assert (answer.status_code, error(answer)["code"]) == (400, "upload_closed")
    assert (_files(house), house.blobs()) == (1, 1)


def test_a_cancelled_upload_leaves_nothing(house: House) -> None:
    upload = _begin(house)
    _parts(house, upload, ROWS)
    assert house.ask("POST", f"/v1/uploads/{upload}/cancel").json()["status"] == "cancelled"
    assert house.blobs() == 0


def test_an_upload_that_is_left_alone_expires(house: House) -> None:
    upload = _begin(house)
    parts = _parts(house, upload, ROWS)
    clock = house.services.store.now
    house.services.store.now = lambda connection: clock(connection) + 3601  # type: ignore[method-assign]
    answer = _complete(house, upload, parts)
    assert (answer.status_code, error(answer)["code"]) == (400, "upload_closed")
    house.services.tidy()
    assert house.blobs() == 0
    assert house.services.uploads.get("proj_default", upload).status == "expired"


def test_no_more_parts_than_twice_what_was_declared(house: House) -> None:
    upload = _begin(house, 10)
    assert _part(house, upload, b"x" * 10).status_code == 200
    assert _part(house, upload, b"x" * 10).status_code == 200
    answer = _part(house, upload, b"x")
    assert (answer.status_code, error(answer)["code"]) == (400, "invalid_parts")
    assert house.blobs() == 2


def test_a_part_may_not_be_too_large(tmp_path: Any) -> None:
    with House.open(tmp_path / "small", limits={"part_bytes": 100, "file_bytes": 1_000}) as house:
        upload = _begin(house, 1_000)
        answer = _part(house, upload, b"x" * 101)
        assert (answer.status_code, error(answer)["code"]) == (413, "content_too_large")
        answer = house.ask(
            "POST", "/v1/uploads", json={"filename": "a", "purpose": "batch", "bytes": 1_001, "mime_type": "a"}
        )
        assert (answer.status_code, error(answer)["param"]) == (400, "bytes")
        assert house.blobs() == 0


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": -5}, "bytes"),
        ({"bytes": "9"}, "bytes"),
        ({"purpose": "evals"}, "purpose"),
        ({"filename": ""}, "filename"),
        ({"mime_type": None}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 5}}, "expires_after.seconds"),
        ({"more": 1}, "more"),
    ],
)
def test_wrong_uploads(house: House, change: dict[str, Any], param: str) -> None:
    body = {"filename": "a", "purpose": "batch", "bytes": 5, "mime_type": "a"} | change
    answer = house.ask("POST", "/v1/uploads", json=body)
    assert (answer.status_code, error(answer)["param"]) == (400, param)
