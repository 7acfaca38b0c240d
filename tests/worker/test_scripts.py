"""Scripts and files of commands, with real processes: values are data, and one attempt's change reaches no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echelon.shared.messages import Outcome
from tests.worker.workbench import Workbench

HOSTILE = ['"; touch {mark}; "', "$(touch {mark})", "`touch {mark}`", "'; touch {mark}; '", "\n touch {mark} \n", "-e"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    made = Workbench(tmp_path)
    yield made
    if not made.closed:
        made.close()


def script(text: str, **more: str) -> dict[str, Any]:
    return {"files": {"script": text, **more}}


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_never_code(bench: Workbench, value: str, tmp_path: Path) -> None:
    value = value.format(mark=tmp_path / "mark")

    bench.run(
        *("sh", "-e", "{task_dir}/script"), task_input={"v": value}, env={"v": "{v}"}, **script('printf %s "$v" > seen')
    )

    assert (bench.work / "seen").read_text() == value
    assert not (tmp_path / "mark").exists()


def test_a_script_finds_its_files_and_is_not_filled_in(bench: Workbench) -> None:
    text = '"$ECHELON_TASK_DIR/helper" {index}'

    finished = bench.run("sh", "{task_dir}/script", **script(text, helper='#!/bin/sh\necho "$1 {index}"'))

    assert finished.outcome is Outcome.COMPLETED
    assert bench.log() == b"{index} {index}\n"


@pytest.mark.parametrize("workdir", ["job", "task"])
def test_a_script_can_be_the_program(bench: Workbench, workdir: str) -> None:
    bench.run("{task_dir}/script", workdir=workdir, **script("#!/bin/sh\npwd\nls $ECHELON_TASK_DIR"))

    folder, *names = bench.log().decode().split()
    assert folder.endswith("/work")
    assert names == (["script"] if workdir == "job" else ["script", "work"])


def test_tasks_with_the_same_script_share_a_folder_one_after_the_other(bench: Workbench) -> None:
    for index in range(3):
        bench.run("{task_dir}/script", index=index, **script("#!/bin/sh\necho $ECHELON_TASK_DIR"))

    assert len({bench.log(index=index) for index in range(3)}) == 1
    assert len(folders(bench)) == 1


@pytest.mark.parametrize(
    "change",
    [
        "echo 'echo changed' >> $0",
        "rm $0",
        "touch $ECHELON_TASK_DIR/more",
        "chmod 600 $0",
        "mv $0 $0.old; ln -s /bin/true $0",
        "rm $0; mkdir $0",
    ],
)
def test_what_a_task_makes_of_its_script_reaches_no_other_task(bench: Workbench, change: str) -> None:
    text = f"#!/bin/sh\necho ran\nif [ $ECHELON_INDEX = 0 ]; then {change}; fi"

    first = bench.run("{task_dir}/script", **script(text))
    second = bench.run("{task_dir}/script", index=1, **script(text))

    assert (first.outcome, second.outcome) == (Outcome.COMPLETED, Outcome.COMPLETED)
    assert bench.log(index=1) == b"ran\n"


def test_the_folder_of_one_command_is_not_given_to_another(bench: Workbench) -> None:
    bench.run("sh", "{task_dir}/script", **script("ls $ECHELON_TASK_DIR"))
    bench.run("ls", "{task_dir}", index=1)

    assert (bench.log(), bench.log(index=1)) == (b"script\n", b"")


def test_a_link_in_the_place_of_a_folder_leads_the_worker_nowhere(bench: Workbench, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o750)
    (victim / "script").write_text("mine")
    (victim / "script").chmod(0o750)
    for path in (victim / "script", victim):
        os.utime(path, ns=(0, 0))
    swap = "mv $ECHELON_TASK_DIR $ECHELON_TASK_DIR.old; ln -s {v} $ECHELON_TASK_DIR; touch -h -d @0 $ECHELON_TASK_DIR"

    bench.run("{task_dir}/script", **script("#!/bin/sh\n" + swap.replace("{v}", str(victim))))
    bench.run("{task_dir}/script", index=1, **script("#!/bin/sh\necho ran"))
    bench.close()

    assert (victim / "script").read_text() == "mine"
    assert bench.log(index=1) == b"ran\n"


def test_nothing_is_left_when_the_worker_ends(bench: Workbench) -> None:
    bench.run("sh", "{task_dir}/script", **script("true"))
    assert len(folders(bench)) == 1

    bench.close()

    assert folders(bench) == []


def folders(bench: Workbench) -> list[Path]:
    """Return the folders that tasks share one after the other."""
    return list(Path(bench.volume.absolute_path(f"jobs/{bench.job_id}/attempts")).glob("task-*"))
