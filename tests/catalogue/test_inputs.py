"""What is given to a job, a header or a spawned task against its definitions."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.catalogue.inline import compose_job
from echelon.controller.catalogue.inputs import InputMistake, check_inputs, check_item_inputs, check_job_inputs
from echelon.controller.catalogue.loader import load_catalogue
from echelon.controller.catalogue.task_classes import InputDefinition, InputType, TaskClass
from echelon.controller.catalogue.values import MAX_DEPTH, MAX_VALUE, InvalidValue, check_value, coerce_text

ANY = InputDefinition("a")
STRING = InputDefinition("a", type=InputType.STRING)
INTEGER = InputDefinition("a", type=InputType.INTEGER)
NUMBER = InputDefinition("a", type=InputType.NUMBER)
BOOLEAN = InputDefinition("a", type=InputType.BOOLEAN)
JSON = InputDefinition("a", type=InputType.JSON)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("definition", "given_value", "taken"),
    [
        (ANY, "x", "x"),
        (ANY, "", ""),
        (ANY, "tab\tnewline\n", "tab\tnewline\n"),
        (ANY, "{url} {{ 7*7 }}", "{url} {{ 7*7 }}"),
        (ANY, 5, 5),
        (ANY, True, True),
        (STRING, "5", "5"),
        (STRING, 5, "5"),
        (STRING, 1.5, "1.5"),
        (INTEGER, 5, 5),
        (INTEGER, 5.0, 5),
        (NUMBER, 5, 5),
        (NUMBER, -0.5, -0.5),
        (BOOLEAN, False, False),
        (JSON, None, None),
        (JSON, {"a": [1, None, "é"]}, {"a": [1, None, "é"]}),
        (JSON, nested(MAX_DEPTH - 1), nested(MAX_DEPTH - 1)),
        (InputDefinition("a", enum=("x", 1)), "1", "1"),
        (InputDefinition("a", pattern="[a-z]+"), "abc", "abc"),
        (InputDefinition("a", type=InputType.INTEGER, minimum=1, maximum=3), 3, 3),
        (ANY, "x" * MAX_VALUE, "x" * MAX_VALUE),
        (ANY, "a;b\r\nc;d\r\n", "a;b\r\nc;d\r\n"),
        (JSON, {"a": "\r"}, {"a": "\r"}),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_a_value_that_fits_is_taken(definition: InputDefinition, given_value: object, taken: object) -> None:
    value = check_value(definition, given_value)

    assert (value, type(value)) == (taken, type(taken))


@pytest.mark.parametrize(
    ("definition", "given_value", "said"),
    [
        (ANY, None, "must be text, a number or a boolean (declare `type: json` for more), not null"),
        (ANY, ["x"], "not a list"),
        (ANY, {}, "not an object"),
        (ANY, "a\0b", "U+0000) at position 1"),
        (ANY, "\x1b[31m", "a control character"),
        (ANY, "a\x0cb", "U+000C"),
        (ANY, "\ud800", "half of a surrogate pair"),
        (ANY, "x" * 200_000, "longer than 65536 bytes"),
        (ANY, "é" * 40_000, "longer than 65536 bytes"),
        (ANY, float("nan"), "finite"),
        (ANY, float("inf"), "finite"),
        (ANY, 2**64, "64 bits"),
        (STRING, True, "must be text, not a boolean"),
        (STRING, ["x"], "must be text, not a list"),
        (INTEGER, "5", "must be an integer, not text"),
        (INTEGER, 5.5, "must be an integer"),
        (INTEGER, True, "must be an integer, not a boolean"),
        (INTEGER, 10**30, "64 bits"),
        (INTEGER, 1e300, "must be an integer"),
        (NUMBER, "5", "must be a number, not text"),
        (NUMBER, False, "not a boolean"),
        (BOOLEAN, "true", "must be true or false, not text"),
        (BOOLEAN, 1, "must be true or false, not a number"),
        (JSON, nested(MAX_DEPTH), "nested more than 32 deep"),
        (JSON, nested(900), "nested more than 32 deep"),
        (JSON, {"a": ["\ud800"]}, "half of a surrogate pair"),
        (JSON, {"\0": 1}, "a control character"),
        (JSON, ["x" * 30_000] * 3, "longer than"),
        (JSON, [0] * 70_000, "longer than"),
        (InputDefinition("a", enum=("x", "y")), "z", "'z' is not one of 'x', 'y'"),
        (InputDefinition("a", pattern="[a-z]+"), "abc1", "'abc1' does not match '[a-z]+'"),
        (InputDefinition("a", pattern="(a|a)*b"), "a" * 5000, "longer than 1024 characters"),
        (InputDefinition("a", type=InputType.INTEGER, minimum=1), 0, "0 is less than 1"),
        (InputDefinition("a", type=InputType.INTEGER, maximum=9.0), 10, "10 is more than 9"),
        (InputDefinition("a", type=InputType.NUMBER, minimum=0.5), 0, "0 is less than 0.5"),
        (InputDefinition("a", type=InputType.NUMBER, maximum=1.5), 2, "2 is more than 1.5"),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_a_value_that_does_not_fit_is_refused(definition: InputDefinition, given_value: object, said: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_value(definition, given_value)

    assert said in caught.value.detail


@pytest.mark.parametrize("text", ["-rf", "--output=x", "-", "-1x", "- 1", "-1;ls"])
def test_a_value_that_would_begin_an_argument_with_a_dash_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="would be read as an option"):
        check_value(ANY, text, leading=True)


@pytest.mark.parametrize("value", ["-5", "-0.5", "-1e5", -5, "a-b", ""])
def test_a_number_may_begin_with_a_dash(value: object) -> None:
    assert check_value(ANY, value, leading=True) == value


def test_a_dash_is_fine_where_it_is_allowed_or_begins_no_argument() -> None:
    assert check_value(InputDefinition("a", allow_leading_dash=True), "-rf", leading=True) == "-rf"
    assert check_value(ANY, "-rf") == "-rf"


@pytest.mark.parametrize(
    "definition",
    [
        InputDefinition("a", secret=True, enum=("x",)),
        InputDefinition("a", secret=True, pattern="x"),
        InputDefinition("a", secret=True, type=InputType.INTEGER),
        InputDefinition("a", secret=True, type=InputType.JSON),
        InputDefinition("a", secret=True, type=InputType.BOOLEAN),
    ],
)
def test_a_refusal_does_not_tell_a_secret(definition: InputDefinition) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_value(definition, coerce_text(definition, "{hunter2"))

    assert "hunter2" not in caught.value.detail


@pytest.mark.parametrize(
    ("definition", "text", "meant"),
    [
        (ANY, "5", "5"),
        (STRING, "5", "5"),
        (INTEGER, "-5", -5),
        (NUMBER, "5", 5),
        (NUMBER, "1e3", 1000.0),
        (BOOLEAN, "True", True),
        (BOOLEAN, "0", False),
        (JSON, '{"a": [1]}', {"a": [1]}),
    ],
)
def test_a_text_is_read_as_its_declared_type(definition: InputDefinition, text: str, meant: object) -> None:
    value = coerce_text(definition, text)

    assert (value, type(value)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        (INTEGER, "5.5"),
        (INTEGER, "9" * 5000),
        (INTEGER, "٥"),
        (NUMBER, "nan"),
        (NUMBER, "1e"),
        (NUMBER, "9" * 5000),
        (BOOLEAN, "maybe"),
        (JSON, "{"),
        (JSON, "NaN"),
        (JSON, "[" * 60_000),
        (JSON, "9" * 70_000),
        (JSON, "\ud800"),
    ],
)
def test_a_text_that_is_not_of_its_type_is_refused(definition: InputDefinition, text: str) -> None:
    with pytest.raises(InvalidValue):
        check_value(definition, coerce_text(definition, text))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from([ANY, STRING, INTEGER, NUMBER, BOOLEAN, JSON]), values)
def test_any_value_is_taken_or_refused_and_what_is_taken_can_be_stored(
    definition: InputDefinition, value: object
) -> None:
    try:
        taken = check_value(definition, value, leading=True)
    except InvalidValue:
        return

    text = json.dumps(taken, allow_nan=False, ensure_ascii=False)
    assert "\0" not in text
    assert json.loads(text.encode()) == taken


# --- all inputs of a job

TEXT = """\
tasks:
  fetch:
    input: {url: , token: , count: {type: integer, default: 3}}
    exec_command: wget
    exec_args: ["{url}", "--header={token}", "{count}"]
  list:
    input: {url: {pattern: 'https?://.*'}}
    exec_command: ls
    exec_args: ["{url}"]
jobs:
  mirror:
    input:
      url: {}
      level: {type: integer, default: 2}
      token: {source: http-header, key: Authorization}
      retries: {source: http-header, key: X-Retries, type: integer, default: 5}
    stages:
    - {task_class: fetch}
    - {task_class: fetch, spawn_task: list}
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    (tmp_path / "c.yaml").write_text(TEXT)
    return load_catalogue([tmp_path]).require_valid()


def check(catalogue: Catalogue, given_values: object, *headers: tuple[str, str]) -> object:
    return check_job_inputs(catalogue, catalogue.jobs["mirror"], given_values, headers)


def test_parameters_headers_and_defaults_make_the_input_of_a_job(catalogue: Catalogue) -> None:
    headers = [("authorization", "Bearer x"), ("Accept", "*/*"), ("Accept", "b"), ("X-RETRIES", "7")]

    assert check(catalogue, {"url": "http://x"}, *headers) == (
        {"url": "http://x", "level": 2, "token": "Bearer x", "retries": 7},
        [],
    )


def test_all_mistakes_of_a_request_are_reported_at_once(catalogue: Catalogue) -> None:
    _, mistakes = check_job_inputs(
        catalogue,
        catalogue.jobs["mirror"],
        {"ulr": 1, "level": "high", "token": "x", "a/b~c": 1},
        [("X-Retries", "many")],
    )

    assert mistakes == [
        InputMistake("#/input/ulr", "is not an input; did you mean 'url'?"),
        InputMistake("#/input/token", "is taken from the header 'Authorization'"),
        InputMistake("#/input/a~1b~0c", "is not an input"),
        InputMistake("#/input/url", "is required"),
        InputMistake("#/input/level", "must be an integer, not text"),
        InputMistake("#/headers/Authorization", "the header is required for the input 'token'"),
        InputMistake("#/headers/X-Retries", "the secret value is not an integer"),
    ]


def test_a_mapped_header_that_comes_twice_is_refused(catalogue: Catalogue) -> None:
    _, mistakes = check_job_inputs(
        catalogue, catalogue.jobs["mirror"], {"url": "http://x"}, [("Authorization", "a"), ("authorization", "b")]
    )

    assert mistakes == [InputMistake("#/headers/Authorization", "the header is given 2 times")]


@pytest.mark.parametrize("given_values", [None, [], "x", 5])
def test_an_input_that_is_no_object_is_refused(catalogue: Catalogue, given_values: object) -> None:
    assert check(catalogue, given_values) == ({}, [InputMistake("#/input", "must be an object")])


def test_a_value_is_held_against_the_tasks_that_will_take_it(catalogue: Catalogue) -> None:
    job = catalogue.jobs["mirror"]

    _, dash = check_job_inputs(catalogue, job, {"url": "--output=x"}, [("Authorization", "x")])
    _, pattern = check_job_inputs(catalogue, job, {"url": "ftp://x"}, [("Authorization", "-x")])

    assert dash == [InputMistake("#/input/url", "begins with '-' and would be read as an option")]
    assert pattern == [
        InputMistake("#/input/url", "'ftp://x' does not match 'https?://.*' (as the task 'list' takes it)")
    ]


def test_ten_thousand_wrong_names_are_answered_with_a_hundred_mistakes(catalogue: Catalogue) -> None:
    _, mistakes = check_job_inputs(catalogue, catalogue.jobs["mirror"], {f"k{n}": n for n in range(10_000)})

    assert len(mistakes) == 100


def test_values_that_are_too_long_together_are_refused() -> None:
    definitions = {f"a{n}": InputDefinition(f"a{n}") for n in range(20)}

    _, mistakes = check_inputs(definitions, dict.fromkeys(definitions, "x" * 60_000))

    assert mistakes == [InputMistake("#/input", "the values are longer than 1048576 characters together")]


# --- items of a spawn.json


def test_an_item_stands_over_the_input_of_the_job(catalogue: Catalogue) -> None:
    task, inherited = catalogue.tasks["fetch"], {"url", "token", "level"}

    assert check_item_inputs(task, {"url": "http://y", "level": 9}, inherited) == ({"url": "http://y", "count": 3}, [])
    assert check_item_inputs(task, {}, inherited | {"count"}) == ({}, [])


@pytest.mark.parametrize(
    ("item", "pointer", "said"),
    [
        ([], "#/7", "must be an object"),
        ({"url": "-x"}, "#/7/url", "begins with '-'"),
        ({"ulr": "x"}, "#/7/ulr", "did you mean 'url'?"),
        ({"url": None}, "#/7/url", "not null"),
        ({"count": "3"}, "#/7/count", "must be an integer"),
        ({"url": "\ud800"}, "#/7/url", "surrogate"),
    ],
)
def test_an_item_that_does_not_fit_says_why(catalogue: Catalogue, item: object, pointer: str, said: str) -> None:
    _, mistakes = check_item_inputs(catalogue.tasks["fetch"], item, {"url", "token"}, where="#/7")

    assert mistakes[0].pointer == pointer
    assert said in mistakes[0].detail


def test_an_item_must_give_what_the_job_does_not(catalogue: Catalogue) -> None:
    _, mistakes = check_item_inputs(catalogue.tasks["fetch"], {"url": "x"}, {"url"})

    assert mistakes == [InputMistake("#/token", "is required")]


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return where each comparison of two names is noted."""
    made: list[str] = []
    compare = difflib.SequenceMatcher.ratio

    def note(matcher: difflib.SequenceMatcher[str]) -> float:
        made.append(str(matcher.a))
        return compare(matcher)

    monkeypatch.setattr(difflib.SequenceMatcher, "ratio", note)
    return made


def test_very_many_unknown_names_are_refused_with_little_work(comparisons: list[str]) -> None:
    known = {name: InputDefinition(name, required=False) for name in (f"input_{n}_".ljust(95, "n") for n in range(500))}

    _, found = check_inputs(known, {f"input_{n}_".ljust(95, "n") + "x": 1 for n in range(60_000)})

    assert len(found) == 100
    assert sum("did you mean" in one.detail for one in found) == 10
    assert len(comparisons) <= 50


@pytest.mark.parametrize(
    "stage",
    [
        {f"task_clas{n}": 1 for n in range(50_000)},
        {"task_class": "t", "tasks": [{f"task_clas{n}": 1} for n in range(20_000)]},
        {"task_class": "t", "tasks": [{"task_class": f"tt{n}"} for n in range(20_000)]},
    ],
    ids=["keys of a stage", "keys of tasks", "classes"],
)
def test_a_composed_job_with_very_many_mistakes_is_refused_with_little_work(
    comparisons: list[str], stage: object
) -> None:
    catalogue = Catalogue("r", {"t": TaskClass("t", exec_command="echo")}, {})

    composed = compose_job(catalogue, "j", [stage], commands=False)

    assert composed.catalogue is None and len(composed.mistakes) == 100
    assert len(comparisons) <= 1000
