"""Whatever comes in: a clear refusal, never a 5xx, never a job that nobody asked for."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from echelon.controller import shapes
from echelon.controller.api.bodies import MAX_DEPTH, read_json
from echelon.controller.api.problems import Refusal
from tests.api.shape import assert_shape
from tests.api.stand import API, Stand

DEEP = "[" * 100_000 + "]" * 100_000

BODIES = {
    "nothing": ("", 422),
    "not JSON": ("{", 400),
    "not UTF-8": (b'{"type": "\xff"}', 400),
    "UTF-16": ('{"type": "hello"}'.encode("utf-16"), 400),
    "NaN": ('{"type": "hello", "input": {"times": NaN}}', 400),
    "Infinity": ('{"type": "hello", "input": {"times": -Infinity}}', 400),
    "a number without end": ('{"type": "hello", "input": {"times": 1e999}}', 400),
    "an integer of 5,000 digits": ('{"type": "hello", "input": {"times": ' + "9" * 5000 + "}}", 422),
    "a key twice": ('{"type": "hello", "type": "fan"}', 400),
    "a key twice deep inside": ('{"type": "hello", "input": {"text": {"a": 1, "a": 2}}}', 400),
    "half a surrogate pair": ('{"type": "hello", "input": {"text": "\\ud800"}}', 422),
    "half a surrogate pair in a key": ('{"type": "hello", "input": {"\\udfff": 1}}', 422),
    "NUL": ('{"type": "hello", "input": {"text": "a\\u0000b"}}', 422),
    "a bomb of arrays": (DEEP, 422),
    "a bomb of arrays as a value": ('{"type": "hello", "input": {"text": ' + DEEP + "}}", 422),
    "one level too deep": ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), 422),
    "an array": ("[]", 422),
    "null": ("null", 422),
    "a text": ('"hello"', 422),
    "no type": ('{"input": {}}', 422),
    "type null": ('{"type": null}', 422),
    "type a number": ('{"type": 1}', 422),
    "type empty": ('{"type": ""}', 422),
    "an unknown type": ('{"type": "helo"}', 422),
    "input an array": ('{"type": "hello", "input": []}', 422),
    "input null": ('{"type": "hello", "input": null}', 422),
    "a priority out of its bounds": ('{"type": "hello", "priority": 10}', 422),
    "a priority that is a text": ('{"type": "hello", "priority": "9"}', 422),
    "a priority that is true": ('{"type": "hello", "priority": true}', 422),
    "an unknown field": ('{"type": "hello", "inputs": {}}', 422),
    "an unknown input": ('{"type": "hello", "input": {"txt": "x"}}', 422),
    "a missing input": ('{"type": "guarded", "input": {}}', 422),
    "an ill-typed input": ('{"type": "hello", "input": {"times": "many"}}', 422),
    "an input out of its bounds": ('{"type": "hello", "input": {"times": 10}}', 422),
    "a leading dash": ('{"type": "hello", "input": {"text": "-rf"}}', 422),
    "200 KB in one value": (json.dumps({"type": "hello", "input": {"text": "x" * 200_000}}), 422),
    "two megabytes": (json.dumps({"type": "hello", "input": {"text": "x" * 2_000_000}}), 413),
}


def post(stand: Stand, body: str | bytes, path: str = "/jobs", content_type: str | None = "application/json") -> Any:
    return stand.client.post(API + path, data=body, content_type=content_type)


@pytest.mark.parametrize(("body", "status"), BODIES.values(), ids=BODIES.keys())
def test_a_body_that_cannot_be_used_is_refused_with_a_problem(stand: Stand, body: str | bytes, status: int) -> None:
    response = post(stand, body)

    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    assert_shape(response.json, shapes.Problem)
    assert response.json["status"] == status
    assert stand.get("/jobs")["items"] == []


def test_every_mistake_is_pointed_at(stand: Stand) -> None:
    response = post(stand, '{"type": "hello", "input": {"times": "many", "text": "-x", "txt": 1}}')

    pointers = {error["pointer"]: error["detail"] for error in response.json["errors"]}
    assert set(pointers) == {"#/input/times", "#/input/text", "#/input/txt"}
    assert "text" in pointers["#/input/txt"]


def test_an_unknown_field_is_answered_with_the_one_that_was_meant(stand: Stand) -> None:
    response = post(stand, '{"type": "hello", "inputs": {}}')

    assert response.json["errors"] == [{"pointer": "#/inputs", "detail": "unknown; did you mean 'input'?"}]


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/jobs", "[]", "an object is expected, this is a list"),
        ("/jobs", "true", "an object is expected, this is true or false"),
        ("/jobs", "null", "an object is expected, this is null"),
        ("/tasks/retry", "{}", "a list of objects is expected, this is an object"),
    ],
)
def test_a_body_of_another_kind_is_told_what_is_expected(stand: Stand, path: str, body: str, detail: str) -> None:
    response = stand.client.post(API + path, data=body, content_type="application/json")

    assert (response.status_code, response.json["errors"]) == (422, [{"pointer": "#", "detail": detail}])


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [("/jobs", '{"type": "hello", "input": []}', "#/input"), ("/tasks/retry", "[7]", "#/0")],
)
def test_a_part_of_another_kind_is_told_what_is_expected(stand: Stand, path: str, body: str, pointer: str) -> None:
    response = stand.client.post(API + path, data=body, content_type="application/json")

    assert response.json["errors"] == [{"pointer": pointer, "detail": "must be an object"}]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_a_body_that_is_not_called_json_is_refused(stand: Stand, content_type: str | None) -> None:
    response = post(stand, '{"type": "hello", "input": {}}', content_type=content_type)

    assert (response.status_code, response.content_type) == (415, "application/problem+json")


def test_json_with_a_charset_is_taken(stand: Stand) -> None:
    body = '{"type": "hello", "input": {"text": "äö"}}'.encode()

    assert post(stand, body, content_type="application/json; charset=utf-8").status_code == 201


QUERIES = [
    "/jobs?limit=0",
    "/jobs?limit=501",
    "/jobs?limit=-1",
    "/jobs?limit=99999999999999999999",
    "/jobs?limit=" + "9" * 5000,
    "/jobs?limit=1_0",
    "/jobs?limit=%EF%BC%91",
    "/jobs?limit=1.0",
    "/jobs?limit=",
    "/jobs?limit=1&limit=2",
    "/jobs?limits=1",
    "/jobs?state=walking",
    "/jobs?state=QUEUED",
    "/jobs?q=%00",
    "/jobs?q=" + "x" * 201,
    "/jobs?cursor=x",
    "/jobs?cursor=" + "A" * 1001,
    "/jobs?cursor=%00",
    "/jobs?cursor=' OR 1=1 --",
    "/jobs/{}/tasks?cursor=AAAA",
    "/jobs/{}/tasks?stage=-1",
    "/jobs/{}/tasks?stage=99999999999999999999",
    "/jobs/{}/tasks?state=OPEN",
    "/jobs/{}/events?cursor=AAAA",
    "/jobs/{}/artefacts?cursor=%2e",
    "/jobs/{}/artefacts?cursor=AA",
    "/jobs/{}/log?follow=yes",
    "/jobs/{}/log?stream=stdout",
    "/ids",
    "/ids?prefix=",
    "/ids?prefix=xyz",
    "/ids?prefix=%25",
    "/ids?prefix=" + "a" * 37,
]


@pytest.mark.parametrize("query", QUERIES)
def test_an_absurd_query_is_refused(stand: Stand, query: str) -> None:
    job = stand.post()

    response = stand.client.get(API + query.format(job["job_id"]))

    assert (response.status_code, response.content_type) == (422, "application/problem+json"), response.text
    assert response.json["errors"]


@pytest.mark.parametrize(
    "job_id", ["1", "x", "00000000-0000-0000-0000-00000000000", "../jobs", "%00", "' OR 1=1", "%ff"]
)
def test_an_id_that_is_none_is_not_found(stand: Stand, job_id: str) -> None:
    response = stand.client.get(f"{API}/jobs/{job_id}")

    assert (response.status_code, response.content_type) == (404, "application/problem+json")


def test_a_wide_object_with_a_key_twice_is_refused_in_no_time(stand: Stand) -> None:
    wide = "{" + ",".join(f'"{number}":0' for number in range(80_000)) + ',"1":0}'

    assert post(stand, wide).status_code == 400


def test_a_long_key_over_many_values_costs_no_more_than_its_bytes(stand: Stand) -> None:
    body = '{"type": "hello", "input": {"' + "k" * 400_000 + '": [' + ",".join("0" * 150_000) + "]}}"

    assert post(stand, body).status_code == 422


@given(some.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_json(data)
    except Refusal as refusal:
        assert refusal.status in (400, 422)


any_json = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(some.characters(codec=None)),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def shared_stand(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Stand(Path(tmp_path_factory.mktemp("stand")))
    yield made
    made.close()


@given(
    type_=some.sampled_from(["hello", "fan", "guarded", "x"]) | some.text(),
    values=any_json | some.fixed_dictionaries({}, optional={"text": any_json, "times": any_json}),
)
def test_any_values_are_taken_or_refused(shared_stand: Stand, type_: str, values: object) -> None:
    response = post(shared_stand, json.dumps({"type": type_, "input": values}))

    assert response.status_code in (201, 400, 422), response.text


@given(some.text())
def test_any_text_searches_or_is_refused(shared_stand: Stand, text: str) -> None:
    response = shared_stand.client.get(f"{API}/jobs", query_string={"q": text})

    assert response.status_code in (200, 422), response.text


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('"\\ud800"', "#"),
        ('{"\\ud800": 1}', "#"),
        ('{"a": {"b/c~d": ["x", "\\u0000"]}}', "#/a/b~1c~0d/1"),
        ('{"a": [{"\\u0000": 1}]}', "#/a/0"),
    ],
)
def test_the_place_of_an_impossible_text_is_named(body: str, pointer: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_json(body.encode())

    assert [mistake.pointer for mistake in refused.value.mistakes] == [pointer]


def test_more_mistakes_than_anybody_reads_are_not_told(stand: Stand) -> None:
    response = post(stand, json.dumps({f"typ{number}": 1 for number in range(60_000)}))

    assert (response.status_code, len(response.json["errors"])) == (422, 50)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('{"type": "hello"}'.encode("utf-16"), "the body is UTF-16, not UTF-8 text; write it as UTF-8"),
        ('{"type": "hello"}'.encode("utf-16-be"), "the body is UTF-16, not UTF-8 text; write it as UTF-8"),
        (gzip.compress(b'{"type": "hello"}'), "the body is compressed (gzip), not UTF-8 text; write it as UTF-8"),
        (b'\xef\xbb\xbf{"type": "\xff"}', "the body is not UTF-8 text: byte 13 does not belong there"),
    ],
    # A gzip has the time in it, and the processes of a run must agree on names.
    ids=["UTF-16", "UTF-16 big-endian", "gzip", "Latin-1 behind a mark"],
)
def test_another_encoding_is_named(stand: Stand, data: bytes, said: str) -> None:
    answer = post(stand, data)

    assert (answer.status_code, answer.json["detail"]) == (400, said)


def test_a_byte_order_mark_is_no_part_of_a_body(stand: Stand) -> None:
    assert post(stand, b'\xef\xbb\xbf{"type": "hello"}').status_code == 201


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_an_encoded_body_is_not_supported(stand: Stand, encoding: str) -> None:
    answer = stand.client.post(
        f"{API}/jobs",
        data=gzip.compress(b'{"type": "hello"}'),
        headers={"Content-Encoding": encoding, "Content-Type": "application/json"},
    )

    assert (answer.status_code, answer.json["detail"]) == (415, "send the body as it is, without Content-Encoding")
