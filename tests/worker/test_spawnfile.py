"""spawn.json: what a spawn task may leave, and what is said about everything else."""

from __future__ import annotations

import gzip
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echelon.shared.messages import Finished, Outcome, SpawnedItems
from echelon.shared.sealing import open_value
from echelon.worker.spawnfile import Limits, SpawnInvalid, read_items
from tests.worker.workbench import Workbench

LIMITS = Limits(items=5, bytes=4_000_000, item_bytes=100_000)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    made = Workbench(tmp_path)
    yield made
    made.executor.close()


def read(content: bytes, limits: Limits = LIMITS) -> list[dict[str, object] | str]:
    return list(read_items(io.BytesIO(content), limits))


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "items"),
    [
        (b"[]", []),
        (b" [ \r\n\t] \n", []),
        (b'[{"url": "a"}]', [{"url": "a"}]),
        (b'[{},{"a":{"b":[1,2.5,true,null]}}\n,\n{"":""}]\n', [{}, {"a": {"b": [1, 2.5, True, None]}}, {"": ""}]),
        ('[{"é": "\u2028\U0001f600"}]'.encode(), [{"é": "\u2028\U0001f600"}]),
        (b'[{"x": "\\ud83d\\ude00 \\n\\\\u0000"}]', [{"x": "\U0001f600 \n\\u0000"}]),
        (b'[{"x": 9223372036854775807, "y": -9223372036854775808}]', [{"x": 2**63 - 1, "y": -(2**63)}]),
        (b'[{"x": "' + b"{[" * 40 + b'"}]', [{"x": "{[" * 40}]),
    ],
)
def test_an_array_of_objects_is_read(content: bytes, items: list[object]) -> None:
    assert read(content) == items


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "spawn.json is empty; for no tasks at all write []"),
    "blank": (b" \n", "spawn.json is empty"),
    "an object": (b'{"a": 1}', "line 1, column 1: it must be an array of objects"),
    "a string": (b'\n "x"', "line 2, column 2: it must be an array of objects"),
    "array of strings": (b'["a"]', "line 1, column 2, item 0: an item must be an object"),
    "deep lists": (b'[{"a":' + b"[" * 100_000, "item 0: nested deeper than 32 levels"),
    "raw NUL": (b'[{"a": "\0"}]', "line 1, column 9, item 0: a line break or another control character in a string"),
    "a string over two lines": (b'[{"a": "x}\n]', "line 1, column 11, item 0: a line break or another control"),
    "gzip": (gzip.compress(b"[]"), "is compressed (gzip), not UTF-8 text"),
    "UTF-32": ("[]".encode("utf-32"), "is UTF-32, not UTF-8 text"),
    "UTF-16": ("[]".encode("utf-16"), "is UTF-16, not UTF-8 text; write it as UTF-8"),
    "UTF-16 without mark": ("[]".encode("utf-16-le"), "is UTF-16"),
    "UTF-16 big-endian": ("[]".encode("utf-16-be"), "is UTF-16"),
    "Latin-1": (b'[{"a": "\xe9"}]', "is not UTF-8 text: byte 8 does not belong there"),
    "trailing garbage": (b"[{}] x", "line 1, column 6: something follows after the array"),
    "a second array": (b"[]\n[]", "line 2, column 1: something follows after the array"),
    "two objects without an array": (b"{}\n{}", "it must be an array of objects"),
    "no comma": (b"[{}\n {}]", "line 2, column 2, after item 0: '{' instead of a comma or ]"),
    "a comma too many": (b"[{},]", "line 1, column 5, item 1: there is a comma before the ]"),
    "a comma first": (b"[,{}]", "line 1, column 2, item 0: an item must be an object"),
    "cut off after an item": (b"[{}", "line 1, column 4, after item 0: the file ends within the array"),
    "cut off before an item": (b"[{},", "item 1: the file ends within the array"),
    "cut off in an item": (b'[{"a": 1', "item 0: "),
    "cut off in a string": (b'[{"a": "x', "item 0: the file ends, or a string is not closed"),
    "cut off in a character": (b'[{"a": "\xc3', "is not UTF-8 text"),
    "single quotes": (b"[{'a': 1}]", "line 1, column 3, item 0: Expecting property name"),
    "a comment": (b"[\n// no\n{}]", "line 2, column 1, item 0: an item must be an object"),
    "too many items": (b"[{},{},{},{},{},{}]", "has more than 5 items"),
    "too many bytes": (b"[" + b" " * 4_000_000 + b"]", "has more than 4000000 bytes"),
    "a long item": (b'[{"a":"' + b"x" * 100_001 + b'"}]', "item 0: it is longer than 100000 bytes"),
    "a long item that never ends": (b'[{"a":"' + b"x" * 3_000_000, "item 0: it is longer than 100000 bytes"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_everything_else_is_refused_with_its_place(what: str) -> None:
    content, says = REFUSED[what]
    begun = time.monotonic()

    with pytest.raises(SpawnInvalid) as caught:
        read(content)

    assert says in str(caught.value)
    assert time.monotonic() - begun < 5


#: The item that is named cannot be a task; the others can.
ALONE: dict[str, tuple[bytes, str]] = {
    "a number among objects": (b"[{},\n 17]", "line 2, column 2, item 1: an item must be an object"),
    "an array among objects": (b"[{}, []]", "line 1, column 6, item 1: an item must be an object"),
    "duplicate keys": (b'[{},{"a":1,"b":2,"a":3}]', "line 1, column 5, item 1: the key 'a' occurs twice"),
    "duplicate keys within": (b'[{"x":{"a":1,"a":1}}]', "item 0: the key 'a' occurs twice"),
    "NaN": (b'[{"a": NaN}]', "item 0: NaN is no JSON number"),
    "Infinity": (b'[{"a": -Infinity}]', "item 0: -Infinity is no JSON number"),
    "a float beyond all": (b'[{"a": 1e999}]', "item 0: a number beyond all limits is too large"),
    "5000 digits": (b'[{"a": ' + b"9" * 5000 + b"}]", "item 0: a number of 5000 characters is too large"),
    "65 bits": (b'[{"a": 9223372036854775808}]', "item 0: a number of 19 characters is too large"),
    "33 levels": (b'[{"a":' + b"[" * 32 + b"]" * 32 + b"}]", "item 0: nested deeper than 32 levels"),
    "deep objects": (b'[{"a":' * 1 + b'{"a":' * 50 + b"1" + b"}" * 51 + b"]", "item 0: nested deeper than 32 levels"),
    "lone surrogate": (b'[{"a": "\\ud800"}]', "item 0: it holds half of a surrogate pair"),
    "lone surrogate key": (b'[{"\\udfff": 1}]', "item 0: it holds half of a surrogate pair"),
    "NUL": (b'[{"a": "x\\u0000"}]', "item 0: it holds a NUL character"),
    "null among objects": (b"[{}, null, {}]", "line 1, column 6, item 1: an item must be an object"),
    "null before objects": (b"[null, {}]", "line 1, column 2, item 0: an item must be an object"),
    "a number at the end": (b"[{}, 12]", "item 1: an item must be an object"),
    "NaN as an item": (b"[{}, NaN]", "item 1: an item must be an object"),
}


@pytest.mark.parametrize("what", ALONE)
def test_an_item_that_no_task_can_get_is_refused_alone(what: str) -> None:
    content, says = ALONE[what]
    before = json.loads(content.decode(), parse_int=str)

    (refused,) = [(index, item) for index, item in enumerate(read(content)) if isinstance(item, str)]
    around = b'[{"first": 1}, ' + content[1:-1] + b', {"last": 2}]'
    first, *_, last = read(around, Limits(items=9))

    assert says in refused[1]
    assert f"item {refused[0]}:" in refused[1] and len(before) == len(read(content))
    assert (first, last) == ({"first": 1}, {"last": 2})


def test_a_number_across_two_windows_is_one_item() -> None:
    content = b"[{}," + b" " * (1024 * 1024 - 6) + b"12345, {}]"

    assert [type(item) for item in read(content)] == [dict, str, dict]


@settings(max_examples=settings().max_examples // 2)
@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=5),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers(-(2**63), 2**63 - 1)
                | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5)
                | st.floats(allow_nan=False, allow_infinity=False),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=5,
            ),
        ),
        max_size=5,
    ),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_what_json_writes_is_read_back(items: list[dict[str, object]], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(items, indent=indent, ensure_ascii=ascii_only)
    try:
        content = text.encode()
        json.dumps(items, ensure_ascii=False).encode()
        clean = "\0" not in repr(json.loads(text)) and "\\u0000" not in text
    except UnicodeEncodeError:
        clean = False
        content = text.encode("utf-8", "surrogatepass")

    if clean:
        assert read(content) == items
    elif all(ord(one) < 0xD800 or ord(one) > 0xDFFF for one in content.decode("utf-8", "surrogatepass")):
        assert any(isinstance(item, str) for item in read(content))
    else:
        with pytest.raises(SpawnInvalid):
            read(content)


@given(st.binary(max_size=60) | st.text('[]{},:"\\ue0n1-.', max_size=60).map(str.encode))
def test_nothing_but_the_declared_error_comes_out(content: bytes) -> None:
    try:
        items = read(b'[{"a":' + content) if len(content) % 2 else read(content)
    except SpawnInvalid:
        return
    assert all(type(item) in (dict, str) for item in items)


def test_an_item_across_two_windows_is_read_and_its_place_is_right() -> None:
    filler = b'{"a": "' + b"x" * 90_000 + b'"},\n'
    content = b"[" + filler * 30 + b'{"b": 1},\n  {"c": tru}]'
    limits = Limits(items=100, bytes=10**7, item_bytes=100_000)

    with pytest.raises(SpawnInvalid, match=r"line 32, column 9, item 31: Expecting value"):
        read(content, limits)


def test_a_hundred_thousand_items_are_read_in_far_less_than_a_second_and_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "spawn.json"
    path.write_text(json.dumps([{"url": f"http://host/{n}", "out": f"file-{n}.bin", "n": n} for n in range(100_000)]))
    begun = time.process_time()

    with path.open("rb") as file:
        count = sum(1 for _ in read_items(file, Limits()))

    assert count == 100_000
    assert time.process_time() - begun < 2


# --- where it is looked for -----------------------------------------------------------------------------------------


def spawn(bench: Workbench, script: str, **how: object) -> Finished:
    return bench.end(bench.start("sh", "-c", script, index=-1, spawns=True, **how))  # type: ignore[arg-type]


def lines(bench: Workbench, finished: Finished) -> list[object]:
    assert finished.spawned is not None
    with bench.volume.open_items(finished.spawned.path) as file:
        return [json.loads(line) for line in file]


ITEMS = """'[{"n": 1}, {"n": "a\\nb"}]'"""


@pytest.mark.parametrize("where", ["spawn.json", "$ECHELON_SPAWN_FILE"])
def test_items_are_laid_down_line_by_line_for_the_controller(bench: Workbench, where: str) -> None:
    finished = spawn(bench, f"printf '%s' {ITEMS} > {where}")

    name = f"jobs/{bench.job_id}/attempts/0/spawn-1/items.ndjson"
    assert (finished.outcome, finished.spawned) == (Outcome.COMPLETED, SpawnedItems(name, 2))
    assert lines(bench, finished) == [{"n": 1}, {"n": "a\nb"}]


@pytest.mark.parametrize("where", ["spawn.json", "$ECHELON_SPAWN_FILE"])
def test_secrets_of_items_are_laid_down_sealed_and_the_file_that_held_them_is_gone(
    bench: Workbench, where: str
) -> None:
    key = bench.sealer.new_seal()
    items = json.dumps([{"n": 1, "token": "S3CR3T"}, {"n": 2, "token": {"a": [2.5, None]}}, {"n": 3}])

    finished = spawn(bench, f"printf '%s' '{items}' > {where}", seal=key, item_secret=frozenset({"token", "other"}))

    (first, second, third) = lines(bench, finished)
    assert isinstance(first, dict) and isinstance(second, dict)
    seal = bench.sealer.open_seal(key)
    assert (first["n"], open_value(seal, first["token"])) == (1, "S3CR3T")
    assert open_value(seal, second["token"]) == {"a": [2.5, None]}
    assert third == {"n": 3}
    assert [path for path in bench.folder.rglob("*") if path.is_file() and b"S3CR3T" in path.read_bytes()] == []
    assert list(bench.folder.rglob("spawn.json")) == []


def test_a_file_without_secrets_stays_where_it_is(bench: Workbench) -> None:
    spawn(bench, f"printf '%s' {ITEMS} > spawn.json", item_secret=frozenset({"token"}))

    assert (bench.work / "spawn.json").exists()


@pytest.mark.parametrize("value", ["9223372036854775808", "1e999", '"S3CR3T', '"a\\u0000S3CR3T"'])
def test_what_is_said_of_an_item_that_cannot_be_read_does_not_tell_what_it_holds(bench: Workbench, value: str) -> None:
    finished = spawn(bench, f"printf '%s' '[{{\"token\": {value}}}]' > spawn.json", item_secret=frozenset({"token"}))

    said = str(finished.error) if finished.outcome is Outcome.SPAWN_INVALID else str(lines(bench, finished))
    assert "item 0" in said
    assert not any(part in said for part in ("S3CR3T", "9223372036854775808", "1e999"))
    assert finished.outcome is Outcome.SPAWN_INVALID or not (bench.work / "spawn.json").exists()


def test_the_file_in_the_tasks_own_folder_stands_over_the_other(bench: Workbench) -> None:
    finished = spawn(bench, "echo '[{}]' > spawn.json; echo '[{}, {}]' > $ECHELON_SPAWN_FILE")

    assert finished.spawned is not None
    assert finished.spawned.count == 2


@pytest.mark.parametrize("beside", ["[{}, {}]", "not JSON"])
def test_where_stages_share_a_folder_only_the_tasks_own_file_counts(bench: Workbench, beside: str) -> None:
    own = spawn(bench, f"echo '{beside}' > spawn.json; echo '[{{}}]' > $ECHELON_SPAWN_FILE", shares_folder=True)
    none = spawn(bench, f"echo '{beside}' > spawn.json", attempt=2, shares_folder=True)
    nothing = spawn(bench, "rm spawn.json", attempt=3, shares_folder=True)

    assert lines(bench, own) == [{}]
    assert none.outcome is nothing.outcome is Outcome.SPAWN_INVALID
    assert "where $ECHELON_SPAWN_FILE says; the spawn.json in its working directory may be that" in str(none.error)
    assert "where $ECHELON_SPAWN_FILE says, because stages of equal order share" in str(nothing.error)


def test_a_spawn_task_leaves_the_file_of_a_stage_beside_it_alone(bench: Workbench) -> None:
    bench.shell("echo '[{}]' > spawn.json")

    spawn(bench, "echo '[]' > $ECHELON_SPAWN_FILE", shares_folder=True)

    assert (bench.work / "spawn.json").read_text() == "[{}]\n"


def test_a_spawn_task_may_run_in_a_directory_of_its_own(bench: Workbench) -> None:
    assert lines(bench, spawn(bench, "echo '[{}]' > spawn.json", workdir="task")) == [{}]


def test_a_file_that_an_earlier_task_left_does_not_count(bench: Workbench) -> None:
    bench.shell("echo '[{}]' > spawn.json")

    finished = spawn(bench, "true")

    assert finished.outcome is Outcome.SPAWN_INVALID
    assert finished.error is not None
    assert finished.error.startswith("the spawn task has left no spawn.json")


def test_a_failed_spawn_task_spawns_nothing(bench: Workbench) -> None:
    finished = spawn(bench, "echo '[{}]' > spawn.json; exit 3")

    assert (finished.outcome, finished.exit_code, finished.spawned) == (Outcome.FAILED, 3, None)


def test_a_task_that_is_no_spawn_task_spawns_nothing(bench: Workbench) -> None:
    assert bench.shell("echo '[{}]' > spawn.json").spawned is None


PLANTED: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a hard link": lambda path: os.link(_other(path), path),
    "a FIFO": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
}


def _other(path: Path) -> Path:
    other = path.with_name("other")
    other.write_text("[]")
    return other


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_no_plain_file_is_refused_without_being_read(bench: Workbench, what: str) -> None:
    ref = bench.start("sh", "-c", "touch ready; while ! [ -e go ]; do sleep 0.01; done", index=-1, spawns=True)
    bench.until(lambda: (bench.work / "ready").exists())
    PLANTED[what](bench.work / "spawn.json")
    (bench.work / "go").touch()

    finished = bench.end(ref)

    assert finished.outcome is Outcome.SPAWN_INVALID
    assert "plain file" in (finished.error or "")


def test_a_mistake_in_the_file_fails_the_spawn_task_with_its_place(bench: Workbench) -> None:
    finished = spawn(bench, 'printf \'[{},\\n {"a": 1, "a": 2}\' > spawn.json')

    assert (finished.outcome, finished.exit_code) == (Outcome.SPAWN_INVALID, 0)
    assert finished.error == "spawn.json, line 2, column 18, after item 1: the file ends within the array"
    assert not Path(bench.volume.root, f"jobs/{bench.job_id}/attempts/0/spawn-1/items.ndjson").exists()


def test_the_recipe_says_how_many_items_there_may_be(bench: Workbench) -> None:
    finished = spawn(bench, "echo '[{},{}]' > spawn.json", max_items=1)

    assert finished.outcome is Outcome.SPAWN_INVALID
    assert "more than 1 items" in (finished.error or "")


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read(b'\xef\xbb\xbf[{"a": 1}]') == [{"a": 1}]
