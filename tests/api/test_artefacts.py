from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest

from echelon.controller.api.archive import stream_archive
from echelon.shared import failpoints
from echelon.shared.ids import JobId
from echelon.shared.volume import attempt_name
from tests.api.stand import API, Stand
from tests.engine.house import Puppet


@pytest.fixture
def job_id(stand: Stand) -> str:
    found: str = stand.finished()["job_id"]
    return found


def test_artefacts_are_listed_by_path_page_by_page(stand: Stand, job_id: str) -> None:
    paths = ["a.txt", "a/b.txt", "a/c/d e.txt", "ä.txt", "z"]
    for number, path in enumerate(paths):
        stand.leave(job_id, path, b"x" * number)

    listed, cursor = [], ""
    while True:
        page = stand.get(f"/jobs/{job_id}/artefacts?limit=2{cursor}")
        listed += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert [item["path"] for item in listed] == sorted(paths)
    assert {item["path"]: item["size"] for item in listed} == {path: number for number, path in enumerate(paths)}
    assert listed[0]["modified_at"].endswith("Z")


@pytest.mark.parametrize("asked", ["artefacts", "artefacts/made.txt", "artefacts.zip"])
def test_who_has_seen_a_task_completed_finds_its_files(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(failpoints, "_armed", None)
    job_id = stand.post("made")["job_id"]
    puppet = Puppet(stand)
    grant, task = puppet.take()
    stand.volume.prepare_workspace(grant.job_id, grant.revision)
    folder = stand.volume.prepare_attempt(attempt_name(grant.job_id, 0, task.index, task.attempt), grant.revision)
    Path(folder, "made.txt").write_text("made")
    # The controller that counts the attempt gets no further than that.
    failpoints.arm_failpoints({failpoints.VARIABLE: "files.before_publish:raise"})
    with pytest.raises(failpoints.FailpointReached):
        puppet.finish((grant, task))
    assert stand.get(f"/jobs/{job_id}")["state"] == "COMPLETED"

    with stand.client.get(f"{API}/jobs/{job_id}/{asked}") as response:
        assert response.status_code == 200
        assert b"made" in response.data


def test_a_job_that_left_nothing_has_no_artefacts(stand: Stand, job_id: str) -> None:
    assert stand.get(f"/jobs/{job_id}/artefacts") == {"items": [], "next_cursor": None, "left_out": 0}


def test_a_file_is_a_download_that_no_browser_runs(stand: Stand, job_id: str) -> None:
    stand.leave(job_id, 'odd "name" ü.html', b"<script>alert(1)</script>")

    with stand.client.get(f"{API}/jobs/{job_id}/artefacts/odd%20%22name%22%20%C3%BC.html") as response:
        assert (response.status_code, response.data) == (200, b"<script>alert(1)</script>")
        disposition = response.headers["Content-Disposition"]
        assert disposition.startswith("attachment; filename=\"odd _name_ _.html\"; filename*=UTF-8''odd%20%22name%22")
        assert response.headers["Content-Security-Policy"].startswith("sandbox")
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_parts_of_a_file_are_served_and_what_has_not_changed_is_not_sent_again(stand: Stand, job_id: str) -> None:
    content = bytes(range(256)) * 1000
    file = stand.leave(job_id, "deep/data.bin", content)
    path = f"{API}/jobs/{job_id}/artefacts/deep/data.bin"

    with stand.client.get(path) as whole, stand.client.head(path) as head:
        assert (whole.data, whole.content_length, head.content_length) == (content, len(content), len(content))
        etag = whole.headers["ETag"]
    for asked, part in [("0-0", content[:1]), ("100000-200000", content[100_000:200_001]), ("-7", content[-7:])]:
        with stand.client.get(path, headers={"Range": f"bytes={asked}"}) as response:
            assert (response.status_code, response.data) == (206, part)
    with stand.client.get(path, headers={"Range": f"bytes={len(content)}-"}) as beyond:
        assert (beyond.status_code, beyond.content_type) == (416, "application/problem+json")
    with stand.client.get(path, headers={"If-None-Match": etag}) as unchanged:
        assert unchanged.status_code == 304
    file.write_bytes(b"other")
    with stand.client.get(path, headers={"If-None-Match": etag}) as changed:
        assert changed.data == b"other"
    with stand.client.get(path, headers={"If-Range": etag, "Range": "bytes=1-2"}) as stale:
        assert (stale.status_code, stale.data) == (200, b"other")


def test_a_file_that_has_changed_since_it_was_read_is_refused_as_everything_is(stand: Stand, job_id: str) -> None:
    stand.leave(job_id, "a.txt", b"content")

    answer = stand.client.get(f"{API}/jobs/{job_id}/artefacts/a.txt", headers={"If-Match": '"another"'})

    assert answer.status_code == 412
    assert answer.content_type == "application/problem+json"
    assert answer.json is not None and answer.json["status"] == 412


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=0-1,3-4", "bytes=x", "bytes", "bytes=-", "bytes=5-2"])
def test_a_range_that_cannot_be_served_gets_the_whole_file(stand: Stand, job_id: str, asked: str) -> None:
    stand.leave(job_id, "a.txt", b"0123456789")

    with stand.client.get(f"{API}/jobs/{job_id}/artefacts/a.txt", headers={"Range": asked}) as response:
        assert (response.status_code, response.data) == (200, b"0123456789")
        assert response.headers["Accept-Ranges"] == "bytes"


TRICKS = [
    "../attempts/0/0-1.stdout",
    "..%2fattempts",
    "%2e%2e/%2e%2e/%2e%2e/.echelon/key",
    "a/../../../x",
    "/etc/passwd",
    "%2Fetc%2Fpasswd",
    "..\\..\\x",
    "a%00",
    "%00",
    ".",
    "./a",
    "a//b",
    "folder",
    "folder/",
    "link",
    "folder-link/secret",
    "fifo",
    "socket",
    "hidden%ff",
    "a" * 5000,
]


@pytest.mark.parametrize("path", TRICKS)
def test_path_tricks_and_planted_things_are_not_found(stand: Stand, job_id: str, path: str) -> None:
    stand.print(job_id, "stdout", b"not an artefact")
    workspace = stand.leave(job_id, "folder/inside").parent.parent
    outside = stand.settings.volume / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"S3CR3T")
    (workspace / "link").symlink_to(outside / "secret")
    (workspace / "folder-link").symlink_to(outside)
    os.mkfifo(workspace / "fifo")

    response = stand.client.get(f"{API}/jobs/{job_id}/artefacts/{path}")

    assert (response.status_code, response.content_type) == (404, "application/problem+json"), response.text
    assert [item["path"] for item in stand.get(f"/jobs/{job_id}/artefacts")["items"]] == ["folder/inside"]


def test_the_archive_holds_every_file_and_nothing_that_was_planted(stand: Stand, job_id: str) -> None:
    contents = {"a.txt": b"hello", "deep/ü.bin": os.urandom(700_000), "empty": b"", "packed.gz": b"x" * 100_000}
    for path, content in contents.items():
        stand.leave(job_id, path, content)
    (stand.leave(job_id, "a.txt", b"hello").parent / "link").symlink_to("/etc/passwd")

    with stand.client.get(f"{API}/jobs/{job_id}/artefacts.zip") as response:
        archive = zipfile.ZipFile(io.BytesIO(response.data))
        assert response.content_type == "application/zip"
        assert response.headers["Content-Disposition"] == f'attachment; filename="{job_id}.zip"'

    assert archive.testzip() is None
    assert {name: archive.read(name) for name in archive.namelist()} == contents


def test_the_archive_of_many_pages_is_whole(stand: Stand, job_id: str) -> None:
    for number in range(1203):
        stand.leave(job_id, f"{number}", str(number).encode())

    with stand.client.get(f"{API}/jobs/{job_id}/artefacts.zip") as response:
        archive = zipfile.ZipFile(io.BytesIO(response.data))

    assert len(archive.namelist()) == 1203


def test_the_archive_is_made_while_it_is_sent(stand: Stand, job_id: str) -> None:
    file = stand.leave(job_id, "large.gz")
    with file.open("wb") as sparse:
        sparse.truncate(5 << 30)

    with stand.client.get(f"{API}/jobs/{job_id}/artefacts.zip", buffered=False) as response:
        pieces = response.iter_encoded()
        received = [len(next(pieces)) for _ in range(100)]

    assert max(received) < 1 << 20


def test_files_of_one_job_are_not_found_under_another(stand: Stand, job_id: str) -> None:
    stand.leave(job_id, "a.txt", b"x")
    other = stand.finished()["job_id"]

    assert stand.client.get(f"{API}/jobs/{other}/artefacts/a.txt").status_code == 404
    assert stand.client.get(f"{API}/jobs/{other}/artefacts/../../{job_id}/work/a.txt").status_code == 404
    assert Path(stand.settings.volume, f"jobs/{job_id}/work/a.txt").exists()


#: All that Linux takes in a name, and a UTF-8 text can hold.
ODD_NAMES = [
    "a\nb", "\n", "tab\t", "esc\x1b[31m", "\x7f", "per%cent", "per%0Acent", "q?x#y", "back\\slash", "..a", " ",
    "ü\u2028x",
]  # fmt: skip


def test_list_fetch_and_archive_agree_on_every_name(stand: Stand) -> None:
    job_id = stand.finished()["job_id"]
    for name in ODD_NAMES:
        stand.leave(job_id, f"in/{name}", name.encode())

    listed = [one["path"] for one in stand.get(f"/jobs/{job_id}/artefacts")["items"]]
    with stand.client.get(f"{API}/jobs/{job_id}/artefacts.zip") as response:
        packed = zipfile.ZipFile(io.BytesIO(response.data)).namelist()

    assert sorted(listed) == sorted(packed) == sorted(f"in/{name}" for name in ODD_NAMES)
    for path in listed:
        with stand.client.get(f"{API}/jobs/{job_id}/artefacts/{quote(path, safe='')}") as response:
            assert (response.status_code, response.data) == (200, path.removeprefix("in/").encode()), path


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_what_is_left_out_of_a_list_is_counted_once(stand: Stand, limit: int) -> None:
    job_id = stand.finished()["job_id"]
    folder = stand.leave(job_id, "b.txt").parent
    stand.leave(job_id, "d/e.txt")
    (folder / "a").symlink_to("b.txt")
    (folder / "c").symlink_to("nowhere")
    (folder / "d" / "z").symlink_to("/")
    (folder / "d" / "script.py").symlink_to("../../../../revisions/5c1a/files/d/script.py")
    (folder / "model").symlink_to("../data/revisions/3/files/model")
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"\xff")).touch()

    page = stand.get(f"/jobs/{job_id}/artefacts?limit={limit}")
    found, left_out = page["items"], page["left_out"]
    while page["next_cursor"]:
        page = stand.get(f"/jobs/{job_id}/artefacts?limit={limit}&cursor={page['next_cursor']}")
        found, left_out = found + page["items"], left_out + page["left_out"]

    assert [one["path"] for one in found] == ["b.txt", "d/e.txt"]
    assert left_out == 6


def test_many_small_files_are_sent_in_few_pieces(stand: Stand) -> None:
    job_id = stand.finished("hello")["job_id"]
    for number in range(300):
        stand.leave(job_id, f"{number}.txt", b"small")
    stand.leave(job_id, "large", os.urandom(300_000))

    pieces = list(stream_archive(stand.volume, JobId(job_id)))

    assert len(pieces) <= 4
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 301
