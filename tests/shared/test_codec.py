"""Whatever bytes come in, a message or `InvalidMessage` comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.shared.codec import MAX_BYTES, decode_message, encode_message
from echelon.shared.errors import InvalidMessage
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import (
    VERSION,
    AttemptRef,
    Finished,
    Grant,
    GrantedTask,
    Message,
    Orders,
    Outcome,
    Recipe,
    Report,
    SpawnedItems,
    Stop,
    WorkerCard,
)

text = st.text(st.characters(codec="utf-8"), max_size=20)
count = st.integers(min_value=0, max_value=2**53)
values: Any = st.recursive(
    st.none() | st.booleans() | count | text | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
refs = st.builds(AttemptRef, task_id=text.map(TaskId), attempt=count)
finished = st.builds(
    Finished,
    job_id=text.map(JobId),
    task_id=text.map(TaskId),
    attempt=count,
    outcome=st.sampled_from(Outcome),
    exit_code=st.none() | count,
    error=st.none() | text,
    seconds=st.floats(min_value=0, max_value=1e9),
    result=st.none() | text,
    spawned=st.none() | st.builds(SpawnedItems, path=text, count=count),
)
cards = st.builds(
    WorkerCard, name=text, host=text, pid=count, version=text, slots=st.dictionaries(text, count, max_size=3)
)
reports = st.builds(
    Report,
    worker=text.map(WorkerId),
    number=count,
    room=st.none() | st.dictionaries(text, count, max_size=3),
    finished=st.lists(finished, max_size=3).map(tuple),
    released=st.lists(refs, max_size=3).map(tuple),
    running=st.none() | st.lists(refs, max_size=3).map(tuple),
    card=st.none() | cards,
    goodbye=st.booleans(),
)
grants = st.builds(
    Grant,
    job_id=text.map(JobId),
    stage=count,
    stage_name=text,
    revision=text,
    queue=text,
    recipe=st.builds(Recipe, task_class=text, exec_command=text, exec_args=st.lists(text, max_size=3).map(tuple)),
    input=st.dictionaries(text, values, max_size=3),
    sealed=st.dictionaries(text, text, max_size=3),
    tasks=st.lists(
        st.builds(
            GrantedTask,
            task_id=text.map(TaskId),
            attempt=count,
            index=count,
            input=st.dictionaries(text, values, max_size=3),
        ),
        max_size=3,
    ).map(tuple),
)
orders = st.builds(
    Orders,
    worker=text.map(WorkerId),
    number=count,
    answers=count,
    lease=st.floats(min_value=0, max_value=1e6),
    grants=st.lists(grants, max_size=2).map(tuple),
    stop=st.lists(st.builds(Stop, task_id=text.map(TaskId), attempt=count, reason=text), max_size=3).map(tuple),
    renewed=st.booleans(),
)


@given(reports | orders)
def test_a_message_survives_the_way_there_and_back(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode_message(data)


@given(values, st.sampled_from(["report", "orders", "x"]))
def test_arbitrary_json_never_raises_anything_else(value: object, kind: str) -> None:
    body = {**value, "kind": kind} if isinstance(value, dict) else value

    _decode_or_refuse(json.dumps(body).encode())


@given(reports | orders, st.data())
def test_damaged_messages_never_raise_anything_else(message: Message, data: st.DataObject) -> None:
    body = bytearray(encode_message(message))
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=4)):
        body[place] = data.draw(st.integers(0, 255))

    _decode_or_refuse(bytes(body[: data.draw(st.integers(0, len(body)))]))


@pytest.mark.parametrize("opening", [b'{"kind":"orders","x":', b'{"kind":"report","room":', b""])
@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_deep_nesting_is_refused(opening: bytes, bracket: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode_message(opening + bracket * 100_000)


def test_deep_nesting_of_an_input_is_refused() -> None:
    body = json.loads(encode_message(_orders_with({"deep": "HERE"})))
    nested = json.dumps(body).replace('"HERE"', "[" * 50_000 + "]" * 50_000)

    with pytest.raises(InvalidMessage, match="nested too deeply"):
        decode_message(nested.encode())


def test_a_message_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(InvalidMessage, match="more than"):
        decode_message(b"[" * (MAX_BYTES + 1))


def test_a_message_that_would_be_too_long_is_not_written() -> None:
    with pytest.raises(InvalidMessage, match="more than"):
        encode_message(_orders_with({"long": "x" * MAX_BYTES}))


def test_a_lone_surrogate_is_not_written() -> None:
    with pytest.raises(InvalidMessage):
        encode_message(_orders_with({"half": "\ud800"}))


@pytest.mark.parametrize(
    "data",
    [
        b'{"kind":"orders","v":3}',
        b'{"kind":"report","v":3,"worker":{"new":"shape"}}',
        b'{"kind":"something new","v":3}',
    ],
)
def test_another_version_is_named_as_the_reason(data: bytes) -> None:
    with pytest.raises(InvalidMessage, match="version 3"):
        decode_message(data)


def test_fields_of_a_later_release_are_passed_over() -> None:
    data = json.dumps({"kind": "report", "v": VERSION, "worker": "w", "number": 1, "later": {"a": [1]}}).encode()

    assert decode_message(data) == Report(worker=WorkerId("w"), number=1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b'{"kind":"report"}',
        b'{"kind":"report","worker":1,"number":1}',
        b'{"kind":"report","worker":"w","number":1e400}',
        b'{"kind":"report","worker":"w","number":' + b"9" * 5000 + b"}",
        b'{"kind":"report","worker":"\\ud800","number":1}',
        b'{"kind":"report","worker":"w","number":NaN}',
        b'{"kind":"report","worker":"w","number":1,"v":"1"}',
        b'{"kind":"report","worker":"w","number":1} trailing',
        b'\xef\xbb\xbf{"kind":"report","worker":"w","number":1}',
        '{"kind":"report","worker":"w","number":1}'.encode("utf-16"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes) -> None:
    with pytest.raises(InvalidMessage, match=r"\w"):
        decode_message(data)


def _orders_with(values: dict[str, Any]) -> Orders:
    grant = Grant(
        job_id=JobId("j"),
        stage=0,
        stage_name="s",
        revision="r",
        queue="default",
        recipe=Recipe(task_class="t", exec_command="true"),
        input=values,
        sealed={},
        tasks=(),
    )
    return Orders(worker=WorkerId("w"), number=1, answers=1, lease=15.0, grants=(grant,))


def _decode_or_refuse(data: bytes) -> None:
    try:
        decode_message(data)
    except InvalidMessage as error:
        assert str(error)
