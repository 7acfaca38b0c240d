"""A catalogue that is right comes out as it was meant, however it was written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from echelon.controller.catalogue.definitions import JobDefinition, SpawnedTasks, StageDefinition
from echelon.controller.catalogue.loader import load_catalogue
from echelon.controller.catalogue.recipes import make_recipe
from echelon.controller.catalogue.stored import from_json, to_json
from echelon.controller.catalogue.task_classes import InputDefinition, InputSource, InputType, Retry, TaskClass
from echelon.shared.errors import NotFound
from echelon.shared.messages import EnvironmentInput, Recipe
from tests.catalogue.original import ORIGINAL, loading


def task(folder: Path, body: str) -> TaskClass:
    return loading(folder, "tasks:\n  t:\n    exec_command: x\n" + body).require_valid().tasks["t"]


def test_the_original_example_is_understood_and_its_traps_are_warned_of(tmp_path: Path) -> None:
    loaded = loading(tmp_path, ORIGINAL)

    catalogue = loaded.require_valid()
    assert catalogue.tasks["download"].exec_args == (
        "-d",
        "--header=Authorization: {basic_auth}",
        "{url}",
        "-P",
        "{output_path}",
    )
    assert catalogue.tasks["download"].leading == {"url", "output_path"}
    job = catalogue.jobs["request-data"]
    assert job.stages == (
        StageDefinition("Request Data", "export-data"),
        StageDefinition("Download Data", "download", SpawnedTasks("spawn_download_tasks"), job_failed_on_error=False),
    )
    assert job.secret == {"basic_auth"}
    lines = {ORIGINAL.split("\n")[warning.line - 1].strip() for warning in loaded.warnings}
    # The script is not beside this copy of the catalogue.
    assert lines == {"- >", "- {url}", "- {output_path}", '- "create_download_tasks.py"'}


EVERY_KEY = """\
tasks:
  fetch:
    name: Fetch one file
    description: About it
    input:
      url: {description: where, source_type: parameter, pattern: 'https?://.*'}
      token: {source: parameter, secret: true, allow_leading_dash: yes}
      tries: {type: integer, default: 3, minimum: 1, maximum: 9}
      MIRROR: {source: environment, key: MIRROR_URL, default: http://localhost}
    exec_command: wget
    exec_args: ["{url}", "{token}", -x, "{{ tries + 1 }}"]
    env: {LC_ALL: C}
    queue: net
    timeout: 10m
    grace: 1m30s
    retry: {limit: 2, delay: 5s, factor: 3, max_delay: 5m}
    workdir: task
jobs:
  mirror:
    description: All of it
    input:
      url: {type: string}
      token: {source: http-header, key: Authorization, secret: false}
    stages:
    - {name: One, task_class: fetch, fail_fast: true, max_parallel: 64}
"""
EVERY_TASK = {
    "fetch": TaskClass(
        task_class="fetch",
        exec_command="wget",
        exec_args=("{url}", "{token}", "-x", "{{ tries + 1 }}"),
        env={"LC_ALL": "C"},
        name="Fetch one file",
        description="About it",
        input={
            "url": InputDefinition("url", key="url", description="where", pattern="https?://.*"),
            "token": InputDefinition("token", key="token", secret=True, allow_leading_dash=True),
            "tries": InputDefinition(
                "tries", key="tries", type=InputType.INTEGER, required=False, default=3, minimum=1, maximum=9
            ),
            "MIRROR": InputDefinition(
                "MIRROR", InputSource.ENVIRONMENT, "MIRROR_URL", required=False, default="http://localhost"
            ),
        },
        queue="net",
        timeout=600.0,
        grace=90.0,
        retry=Retry(limit=2, delay=5.0, factor=3, max_delay=300.0),
        workdir="task",
        leading=frozenset({"url", "token"}),
    )
}
EVERY_JOB = {
    "mirror": JobDefinition(
        type="mirror",
        description="All of it",
        input={
            "url": InputDefinition("url", key="url", type=InputType.STRING),
            "token": InputDefinition("token", InputSource.HTTP_HEADER, "Authorization"),
        },
        stages=(StageDefinition("One", "fetch", fail_fast=True, max_parallel=64),),
        secret=frozenset({"token"}),
        leading=frozenset({"url"}),
    )
}


def test_every_key_arrives_in_its_record(tmp_path: Path) -> None:
    catalogue = loading(tmp_path, EVERY_KEY).require_valid()

    assert catalogue.tasks == EVERY_TASK
    assert catalogue.jobs == EVERY_JOB


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1.10", "1.10"),
        ("yes", "yes"),
        ("off", "off"),
        ("0755", "0755"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("null", "null"),
        ("~", "~"),
        ("true", "true"),
        ("1e3", "1e3"),
        ("-P", "-P"),
        ("''", ""),
        ('"a\\n"', "a\n"),
        ("{url}", "{url}"),
        ("{{url}}", "{{url}}"),
        ("{{ url }}", "{{ url }}"),
        ("{{ url | upper }}", "{{ url | upper }}"),
        ('{{ url ~ "x" }}', '{{ url ~ "x" }}'),
        ("{{ url.replace(a, b) }}", "{{ url.replace(a, b) }}"),
        (">\n        a\n        b", "a b"),
        ("|\n        a\n        b", "a\nb"),
        ("|+\n        a", "a\n"),
        ('>\n        "a {url}"', "a {url}"),
        ('|\n        "$1" and "$2"', '"$1" and "$2"'),
        ("!!str 5", "5"),
    ],
)
def test_an_argument_is_the_text_that_was_written(tmp_path: Path, written: str, meant: str) -> None:
    read = task(
        tmp_path, f"    input: {{url: , a: , b: }}\n    exec_args:\n      - {written}\n    env:\n      A: {written}\n"
    )

    assert read.exec_args == (meant,)
    assert read.env == {"A": meant}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{default: 1.10, type: string}", "1.10"),
        ("{default: 1.10}", "1.10"),
        ("{default: 1.10, type: number}", 1.1),
        ("{default: 5}", 5),
        ("{default: yes, type: boolean}", True),
        ("{default: true}", True),
        ("{default: }", None),
        ("{default: [1, {a: b}], type: json}", [1, {"a": "b"}]),
        ("{default: '7', type: integer}", 7),
    ],
)
def test_a_default_is_what_its_type_makes_of_it(tmp_path: Path, written: str, meant: object) -> None:
    one = task(tmp_path, f"    input:\n      a: {written}\n").input["a"]

    assert (one.required, one.default, type(one.default)) == (False, meant, type(meant))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90.0), ("0.5", 0.5), ("500ms", 0.5), ("10m", 600.0), ("1h30m", 5400.0), ("1d", 86400.0), ("'5s'", 5.0)],
)
def test_a_length_of_time_is_seconds(tmp_path: Path, written: str, seconds: float) -> None:
    assert task(tmp_path, f"    timeout: {written}\n").timeout == seconds


def test_anchors_and_merge_keys_are_followed(tmp_path: Path) -> None:
    catalogue = loading(
        tmp_path,
        """\
x-common: &common
  queue: slow
  retry: &retry {limit: 3}
tasks:
  a: {<<: *common, exec_command: x}
  b: {exec_command: y, retry: *retry, <<: [{queue: fast}, *common]}
""",
    ).require_valid()

    assert (catalogue.tasks["a"].queue, catalogue.tasks["a"].retry.limit) == ("slow", 3)
    assert (catalogue.tasks["b"].queue, catalogue.tasks["b"].retry.limit) == ("fast", 3)


def test_files_of_a_folder_and_documents_of_a_file_are_one_catalogue(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text("jobs: {j: {stages: [{task_class: a}, {task_class: b}]}}\n")
    (tmp_path / "a.yaml").write_text("tasks: {a: {exec_command: x}}\n---\ntasks: {b: {exec_command: x}}\n")
    (tmp_path / ".hidden.yaml").write_text("nonsense")
    (tmp_path / "notes.txt").write_text("nonsense")

    whole, single = (
        load_catalogue([tmp_path]).require_valid(),
        load_catalogue([tmp_path / "b.yml", tmp_path / "a.yaml"]).require_valid(),
    )

    assert (sorted(whole.tasks), sorted(whole.jobs)) == (["a", "b"], ["j"])
    assert whole.revision == single.revision


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbftasks:\r\n  t:\r\n    exec_command: x\r\n    tiemout: 5\r\n")

    (mistake,) = load_catalogue([tmp_path]).mistakes

    assert (mistake.line, mistake.column) == (4, 5)


def test_a_catalogue_survives_its_way_through_the_store(tmp_path: Path) -> None:
    catalogue = loading(tmp_path, ORIGINAL).require_valid()

    text = to_json(catalogue)

    assert from_json(text) == catalogue
    assert to_json(from_json(text)) == text


def test_what_a_job_hides_and_allows_reaches_its_tasks(tmp_path: Path) -> None:
    catalogue = loading(
        tmp_path,
        """\
tasks:
  t:
    input: {a: {allow_leading_dash: true}, b: , c: {secret: true}, E: {source: environment, default: 5}}
    exec_command: x
    exec_args: ["{a}", "{b}"]
    timeout: 5
jobs:
  j:
    input: {a: , b: {allow_leading_dash: true}, c: , d: {source: http-header}}
    stages: [{task_class: t}]
""",
    ).require_valid()

    assert make_recipe(catalogue.tasks["t"], spawns=True, max_items=9, job=catalogue.jobs["j"]) == Recipe(
        task_class="t",
        exec_command="x",
        exec_args=("{a}", "{b}"),
        environment=(EnvironmentInput("E", "E", "5"),),
        secret=frozenset({"c", "d"}),
        leading_dash=frozenset({"a", "b"}),
        timeout=5.0,
        spawns=True,
        max_items=9,
    )
    assert catalogue.jobs["j"].leading == frozenset()


def test_an_unknown_job_type_names_the_one_that_was_meant(tmp_path: Path) -> None:
    catalogue = loading(tmp_path, ORIGINAL).require_valid()

    with pytest.raises(NotFound, match=re.escape("no job type 'request-dat'; did you mean 'request-data'?")):
        catalogue.find_job("request-dat")
