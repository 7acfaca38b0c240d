"""Every mistake that can be made in a catalogue, one by one, with its line and column: `§` marks the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from echelon.controller.catalogue.loader import load_catalogue
from echelon.controller.catalogue.mistakes import CatalogueError, Mistake

GOOD = "tasks:\n  t:\n    input: {a: }\n    exec_command: echo\n    exec_args: ['{a}']\n"


def loaded(tmp_path: Path, text: str) -> tuple[tuple[Mistake, ...], tuple[Mistake, ...]]:
    file = tmp_path / "catalogue.yaml"
    file.write_text(text.replace("§", ""), encoding="utf-8")
    result = load_catalogue([file])
    assert (result.catalogue is None) == bool(result.mistakes)
    return result.mistakes, result.warnings


def places(text: str) -> list[tuple[int, int]]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        while "§" in line:
            found.append((number, line.index("§") + 1))
            line = line.replace("§", "", 1)
    return found


def task(body: str) -> str:
    return f"tasks:\n  t:\n    exec_command: echo\n{body}"


def job(body: str) -> str:
    return f"{GOOD}jobs:\n  j:\n{body}"


# (what the message or its remedy must hold, the file)
MISTAKES = [
    # shape
    ("mapping of `tasks:`", "§just text"),
    ("mapping of `tasks:`", "§- a\n- b"),
    ("no tasks and no jobs", "tasks: {}\n"),
    ("must be a mapping", "tasks: §[a]\n"),
    ("must be a mapping", "tasks:\n  t: §echo\n"),
    ("did you mean tasks?", "§task: {}\n" + GOOD),
    ("did you mean exec_args?", task("    §exec_arg: [a]\n")),
    ("did you mean task_class?", job("    input: {a: }\n    stages:\n    - {task_class: t, §taskclass: t}\n")),
    ("did you mean task_class?", job("    stages:\n    - {name: x, §task: t}\n")),
    ("did you mean exec_command?", "tasks:\n  t:\n    §exec_cmd: echo\n"),
    ("did you mean stages?", job("    §stage: [{task_class: t}]\n")),
    ("did you mean pattern?", task("    input:\n      a: {§patern: x}\n")),
    ("is missing", "tasks:\n  §t: {}\n"),
    ("is empty", "tasks:\n  t:\n    exec_command:§\n"),
    ("is missing", "tasks:\n  t: {exec_command: x}\njobs:\n  §j: {}\n"),
    ("at least one stage", job("    §stages: []\n")),
    ("at least one stage", job("    §stages:\n")),
    ("must be a list", job("    stages: §{task_class: t}\n")),
    ("is missing", job("    stages:\n    - §{name: x}\n")),
    ("must be a list", task("    exec_args: §a b\n")),
    ("is empty", task("    exec_args:\n    - a\n    -§\n    - b\n")),
    ("must be text", task("    exec_args:\n    - §[a, b]\n")),
    ("must be text", task("    exec_args:\n    - §{a: b}\n")),
    ("must be text", task("    exec_args:\n    - §a: b\n")),
    ("must be text", task("    env:\n      A: §[b]\n")),
    ("stands twice", task("    §exec_command: cat\n")),
    ("stands twice", "tasks:\n  t: {exec_command: a}\n  §t: {exec_command: b}\n"),
    ("stands twice", "tasks:\n  t: {exec_command: a}\n§tasks:\n  u: {exec_command: b}\n"),
    ("stands twice", task("    input:\n      a: {}\n      §a: {}\n")),
    ("key must be text", task("    env: §{[a]: b}\n")),
    ("key must be text", task("    input:\n      a: {type: json, default: §{{x}: y}}\n")),
    # values
    ("length of time", task("    timeout: §10x\n")),
    ("length of time", task("    timeout: §-5\n")),
    ("more than 0", task("    timeout: §0\n")),
    ("longer than a year", task("    timeout: §4000d\n")),
    ("length of time", task("    timeout: §[1]\n")),
    ("length of time", task("    grace: §soon\n")),
    ("limit: 2", task("    retry: §2\n")),
    ("not a whole number", task("    retry: {limit: §1.5}\n")),
    ("less than 0", task("    retry: {limit: §-1}\n")),
    ("length of time", task("    retry: {delay: §x}\n")),
    ("less than 1", task("    retry: {factor: §0.5}\n")),
    ("did you mean limit?", task("    retry: {§limits: 1}\n")),
    ("did you mean job?", task("    workdir: §jop\n")),
    ("cannot be used", task("    queue: §a b\n")),
    ("cannot be used", "tasks:\n  §a/b: {exec_command: x}\n"),
    ("cannot be used", 'tasks:\n  §"a\\x9b31m": {exec_command: x}\n'),
    ("cannot be used", task("    input: {§1a: {}}\n")),
    ("must be a mapping", task("    input: {a: §5}\n")),
    ("neither true", job("    stages: [{task_class: t, job_failed_on_error: §maybe}]\n    input: {a: }\n")),
    ("less than 1", job("    stages: [{task_class: t, max_parallel: §0}]\n    input: {a: }\n")),
    ("not a whole number", job("    stages: [{task_class: t, max_parallel: §many}]\n    input: {a: }\n")),
    *(
        (said, job(f"    stages: [{{task_class: t, max_failed: §{value}}}]\n    input: {{a: }}\n"))
        for said, value in (
            ("write for example 5 or 5%", "many"),
            ("write for example 5 or 5%", "101%"),
            ("write for example 5 or 5%", "2.5%"),
            ("write for example 5 or 5%", "5 %"),
            ("write for example 5 or 5%", "'-1%'"),
            ("less than 0", "-1"),
            ("not a whole number", "0.5"),
            ("not a whole number", "true"),
            ("more than 1000000", "1000001"),
        )
    ),
    *(
        ("contradicts job_failed_on_error: true", text)
        for text in (
            job("    stages: [{task_class: t, job_failed_on_error: true, §max_failed: 5}]\n    input: {a: }\n"),
            "x-strict: &strict {job_failed_on_error: true}\n"
            + job("    stages: [{task_class: t, §max_failed: 5%, <<: *strict}]\n    input: {a: }\n"),
        )
    ),
    # inputs
    ("did you mean parameter?", task("    input: {a: {source: §paramter}}\n")),
    ("another spelling", task("    input: {a: {source: parameter, source_type: §parameter}}\n")),
    ("no request", task("    input: {a: {source: §http-header}}\n")),
    ("no request", task("    input: {§a: {source_type: http-header, key: X}}\n")),
    ("no worker", job("    input: {a: {source: §environment}}\n    stages: [{task_class: t}]\n")),
    ("name of a header", job("    input: {a: {source: http-header, key: §'a(b'}}\n    stages: [{task_class: t}]\n")),
    ("cannot be used", job("    input: {a: {source: http-header, key: §'a: b'}}\n    stages: [{task_class: t}]\n")),
    ("Echelon's own", task("    input: {§index: {}}\n")),
    ("did you mean integer?", task("    input: {a: {type: §int}}\n")),
    ("did you mean integer?", task("    input: {a: {type: §int, minimum: 1, maximum: 9}}\n")),
    ("not a regular expression", task("    input: {a: {pattern: §'(a'}}\n")),
    ("no look-around", task("    input: {a: {pattern: §'(?!a).*'}}\n")),
    ("write * or +", task("    input: {a: {pattern: §'a{600}b{600}'}}\n")),
    ("is for text", task("    input: {a: {type: integer, pattern: §x}}\n")),
    ("is for numbers", task("    input: {a: {minimum: §1}}\n")),
    ("not a number", task("    input: {a: {type: integer, minimum: §low}}\n")),
    ("less than minimum", task("    input: {a: {type: number, minimum: 2, maximum: §1}}\n")),
    ("is empty", task("    input: {a: {enum: §[]}}\n")),
    ("must be a list", task("    input: {a: {enum: §x}}\n")),
    ("must be an integer", task("    input: {a: {type: integer, enum: §[x]}}\n")),
    ("must be an integer", task("    input: {a: {type: integer, default: §x}}\n")),
    ("tasks.t.input.a: 'z' is not one of", task("    input: {a: {enum: [x, y], default: §z}}\n")),
    ("does not match", task("    input: {a: {pattern: x, default: §z}}\n")),
    ("less than 5", task("    input: {a: {type: integer, minimum: 5, default: §4}}\n")),
    # placeholders
    ("did you mean {url}?", task("    input: {url: }\n    exec_args: ['--x', 'a §{ulr} b']\n")),
    ("did you mean {url}?", task("    input: {url: }\n    exec_args:\n    - x\n    - \"§{{ ulr }}\"\n")),
    ("declare it under input", task("    exec_args: ['§{zzz}']\n")),
    ("\\{print}", task("    exec_args: ['§{print}']\n")),
    ("is not an input", task("    exec_args:\n    - |\n      echo\n      echo §{zzz}\n")),
    ("is not an input", task("    env: {A: '§{zzz}'}\n")),
    ("is not an input", "tasks:\n  t: {exec_command: '§{zzz}'}\n"),
    ("not an expression", task("    exec_args: ['§{{ 1 + }}']\n")),
    ("powers are not", task("    exec_args: ['§{{ 9**9**9 }}']\n")),
    ("{{ a.b }}", task("    input: {a: {type: json}}\n    exec_args: ['§{a.b}']\n")),
    ("Echelon's own variable", task("    env: {§ECHELON_JOB_ID: x}\n")),
    # between the parts
    ("did you mean t?", job("    stages:\n    - {name: x, task_class: §tt}\n")),
    ("define it under", job("    stages:\n    - {name: x, task_class: §nothing-like-it}\n")),
    ("no task class", job("    stages:\n    - {task_class: t, spawn_task: §nope}\n")),
    ("needs the input 'a'", job("    stages:\n    - task_class: §t\n")),
    ("needs the input 'a'", job("    stages:\n    - {task_class: t, spawn_task: §t}\n")),
    # YAML
    ("tabs", "tasks:\n§\tt: {}\n"),
    ("put quotes", "tasks:\n  t:\n    exec_args:\n    - {url}§.txt\n"),
    ("put quotes", "tasks:\n  t:\n    description: a§: b\n"),
    ("put quotes", "tasks:\n  t:\n    exec_args:\n    - §@x\n"),
    ("put quotes", "tasks:\n  t:\n    exec_args:\n    - §%x\n"),
    ("put quotes", "tasks:\n  t:\n    exec_args:\n    - *§.txt\n"),
    ("names no anchor", "tasks: &x {t: §*x}\n"),
    ("is not allowed", "tasks: §!!python/object:os.system {}\n"),
    ("is not allowed", "tasks: {t: §!mine x}\n"),
    ("must not stand", "tasks:\n  a§\x07: 1\n"),
    ("<< takes", "tasks:\n  t: {§<<: 5, exec_command: x}\n"),
    ("defined twice", GOOD + "---\ntasks:\n  §t: {exec_command: x}\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "text"), MISTAKES, ids=[f"{number}-{said}" for number, (said, _) in enumerate(MISTAKES)]
)
def test_a_mistake_is_reported_with_its_place(tmp_path: Path, said: str, text: str) -> None:
    mistakes, _ = loaded(tmp_path, text)

    (place,) = places(text) or [(0, 0)]
    assert [(mistake.line, mistake.column) for mistake in mistakes] == [place], [str(mistake) for mistake in mistakes]
    assert said in f"{mistakes[0].message} -> {mistakes[0].remedy}"


def test_all_mistakes_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    text = """\
tasks:
  fetch:
    §descripton: typo
    input:
      url: {type: §text}
      old: {source: §http-header}
    exec_command: wget
    exec_args: [§"{ulr}", "{url}"]
    timeout: §soon
  §broken: {}
jobs:
  mirror:
    stages:
    - {task_class: §fetsch}
    - {task_class: fetch, §retries: 3}
    §stages: []
  empty:
    §stages: []
"""

    mistakes, _ = loaded(tmp_path, text.replace('§"{ulr}"', '"§{ulr}"'))

    expected = places(text.replace('§"{ulr}"', '"§{ulr}"'))
    found = {(mistake.line, mistake.column) for mistake in mistakes}
    assert set(expected) <= found, set(expected) - found


@pytest.mark.parametrize(
    "text",
    [
        "tasks:\n  t:\n    §inputs: {a: }\n    exec_command: echo\n    exec_args: ['{a}', '{b}']\n",
        "tasks:\n  t:\n    input: §[a, b]\n    exec_command: echo\n    exec_args: ['{b}']\n    env: {A: '{a}'}\n",
        job("    §inputs: {a: }\n    stages: [{task_class: t}]\n"),
        job("    §inputs: [a]\n    stages: [{task_class: t, spawn_task: t}]\n"),
        job("    input: §[a]\n    stages: [{task_class: t}]\n"),
    ],
)
def test_inputs_that_cannot_be_read_are_one_mistake_whatever_takes_them(tmp_path: Path, text: str) -> None:
    mistakes, _ = loaded(tmp_path, text)

    assert [(mistake.line, mistake.column) for mistake in mistakes] == places(text), [str(one) for one in mistakes]


def test_a_mistake_reads_as_file_line_column_what_and_instead(tmp_path: Path) -> None:
    mistakes, _ = loaded(tmp_path, task("    tiemout: 5\n"))

    assert str(mistakes[0]) == f"{tmp_path}/catalogue.yaml:4:5: tasks.t.tiemout: unknown key -> did you mean timeout?"


def test_an_invalid_catalogue_is_an_error_that_lists_all(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("tasks:\n  a: {}\n  b: {}\n")

    with pytest.raises(CatalogueError) as caught:
        load_catalogue([tmp_path]).require_valid()

    assert len(caught.value.mistakes) == 2
    assert str(caught.value).count("exec_command: is missing") == 2


def test_an_unreadable_file_does_not_make_its_tasks_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("tasks:\n\tt: {}\n")
    (tmp_path / "b.yaml").write_text("jobs:\n  j: {stages: [{task_class: t}]}\n")

    mistakes = load_catalogue([tmp_path]).mistakes

    assert [mistake.file for mistake in mistakes] == [str(tmp_path / "a.yaml")]


def test_a_name_that_two_files_define_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("tasks:\n  t: {exec_command: x}\n")
    (tmp_path / "b.yaml").write_text("tasks:\n  u: {exec_command: x}\n  t: {exec_command: y}\n")

    (mistake,) = load_catalogue([tmp_path]).mistakes

    assert (mistake.file, mistake.line) == (str(tmp_path / "b.yaml"), 3)
    assert f"{tmp_path / 'a.yaml'}, line 2" in mistake.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"  \n\n", "is empty"),
        (b"# nothing\n", "no tasks"),
        (b"tasks: \xff\xfe", "not UTF-8"),
        ("tasks: {t: {exec_command: x}}".encode("utf-16"), "not UTF-8"),
        (b"a: b\n" * 300_000, "larger than 1 MiB"),
        (b"tasks: \x00", "U+0000"),
    ],
)
def test_a_file_that_is_no_text_is_a_mistake(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "c.yaml").write_bytes(content)

    (mistake,) = load_catalogue([tmp_path / "c.yaml"]).mistakes

    assert said in mistake.message


def test_paths_that_lead_nowhere_are_mistakes(tmp_path: Path) -> None:
    assert "No such file" in load_catalogue([tmp_path / "missing.yaml"]).mistakes[0].message
    assert "holds no catalogue" in load_catalogue([tmp_path]).mistakes[0].message
    assert "no catalogue is given" in load_catalogue([]).mistakes[0].message


# (what the warning or its remedy must hold, the file)
WARNINGS = [
    ('write "{url}"', task("    input: {url: }\n    exec_args:\n    - §{url}\n")),
    ('write "{{url}}"', task("    input: {url: }\n    exec_args:\n    - §{{url}}\n")),
    ('write "{url}"', task("    input: {url: }\n    env: {A: §{url}}\n")),
    ('write "a {url}"', task('    input: {url: }\n    exec_args:\n    - §>\n      "a {url}"\n')),
    ('write "a"', task("    exec_args:\n    - §>\n      a\n")),
    ("$1", task("    input: {url: }\n").replace("echo", "sh") + "    exec_args: [-c, 'wget §{url}']\n"),
    ("$URL", task("    input: {url: }\n    exec_args: [nice, bash, -euo, pipefail, -c, 'wget §{{ url }}', x]\n")),
    ("list of processes", task("    input: {key: {secret: true}}\n    exec_args: [§'--key={key}']\n")),
    ("chooses the program", "tasks:\n  t: {input: {a: }, exec_command: §'{a}'}\n"),
    ("exec_command: python3", "tasks:\n  t: {exec_command: §python3 x.py}\n"),
    (
        "means nothing",
        job("    input: {a: }\n    stages: [{task_class: t, job_failed_on_error: no, §fail_fast: yes}]\n"),
    ),
    ("means nothing", task("    input: {a: {§key: b}}\n")),
    (
        "'A' and 'B' run at the same time in one folder: a spawn.json that is written there is not read -> write it to",
        job(
            "    stages: [{name: A, task_class: t, spawn_task: §l, order: 1}, {name: B, task_class: l, order: 1}]\n"
            "    input: {a: }\n"
        ).replace("jobs:", "  l: {exec_command: ./list}\njobs:"),
    ),
    ("[0-9A-Za-z_]", task("    input: {a: {pattern: §'\\w+'}, b: {pattern: '\\d+'}}\n")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "text"), WARNINGS, ids=[f"{number}-{said}" for number, (said, _) in enumerate(WARNINGS)]
)
def test_what_could_be_better_is_a_warning_with_its_place(tmp_path: Path, said: str, text: str) -> None:
    mistakes, warnings = loaded(tmp_path, text)

    assert not mistakes
    assert [(warning.line, warning.column) for warning in warnings] == places(text), [str(one) for one in warnings]
    assert said in f"{warnings[0].message} -> {warnings[0].remedy}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            job(
                "    stages: [{task_class: t, spawn_task: l, order: 1}, {task_class: l, order: 1}]\n    input: {a: }\n"
            ).replace("jobs:", f"  l: {{{list_class}}}\njobs:")
            for list_class in (
                "exec_command: ./list, workdir: task",
                "exec_command: ./list, exec_args: ['--to={spawn_file}']",
                "exec_command: sh, exec_args: [-c, './list > $ECHELON_SPAWN_FILE']",
            )
        ),
        job(
            "    stages: [{task_class: t, job_failed_on_error: no, max_failed: 5%, fail_fast: yes}]\n    input: {a: }\n"
        ),
        task("    input: {n: {type: integer}}\n    exec_args: [sh, -c, 'sleep {n}']\n"),
        task("    input: {n: {enum: [a, b]}}\n    exec_args: [sh, -c, 'sleep {n}']\n"),
        task("    exec_args: [sh, -c, 'echo {index} ${HOME}']\n"),
        task("    input: {n: }\n    exec_args: [sh, -c, 'echo \"$1\"', sh, '{n}']\n"),
        task("    exec_args:\n    - -c\n    - |\n      echo a\n      echo b\n"),
        task("    exec_args:\n    - >-\n      a\n      b\n"),
    ],
)
def test_what_is_well_written_brings_no_warning(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text) == ((), ())
