"""Scripts in a catalogue: what `validate` says about them, and what a worker is told to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from echelon.controller.catalogue.inline import compose_job
from echelon.controller.catalogue.loader import load_catalogue
from echelon.controller.catalogue.mistakes import Mistake
from echelon.controller.catalogue.recipes import make_recipe
from echelon.controller.catalogue.scripts import is_variable, suggest_variable
from echelon.shared.messages import Recipe

CATALOGUE = """
tasks:
  t:
    input:
      {inputs}
    {more}
    run: {script}
"""


def load(folder: Path, *, inputs: str = "sample: {}", more: str = "", script: str = "'true'") -> list[Mistake]:
    """Return the mistakes of a catalogue with one task, and its warnings."""
    file = folder / "catalogue.yaml"
    text = CATALOGUE.format(inputs=inputs, more=more, script=script)
    file.write_text(text.replace("    \n", ""), encoding="utf-8")
    loaded = load_catalogue([file])
    return [*loaded.mistakes, *loaded.warnings]


def recipe_of(folder: Path, task: str) -> Recipe:
    file = folder / "catalogue.yaml"
    file.write_text(f"tasks: {{t: {task}}}", encoding="utf-8")
    return make_recipe(load_catalogue([file]).require_valid().tasks["t"], spawns=False)


def test_a_script_becomes_a_file_that_the_shell_gets(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, '{run: "echo $a {a}", input: {a: {}}, files: {x.awk: "{print}"}}')

    assert (recipe.exec_command, recipe.exec_args) == ("sh", ("-e", "{task_dir}/script"))
    assert recipe.files == {"script": "echo $a {a}", "x.awk": "{print}"}
    assert recipe.env == {"a": "{a}"}


def test_a_shell_is_not_filled_in_and_a_script_with_a_first_line_needs_none(tmp_path: Path) -> None:
    shell = recipe_of(tmp_path, '{run: x, shell: [perl, "-e{a}"]}')
    own = recipe_of(tmp_path, '{run: "#!/usr/bin/perl\\nprint 1"}')

    assert (shell.exec_command, shell.exec_args) == ("perl", ("-e\\{a}", "{task_dir}/script"))
    assert (own.exec_command, own.exec_args) == ("{task_dir}/script", ())


def test_a_variable_that_the_author_writes_stands_over_an_input(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, '{run: x, input: {a: {}, b: {}}, env: {a: "<{b}>"}}')

    assert recipe.env == {"a": "<{b}>", "b": "{b}"}


def test_a_program_gets_no_inputs_as_variables(tmp_path: Path) -> None:
    assert recipe_of(tmp_path, "{exec_command: x, input: {a: {}}}").env == {}


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LANG", "TMPDIR", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "LD_PRELOAD", "PYTHONPATH"),
        *("PERL5OPT", "RUBYOPT", "NODE_OPTIONS", "GIT_SSH_COMMAND", "ECHELON_TOKEN", "HTTP_PROXY", "http_proxy"),
        *("JAVA_TOOL_OPTIONS", "LESSOPEN", "_", "data-id", "a.b"),
    ],
)
def test_an_input_whose_name_no_script_can_get_needs_a_variable_and_the_remedy_is_one(
    tmp_path: Path, name: str
) -> None:
    assert not is_variable(name)
    (mistake,) = load(tmp_path, inputs=f"{name}: {{}}")
    assert "a script cannot get the input" in mistake.message
    assert (mistake.line, mistake.remedy) == (5, f'add `env: {{{suggest_variable(name)}: "{{{name}}}"}}`')

    assert load(tmp_path, inputs=f"{name}: {{}}", more=mistake.remedy.removeprefix("add `").removesuffix("`")) == []


@pytest.mark.parametrize("name", ["sample", "path", "dataId", "Sample", "_x", "proxy_of"])
def test_other_names_are_variables(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, inputs=f"{name}: {{}}") == []


@pytest.mark.parametrize(
    ("more", "message", "remedy"),
    [
        ("exec_command: ls", "tasks.t.run: stands beside exec_command", "leave one of them out"),
        ("exec_args: [a]", "exec_args: a script has no arguments", "give it its inputs"),
        ("files: {script: x}", "'script' cannot be used", "not output, script, spawn.json or work"),
        ("files: {../x: x}", "'../x' cannot be used", "letters, digits, _ . and -"),
        ("files: {a/b: x}", "'a/b' cannot be used", "letters, digits, _ . and -"),
        ("shell: bash", "must be a list", "write `- ` before each item"),
        ("shell: []", "shell: is empty", "leave it out"),
    ],
)
def test_what_contradicts_a_script_is_a_mistake(tmp_path: Path, more: str, message: str, remedy: str) -> None:
    (mistake,) = load(tmp_path, more=more)

    assert message in mistake.message
    assert remedy in (mistake.remedy or "")


def test_a_command_is_needed_in_one_of_its_forms(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text("tasks: {t: {}, u: {rum: x}}", encoding="utf-8")

    mistakes = [(mistake.message, mistake.remedy) for mistake in load_catalogue([file]).mistakes]

    assert mistakes == [
        ("tasks.t.exec_command: is missing", "write exec_command or run"),
        ("tasks.u.rum: unknown key", "did you mean run?"),
    ]


def test_too_long_a_script_is_a_mistake_with_its_files(tmp_path: Path) -> None:
    (mistake,) = load(tmp_path, more=f"files: {{a: {'a' * 40_000}, b: {'b' * 40_000}}}")

    assert "longer than 65536 characters together" in mistake.message


@pytest.mark.parametrize(
    ("script", "more", "warned"),
    [
        ("echo {sample}", "", True),
        ("echo ${sample}", "", False),
        ("echo {other}", "", False),
        ('print(f"{sample}")', "shell: [python3]", False),
    ],
)
def test_a_placeholder_in_a_script_of_a_shell_is_warned_of(
    tmp_path: Path, script: str, more: str, warned: bool
) -> None:
    found = load(tmp_path, script=f"'{script}'", more=more)

    expected = [("{sample} is not filled in in a script", 'write "$sample"')] if warned else []
    assert [(mistake.message, mistake.remedy) for mistake in found] == expected


def test_a_shell_without_a_script_and_one_beside_a_first_line_mean_nothing(tmp_path: Path) -> None:
    (mistake,) = load(tmp_path, script='"#!/bin/sh\\n"', more="shell: [sh]")
    assert mistake.message == "shell means nothing for a script that begins with #!"

    file = tmp_path / "catalogue.yaml"
    file.write_text("tasks: {t: {exec_command: x, shell: [sh]}}", encoding="utf-8")
    (mistake,) = load_catalogue([file]).warnings
    assert mistake.message == "shell means nothing without run"


@pytest.mark.parametrize(
    ("label", "message", "remedy"),
    [
        ("{sampel}", "tasks.t.label: 'sampel' is not an input", "did you mean {sample}?"),
        ("{HOST}", "a label is made before a worker has the task, and cannot hold 'HOST'", "leave it out"),
        ("{sample} {task_dir}", "cannot hold 'task_dir'", "leave it out"),
        ("a" * 201, "is longer than 200 characters", ""),
    ],
)
def test_a_label_holds_inputs_and_the_index(tmp_path: Path, label: str, message: str, remedy: str) -> None:
    inputs = "{sample: {}, HOST: {source: environment}}"
    file = tmp_path / "catalogue.yaml"
    file.write_text(f"tasks: {{t: {{exec_command: x, input: {inputs}, label: '{label}'}}}}", encoding="utf-8")

    (mistake,) = load_catalogue([file]).mistakes

    assert message in mistake.message
    assert remedy in (mistake.remedy or "")


def test_a_request_can_bring_a_script_where_commands_are_allowed(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text("tasks: {t: {exec_command: x}}", encoding="utf-8")
    base = load_catalogue([file]).require_valid()
    stages = [{"name": "One", "tasks": [{"run": "echo 1", "shell": ["bash"]}]}]

    composed = compose_job(base, "mine", stages, commands=True)
    refused = compose_job(base, "mine", stages, commands=False)

    assert composed.catalogue is not None
    assert [(one.run, one.shell) for one in composed.catalogue.tasks.values()] == [("echo 1", ("bash",))]
    assert [mistake.pointer for mistake in refused.mistakes] == ["#/stages/0/tasks/0/run"]
