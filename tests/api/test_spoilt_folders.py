"""What tasks make of their own folders is no outage: every route that touches the volume, after every deed."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from echelon.shared.volume.removal import empty_tree
from tests.api.stand import API, Stand
from tests.shared.spoiling import DEEDS, FOLDERS, list_victim, make_deep_tree, make_victim, without_overlooking_modes

ROUTES = [
    "artefacts",
    "artefacts?limit=1",
    "artefacts/made.txt",
    "artefacts/folder/made.txt",
    "artefacts.zip",
    "log",
    "log?follow=1",
    "why",
    "tasks",
    "",
]


@pytest.fixture(autouse=True)
def ordinary_user(tmp_path: Path) -> Iterator[None]:
    with without_overlooking_modes():
        yield
    # pytest cannot remove what is too deep.
    empty_tree(str(tmp_path))


@pytest.mark.parametrize("deed", DEEDS)
def test_no_deed_of_a_task_makes_an_outage_or_leads_astray(stand: Stand, tmp_path: Path, deed: str) -> None:
    victim = make_victim(tmp_path)
    before = list_victim(victim)

    for folder in FOLDERS:
        job_id = stand.finished()["job_id"]
        for name in ("made.txt", "folder/made.txt"):
            stand.leave(job_id, name, b"made")
        stand.print(job_id, "stdout", b"printed\n")
        task_id = stand.get(f"/jobs/{job_id}/tasks")["items"][0]["task_id"]
        job = stand.settings.volume / "jobs" / job_id
        DEEDS[deed](job / folder, victim)

        for path in [*(f"jobs/{job_id}/{route}".rstrip("/") for route in ROUTES), f"tasks/{task_id}/log"]:
            with stand.client.get(f"{API}/{path}") as answer:
                assert answer.status_code in (200, 404, 409), (deed, folder, path, answer.text)
                assert b"precious" not in answer.data
                if answer.status_code == 409:
                    assert answer.json is not None
                    assert "a task of the job has changed its folders: jobs/" in answer.json["detail"]

        assert stand.client.delete(f"{API}/jobs/{job_id}").status_code == 200, (deed, folder)
        assert stand.client.get(f"{API}/jobs/{job_id}").status_code == 404
        assert not os.path.lexists(job)
        assert os.listdir(stand.settings.volume / ".echelon/trash") == []
    assert list_victim(victim) == before
    assert stand.client.get("/readyz").status_code == 200


def test_a_tree_too_deep_for_any_path_is_listed_as_far_as_it_goes_and_removed(stand: Stand) -> None:
    job_id = stand.finished()["job_id"]
    stand.leave(job_id, "made.txt", b"made")
    job = stand.settings.volume / "jobs" / job_id
    make_deep_tree(job / "work")

    assert [item["path"] for item in stand.get(f"/jobs/{job_id}/artefacts")["items"]] == ["made.txt"]
    with stand.client.get(f"{API}/jobs/{job_id}/artefacts.zip") as answer:
        assert answer.status_code == 200
    assert stand.client.delete(f"{API}/jobs/{job_id}").status_code == 200

    assert not job.exists()
    assert os.listdir(stand.settings.volume / ".echelon/trash") == []


def test_a_time_that_no_calendar_has_is_shown_as_unknown(tmp_path: Path) -> None:
    # In memory, for other file systems keep no such times.
    with TemporaryDirectory(dir="/dev/shm") as folder:
        stand = Stand(Path(folder))
        job_id = stand.finished()["job_id"]
        for time in (2**55, -(2**40)):
            os.utime(stand.leave(job_id, f"{time}", b"made"), (time, time))

            with stand.client.get(f"{API}/jobs/{job_id}/artefacts/{time}") as answer:
                assert (answer.status_code, answer.data) == (200, b"made")
        # Moments of a calendar that an archive does not know.
        for time in (0, 2**34):
            os.utime(stand.leave(job_id, f"sub/{time}", b"made"), (time, time))
        with stand.client.get(f"{API}/jobs/{job_id}/artefacts.zip") as answer:
            archive = zipfile.ZipFile(io.BytesIO(answer.data))
        assert [one.date_time for one in archive.infolist()] == [(1980, 1, 1, 0, 0, 0)] * 4
        assert archive.testzip() is None
        listed = stand.get(f"/jobs/{job_id}/artefacts")["items"]
        assert [(item["modified_at"] or "null")[:7] for item in listed] == ["null", "null", "1970-01", "2514-05"]
        stand.close()
