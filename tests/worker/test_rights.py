"""Tasks that run as another user: they can do their own work, and reach nothing else."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from echelon.shared.errors import InvalidInput
from echelon.shared.ids import new_job_id
from echelon.shared.messages import Outcome
from echelon.shared.volume.layout import workspace_name
from echelon.worker.rights import TaskUser, find_task_user, group_of
from echelon.worker.runtimes.process import ProcessRuntime
from echelon.worker.runtimes.spawning import spawn_with_popen
from tests.worker.workbench import Workbench

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start tasks as another user")

USER = "nobody"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that every user can pass through; pytest's own cannot be."""
    made = Path(tempfile.mkdtemp(prefix="echelon-rights-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def bench(folder: Path) -> Iterator[Workbench]:
    # Of the tasks' TMPDIR; elsewhere that is in /tmp.
    (folder / "state").mkdir()
    (folder / "state").chmod(0o711)
    user = find_task_user(USER, root=str(folder / "volume"))
    runtime = ProcessRuntime(sole_parent=False, spawner=partial(spawn_with_popen, user=user.uid, group=user.gid))
    bench = Workbench(folder, runtime=runtime, user=user)
    files = folder / "files"
    (files / "below").mkdir(parents=True)
    (files / "below" / "tool").write_text("#!/bin/sh\necho tool\n")
    (files / "below" / "tool").chmod(0o755)
    bench.volume.install_files("r1", files)
    yield bench
    bench.executor.close()


def test_a_task_can_do_all_that_its_own_work_needs(bench: Workbench) -> None:
    script = """
set -e
id -un; id -g; echo "$HOME"
below/tool
echo x > artefact; mkdir sub; echo y > sub/artefact; echo z > below/artefact
echo kept > "$ECHELON_TASK_DIR/own"; echo result > "$ECHELON_OUTPUT"
mktemp >/dev/null
"""

    finished = bench.shell(script)

    assert (finished.outcome, finished.error, finished.result) == (Outcome.COMPLETED, None, "result\n")
    home = pwd.getpwnam(USER).pw_dir
    assert bench.log() == f"{USER}\n{group_of(bench.job_id)}\n{home}\ntool\n".encode()
    found = [one.path for one in bench.volume.list_artefacts(bench.job_id, limit=9)]
    assert found == ["artefact", "below/artefact", "sub/artefact"]
    assert bench.shell("echo more >> sub/artefact", index=1).outcome is Outcome.COMPLETED


def test_a_catalogue_needs_no_files(bench: Workbench) -> None:
    shutil.rmtree(f"{bench.volume.root}/revisions/r1")

    assert bench.run("true").outcome is Outcome.COMPLETED


def test_a_folder_of_an_attempt_is_the_users_too(bench: Workbench) -> None:
    finished = bench.shell("set -e; pwd; echo x > artefact; echo y > below/other", workdir="task")

    assert finished.outcome is Outcome.COMPLETED, bench.log("stderr")
    assert bench.volume.publish_files(bench.job_id, f"jobs/{bench.job_id}/attempts/0/0-1") == ()
    found = [one.path for one in bench.volume.list_artefacts(bench.job_id, limit=9)]
    assert found == ["artefact", "below/other"]
    items = json.dumps([{"n": 1}])
    spawning = bench.shell(f"echo '{items}' > \"$ECHELON_SPAWN_FILE\"", index=-1, spawns=True)
    assert spawning.spawned is not None and spawning.spawned.count == 1


@pytest.mark.parametrize("before", ["echo x > d", "ln -s /tmp d", "true"])
def test_later_tasks_can_write_into_a_folder_that_was_published(bench: Workbench, before: str) -> None:
    bench.shell(before)
    bench.shell("mkdir d; echo x > d/x", workdir="task", index=1)
    assert bench.volume.publish_files(bench.job_id, f"jobs/{bench.job_id}/attempts/0/1-1") == ()

    finished = bench.shell("touch d/y && echo more >> d/x", index=2)

    assert finished.outcome is Outcome.COMPLETED, bench.log("stderr", index=2)


def test_a_job_has_a_folder_for_temporary_files_that_no_other_job_can_enter(bench: Workbench) -> None:
    first = bench.shell('echo secret > "$TMPDIR/x"; mkdir "$TMPDIR/y"; echo "$TMPDIR"; ls "$TMPDIR/.."')
    (path,) = bench.log().decode().split()
    again = bench.shell('cat "$TMPDIR/x"', index=1)

    bench.job_id = new_job_id()
    bench.shell(f'mktemp; cat {path}/x; echo y > {path}/z; ls {path}; mv {path} "$TMPDIR/"; rm -r {path}')

    assert (first.outcome, again.outcome) == (Outcome.FAILED, Outcome.COMPLETED)
    assert bench.log().decode().startswith(f"{os.path.dirname(path)}/{bench.job_id}/") and len(bench.log().split()) == 1
    assert sorted(os.listdir(path)) == ["x", "y"]


def test_a_task_reaches_neither_key_nor_store_nor_another_job(bench: Workbench) -> None:
    bench.sealer.seal_text("a secret makes the key")
    Path(bench.volume.root, ".echelon/echelon.db").write_text("store")
    other, own = bench.job_id, new_job_id()
    running = bench.start("sh", "-c", "echo secret > artefact; echo out; touch ready; sleep 300", env={"SECRET": "x"})
    bench.until((bench.work / "ready").exists)
    (pid,) = bench.executor._runtime.mains  # type: ignore[attr-defined]
    bench.job_id = own
    root = bench.volume.root
    refused = [
        f"cat {root}/.echelon/key",
        f"cat {root}/.echelon/echelon.db",
        f"ls {root}/.echelon",
        f"ls {root}",
        f"ls {root}/jobs",
        f"ls {root}/revisions",
        f"cat {root}/{workspace_name(other)}/artefact",
        f"ls {root}/jobs/{other}/attempts",
        f"cat {root}/jobs/{other}/attempts/0/0-1.stdout",
        f"cat /proc/{pid}/environ",
        f"ls /proc/{pid}/cwd/",
        f"ls /proc/{pid}/root/",
        f"cat /proc/{os.getpid()}/environ",
        f"kill -0 {os.getpid()}",
        f"touch {root}/jobs/{own}/new",
        f"mv {root}/jobs/{own}/work {root}/jobs/{own}/elsewhere",
        f"rm -r {root}/jobs/{own}/attempts/0",
        f"echo forged > {root}/jobs/{own}/attempts/0/0-1.stderr",
        "echo x >> below/tool",
    ]
    script = "\n".join(f"if {command}; then echo 'possible: {command}'; fi" for command in refused)

    finished = bench.shell(f"{script}\nls {root}/jobs/{own}/work >/dev/null && echo done")

    assert (finished.outcome, bench.log()) == (Outcome.COMPLETED, b"done\n")
    assert bench.log("stderr").count(b"enied") + bench.log("stderr").count(b"not permitted") == len(refused)
    bench.executor.stop_attempt(running, Outcome.STOPPED, "cancelled", grace=0.0)
    bench.end(running)


def test_a_user_that_cannot_be_is_refused_with_what_to_do(folder: Path) -> None:
    root = str(folder / "volume")
    for text, words in {
        "no-such-user": "no user 'no-such-user'",
        f"{USER}:no-such-group": "no group 'no-such-group'",
        "root": "name another user",
        f"{USER}:root": "name another user",
    }.items():
        with pytest.raises(InvalidInput, match=words):
            find_task_user(text, root=root)
    os.seteuid(pwd.getpwnam(USER).pw_uid)
    try:
        with pytest.raises(InvalidInput, match="start the engine as root"):
            find_task_user(USER, root=root)
    finally:
        os.seteuid(0)
    folder.chmod(0o700)
    with pytest.raises(InvalidInput, match=rf"chmod o\+x {folder}"):
        find_task_user(USER, root=root)
    subprocess.run(["chmod", "o+x", folder], check=True)
    assert isinstance(find_task_user(f"{USER}:nogroup", root=root), TaskUser)
