"""What stops jobs is not ready: a full disk. What stops tasks is said: no worker, or none for a queue."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from echelon.controller.engine.why import disks
from echelon.controller.engine.why.disks import DiskWatch
from echelon.controller.settings import Settings
from echelon.shared.command import ExitCode
from echelon.shared.errors import StoreUnavailable
from echelon.shared.messages import WorkerCard
from tests.api.stand import Stand
from tests.commands.calling import Caller
from tests.engine.house import Puppet
from tests.system.process import until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk with room for few files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m,nr_inodes=900", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting takes a right that this user does not have")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def look(stand: Stand, part: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return the status of /readyz, all it says, and what it says of a part."""
    answer = stand.client.get("/readyz")
    assert answer.json is not None
    (found,) = [one for one in answer.json["parts"] if one["name"] == part]
    return answer.status_code, answer.json, found


def test_a_disk_with_less_room_than_is_set_is_not_ready_and_says_what_to_do(tmp_path: Path) -> None:
    stand = Stand(tmp_path, min_free=1 << 60)

    status, told, disk = look(stand, "disk")

    assert (status, told["ready"], told["working"], disk["ok"]) == (503, False, False, False)
    assert "MiB and" in disk["detail"] and "set a smaller min_free (ECHELON_MIN_FREE)" in disk["detail"]
    assert told["detail"].startswith("disk: ")


def test_a_disk_with_room_tells_how_much(stand: Stand) -> None:
    status, told, disk = look(stand, "disk")

    assert (status, told["ready"], disk["ok"]) == (200, True, True)
    assert disk["detail"].endswith(f"files free in {stand.settings.volume}")


def test_a_disk_that_takes_no_more_files_is_not_ready(small_disk: Path) -> None:
    stand = Stand(small_disk)
    unlimited = Stand(small_disk, min_free=0)

    status, _, disk = look(stand, "disk")

    assert status == 503 and "1,000 files are needed" in disk["detail"]
    assert look(unlimited, "disk")[0] == 200
    stand.close()
    unlimited.close()


def test_the_disk_of_a_store_in_another_place_counts_too(small_disk: Path, tmp_path: Path) -> None:
    stand = Stand(tmp_path, datastore=f"sqlite:///{small_disk}/store.db")

    status, _, disk = look(stand, "disk")

    assert status == 503 and str(small_disk) in disk["detail"] and str(stand.settings.volume) not in disk["detail"]
    assert Settings(volume=tmp_path, datastore="postgresql://x/y").disks == (tmp_path,)
    stand.close()


def test_without_a_worker_jobs_are_accepted_and_it_is_said_that_none_runs(stand: Stand) -> None:
    status, told, workers = look(stand, "workers")

    assert (status, told["ready"], told["working"], workers["ok"]) == (200, True, False, False)
    assert workers["detail"] == "none is up, so no task runs: start one with `echelon worker`"
    assert stand.post()["state"] == "RUNNING"


def test_a_queue_that_no_worker_serves_is_named_while_tasks_wait_there(stand: Stand) -> None:
    puppet = Puppet(stand, room={"default": 2})
    assert look(stand, "workers")[2]["detail"] == "1 up"

    job_id = stand.post("apart")["job_id"]

    status, told, workers = look(stand, "workers")
    assert (status, told["working"], workers["ok"]) == (200, False, False)
    assert "1 up, and none takes tasks from 'lists' (1 waiting)" in workers["detail"]
    Puppet(stand, name="another", room={"lists": 1})
    assert look(stand, "workers")[1]["working"]
    puppet.report(goodbye=True)
    assert stand.get(f"/jobs/{job_id}")["state"] == "RUNNING"
    assert look(stand, "workers")[2]["detail"] == "1 up"


def test_a_worker_that_takes_no_more_tasks_does_not_count(stand: Stand) -> None:
    puppet = Puppet(stand)
    assert look(stand, "workers")[1]["working"]

    puppet.report(running=(), room={}, card=WorkerCard("puppet", "host", 1, "test", puppet.room, draining=True))

    assert not look(stand, "workers")[1]["working"]


def lose_workers(stand: Stand) -> None:
    """Let the last heartbeat of all workers be long ago."""
    with closing(sqlite3.connect(stand.settings.volume / ".echelon/echelon.db")) as store, store:
        store.execute("UPDATE workers SET last_seen_at = last_seen_at - 60000")


def test_lost_workers_are_counted_beside_those_that_are_up(stand: Stand) -> None:
    Puppet(stand)
    lose_workers(stand)
    alone = look(stand, "workers")[2]
    Puppet(stand, name="another")

    assert not alone["ok"]
    assert alone["detail"].startswith("none is up, so no task runs: 1 LOST, see their logs")
    assert look(stand, "workers")[2]["detail"] == "1 up, 1 LOST"


def test_without_the_broker_starting_workers_is_not_the_advice(stand: Stand) -> None:
    Puppet(stand)
    lose_workers(stand)
    stand.broker.close(timeout=0)

    workers = look(stand, "workers")[2]

    assert (workers["ok"], workers["detail"]) == (False, "none can be heard without the broker")


def test_one_reason_is_given_for_a_store_that_is_away(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreUnavailable("the store is away")

    for use in ("check", "read"):
        monkeypatch.setattr(stand.store, use, refuse)

    assert look(stand, "store")[2]["detail"] == "the store is away"
    for part in ("workers", "processes"):
        assert look(stand, part)[2]["detail"] == "not known without the store"


def test_draining_an_unknown_worker_says_that_it_is_not_found(stand: Stand, tmp_path: Path) -> None:
    server = make_server("127.0.0.1", 0, stand.app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    refused = Caller(home=tmp_path, url=f"http://127.0.0.1:{server.server_port}")("drain", "north-9")
    server.shutdown()
    server.server_close()

    assert refused.code == ExitCode.NOT_FOUND
    assert "no worker 'north-9' is up" in refused.err and "Usage" not in refused.err


def test_the_command_ends_with_a_code_for_each_condition(stand: Stand, tmp_path: Path) -> None:
    server = make_server("127.0.0.1", 0, stand.app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    echelon = Caller(home=tmp_path, url=f"http://127.0.0.1:{server.server_port}")

    lacking = echelon("health")
    Puppet(stand)
    good = echelon("health")
    server.shutdown()
    server.server_close()

    assert (lacking.code, good.code) == (ExitCode.NO_WORKER, ExitCode.GOOD), lacking.err + good.err
    assert "accepts jobs, but lacks workers for their tasks" in lacking.err
    assert "none is up" in lacking.out
    assert "is ready" in good.err


def test_a_disk_that_is_not_as_it_should_be_is_logged_once_and_so_is_its_recovery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "mount"
    watch, full = DiskWatch([str(folder)], 1), DiskWatch([str(tmp_path)], 1 << 60)

    for _ in range(3):
        watch.look()
    folder.mkdir()
    for _ in range(3):
        watch.look()
    for _ in range(3):
        full.look()

    gone, back, low = [(record.levelname, record.getMessage()) for record in caplog.records]
    missing = f"the disk of {folder} cannot be asked: No such file or directory"
    assert gone == ("WARNING", f"not ready because of a disk: {missing}")
    assert back[0] == "INFO" and back[1].startswith("the disks have room again: ")
    assert low[0] == "WARNING" and "set a smaller min_free" in low[1]


def test_a_controller_watches_its_disks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "_LOOK_EVERY", 0.01)
    stand = Stand(tmp_path, min_free=1 << 60)

    stand.controller.start()
    until(lambda: "not ready because of a disk" in caplog.text, "the disk is reported")
    stand.controller.stop()

    stand.close()
