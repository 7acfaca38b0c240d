"""Files that mean harm: each is answered with a clear mistake, soon and without much memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from echelon.controller.catalogue import loader
from echelon.controller.catalogue.mistakes import Mistake

#: Far above what any of them takes on a busy machine, far below what the attack would.
BOUND = 5.0


def mistakes_of(text: str) -> tuple[Mistake, ...]:
    draft = loader.Draft()
    reading = loader.read_text("c.yaml", text)
    loader.add_reading(reading, draft)
    loader.check_draft(draft)
    return loader.sort_mistakes(reading.mistakes)


def _laughs(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels + 1)]
    return "\n".join(lines)


def _merges(levels: int) -> str:
    lines = ["x-0: &a0 {k: v}"]
    lines += [f"x-{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 7)}], k{n}: v}}" for n in range(1, levels + 1)]
    return "\n".join(lines)


def _deep_by_aliases(levels: int) -> str:
    lines = ["x-0: &a0 [x]"]
    lines += [f"x-{n}: &a{n} {'[' * 20}*a{n - 1}{']' * 20}" for n in range(1, levels + 1)]
    return "\n".join(lines)


def _merges_of_nothing(width: int) -> str:
    lines = ["x-0: &a0 {}"]
    lines += [f"x-{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * width)}]}}" for n in range(1, 9)]
    return "\n".join(lines)


UNFOLDED = "the aliases bring in more than 50000 values"
HOSTILE = [
    (UNFOLDED, _laughs(20, 10)),
    (UNFOLDED, _laughs(9, 10)),
    (UNFOLDED, _merges(14)),
    (UNFOLDED, _merges_of_nothing(1000)),
    (UNFOLDED, "\n---\n".join([_laughs(3, 10)] * 100)),
    ("nested more than 50 deep", _deep_by_aliases(50)),
    ("names no anchor", "x: &x [*x]"),
    ("nested more than 50 deep", "[" * 5000),
    ("nested more than 50 deep", "[" * 500_000),
    ("nested more than 50 deep", "{a: " * 5000),
    ("nested more than 50 deep", "- " * 20_000 + "x"),
    ("nested more than 50 deep", "? " * 20_000 + "x"),
    ("more than 50000 values", "tasks: [" + "a," * 200_000 + "]"),
    ("more than 50000 values", "- a\n" * 200_000),
    ("unknown key", "".join(f"key{n}: {n}\n" for n in range(24_000))),
    ("did you mean", "tasks:\n" + "".join(f"  t{n}: {{exec_comand: {n}}}\n" for n in range(10_000))),
    ("is not an input", "tasks:\n  t:\n    exec_command: x\n    exec_args:\n" + "    - '{zzz}'\n" * 20_000),
    ("is not allowed", "!!python/object/apply:os.system ['true']"),
    ("is not allowed", "tasks: !!python/name:os.system"),
    ("is not allowed", "tasks: !!binary aGVsbG8="),
    ("is not allowed", "tasks: !!set {a, b}"),
    ("is not YAML", "%YAML 9.9\n%TAG ! !\n--- ]"),
    ("is not YAML", '"' + "\\x41" * 100_000),
    ("is not YAML", "? ? ? :\n- : -"),
    ("must not stand", "a: \ufffe"),
    ("must be a mapping", "tasks: [[[[[]]]]]"),
    ("cannot be used", "tasks: {'" + "a/" * 40 + "': {exec_command: x}}"),
    ("longer than 100", "tasks: {" + "a" * 900 + ": {exec_command: x}}"),
    ("is not YAML", "tasks: {" + "a" * 60_000 + ": {exec_command: x}}"),
    ("longer than", "tasks: {t: {exec_command: x, exec_args: ['" + "{a}" * 60_000 + "']}}"),
    ("not closed", "tasks: {t: {exec_command: x, exec_args: ['" + "{{ " * 40_000 + "']}}"),
    ("length of time", "tasks: {t: {exec_command: x, timeout: '" + "1h" * 100_000 + "'}}"),
    ("not a whole number", "tasks: {t: {exec_command: x, retry: {limit: " + "9" * 100_000 + "}}}"),
    ("longer than 1000", "tasks: {t: {exec_command: x, input: {a: {pattern: '" + "(" * 5000 + "'}}}}"),
    ("regular expression", "tasks: {t: {exec_command: x, input: {a: {pattern: '" + "(" * 900 + "'}}}}"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "text"), HOSTILE, ids=[f"{n}-{said}" for n, (said, _) in enumerate(HOSTILE)])
def test_a_hostile_file_is_refused_soon(said: str, text: str) -> None:
    started = time.process_time()

    mistakes = mistakes_of(text)

    assert time.process_time() - started < BOUND
    assert any(said in f"{one.message} -> {one.remedy}" for one in mistakes), [str(one)[:200] for one in mistakes[:5]]
    assert all(one.line >= 1 and one.column >= 1 for one in mistakes)
    assert len(mistakes) <= 201
    assert max(len(str(one)) for one in mistakes) < 2000


def test_defaults_that_many_tasks_share_are_no_bomb() -> None:
    lines = ["x-defaults: &defaults {exec_command: echo, queue: q, timeout: 1h, retry: {limit: 2}}", "tasks:"]
    lines += [f"  t{n}: {{<<: *defaults, exec_args: ['{n}']}}" for n in range(1000)]

    assert mistakes_of("\n".join(lines)) == ()


@pytest.mark.parametrize("text", [text for _, text in HOSTILE if len(text) < 50_000], ids=lambda text: text[:12])
def test_the_parser_in_python_refuses_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = mistakes_of(text)
    monkeypatch.setattr(loader, "_PARSER", yaml.SafeLoader)

    slow = mistakes_of(text)

    assert bool(slow) == bool(fast)


def test_things_that_are_no_files_are_refused(tmp_path: Path) -> None:
    for path in ("/dev/zero", "/dev/null", "/proc/self/mem"):
        assert loader.load_catalogue([path]).mistakes


SNIPPETS = st.sampled_from(
    [
        "tasks", "jobs", "t", "j", "input", "exec_command", "exec_args", "env", "stages", "task_class",
        "spawn_task", "default", "type", "enum", "retry", "timeout", "{a}", "{{ a }}", "{{a}}", "${a}", "\\{", "{", "}",
        "[", "]", ": ", "- ", "\n", "\n  ", "\n    ", "\n      ", "&a ", "*a", "<<", "|", ">",
        "'", '"', "!!str ", "---", "#", "?", "1.5", "true", "~", ",", "\t", "é", "\x85",
    ]
)  # fmt: skip


@given(st.lists(SNIPPETS, max_size=60).map("".join))
def test_whatever_is_written_mistakes_or_a_catalogue_come_out(text: str) -> None:
    mistakes_of(text)


@given(st.lists(SNIPPETS, max_size=12).map("".join))
def test_whatever_stands_in_a_task_mistakes_or_a_catalogue_come_out(text: str) -> None:
    mistakes_of(f"tasks:\n  t:\n    exec_command: x\n    input: {{a: }}\n    exec_args:\n    - {text}\n")


@given(st.text(max_size=200))
def test_any_text_is_answered(text: str) -> None:
    mistakes_of(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(content)

    loaded = loader.load_catalogue([file])

    assert (loaded.catalogue is None) == bool(loaded.mistakes)
