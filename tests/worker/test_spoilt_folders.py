"""What tasks make of their job's folders is their own fault: every step of a worker, after every deed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.shared.ids import new_job_id
from echelon.shared.messages import Outcome
from echelon.worker.environment import make_temporary_folder
from echelon.worker.sweep import kill_leftovers
from tests.shared.spoiling import DEEDS, FOLDERS, list_victim, make_deep_tree, make_victim, without_overlooking_modes
from tests.worker.workbench import Workbench

#: Each way in which a worker writes to a job's folders.
RECIPES = ({}, {"workdir": "task"}, {"spawns": True}, {"spawns": True, "workdir": "task"})
_PRINT = 'echo printed; echo printed >&2; echo "[]" > "$ECHELON_SPAWN_FILE"; echo x > "$ECHELON_OUTPUT"; exit 0'


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with without_overlooking_modes():
        made = Workbench(tmp_path / "bench")
        yield made
        made.executor.close()


@pytest.mark.parametrize("during", [False, True], ids=["before an attempt", "during an attempt"])
@pytest.mark.parametrize("deed", DEEDS)
def test_no_deed_of_a_task_stops_a_worker_or_leads_it_astray(
    bench: Workbench, tmp_path: Path, deed: str, during: bool
) -> None:
    victim = make_victim(tmp_path)
    before = list_victim(victim)

    for folder in FOLDERS:
        for recipe in RECIPES:
            bench.job_id = new_job_id()
            bench.shell("echo first", index=9)
            script = _PRINT
            if during:
                (bench.folder / "go").unlink(missing_ok=True)
                script = f"echo > {bench.folder}/begun; while [ ! -e {bench.folder}/go ]; do sleep 0.01; done; {_PRINT}"
                ref = bench.start("sh", "-c", script, **recipe)
                bench.until((bench.folder / "begun").exists)
                (bench.folder / "begun").unlink()
            DEEDS[deed](bench.work.parent / folder, victim)
            if during:
                (bench.folder / "go").touch()
                ended = bench.end(ref)
            else:
                ended = bench.shell(script, **recipe)
            # A worker that is at fault takes a rest.
            assert ended.outcome is not Outcome.WORKER_FAULT, (folder, recipe, ended)
            if ended.outcome is not Outcome.COMPLETED:
                assert ended.error, (folder, recipe, ended)

    # The tasks themselves write where they like: nothing but what they do is new there.
    assert [line for line in list_victim(victim)[:-1] if line not in before] == []
    bench.job_id = new_job_id()
    assert bench.shell("echo fine").outcome is Outcome.COMPLETED
    assert bench.log() == b"fine\n"


@pytest.mark.parametrize("made", ["a deep tree", "a link"])
def test_what_tasks_leave_for_a_temporary_folder_does_not_stop_the_next_worker(tmp_path: Path, made: str) -> None:
    folder, victim = tmp_path / "echelon-w1", make_victim(tmp_path)
    if made == "a link":
        folder.symlink_to(victim)
    else:
        folder.mkdir()
        make_deep_tree(folder)

    kill_leftovers("w1", parent=str(tmp_path))
    make_temporary_folder(str(folder))

    assert list(folder.iterdir()) == []
    assert (victim / "precious").read_text() == "precious"


def test_a_task_whose_files_have_no_place_in_the_workspace_has_failed_and_says_which(bench: Workbench) -> None:
    bench.shell("mkdir d")

    finished = bench.shell("echo result > d; echo other > e", workdir="task", index=1)

    assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, 0)
    assert (finished.error or "").startswith("1 of its files or folders cannot be moved into the job's workspace: d. ")
