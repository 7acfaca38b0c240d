"""Artefacts are fetched into a folder, and none of them leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.controller.client import Client
from echelon.controller.commands.artefacts import resolve_inside
from echelon.shared.command import ExitCode, main_group
from echelon.shared.errors import InvalidInput
from tests.system.process import Standalone


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a/..", "..", "a\0b", ".", "./"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidInput, match="nothing is written there"):
        resolve_inside(tmp_path, path)


@given(st.lists(st.sampled_from(["a", "..", ".", "", "/", "b c", "~", "-x"]), max_size=6).map("/".join))
def test_whatever_a_path_says_the_target_lies_below_the_folder(path: str) -> None:
    folder = Path("/folder")
    try:
        target = resolve_inside(folder, path)
    except InvalidInput:
        return

    assert folder in target.parents
    assert ".." not in target.parts


def test_a_link_in_the_folder_does_not_lead_out(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)

    with pytest.raises(InvalidInput, match="leads out of"):
        resolve_inside(folder, "link/file")


def test_what_is_remembered_of_a_download_lets_no_other_path_lead_out(tmp_path: Path) -> None:
    (tmp_path / "folder" / "in").mkdir(parents=True)
    (tmp_path / "folder" / "in" / "link").symlink_to(tmp_path)
    checked: set[Path] = set()
    resolve_inside(tmp_path / "folder", "in/file", checked)

    with pytest.raises(InvalidInput, match="leads out of"):
        resolve_inside(tmp_path / "folder", "in/link/file", checked)
    with pytest.raises(InvalidInput, match="leads out of"):
        resolve_inside(tmp_path / "folder", "in/link/file", checked)
    assert resolve_inside(tmp_path / "folder", "in/other", checked) == tmp_path / "folder" / "in" / "other"


def test_a_link_within_the_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert resolve_inside(tmp_path, "link/file") == tmp_path / "link" / "file"


@pytest.fixture(scope="module")
def job_id(standalone: Standalone) -> str:
    """Return a job that has left 61 files."""
    with Client(standalone.url) as client:
        return client.submit_job("many_files", wait=60)["job_id"]


def called(standalone: Standalone, *arguments: str | Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECHELON_URL", standalone.url)
        return main_group(["artefacts", *map(str, arguments)], standalone_mode=False)


def files_in(folder: Path) -> dict[str, str]:
    return {str(one.relative_to(folder)): one.read_text() for one in folder.rglob("*") if one.is_file()}


PLOTS = {f"plots/{number}.png": f"{number}\n" for number in range(1, 61)}


def test_many_files_come_as_one_archive(
    standalone: Standalone, job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(Client, "download_artefact", None)
    monkeypatch.setattr("echelon.controller.commands.artefacts._TELL_EVERY", 0.0)

    called(standalone, job_id[:8], "-o", tmp_path / "out")

    assert files_in(tmp_path / "out") == PLOTS | {"report.txt": "all\n"}
    said = capsys.readouterr().err
    assert "61 files, " in said and "received of 61 files" in said and "60 files of 61 files" in said


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        (["report.txt"], {"report.txt"}),
        (["plots"], set(PLOTS)),
        (["plots/"], set(PLOTS)),
        (["*/1?.png", "report.txt"], {"report.txt", *(f"plots/{number}.png" for number in range(10, 20))}),
    ],
)
def test_files_are_chosen_by_name_folder_or_pattern(
    standalone: Standalone, job_id: str, tmp_path: Path, patterns: list[str], wanted: set[str]
) -> None:
    called(standalone, job_id, *patterns, "-o", tmp_path)

    assert set(files_in(tmp_path)) == wanted


def test_a_pattern_that_fits_nothing_is_not_found(standalone: Standalone, job_id: str, tmp_path: Path) -> None:
    assert called(standalone, job_id, "nope", "-o", tmp_path / "out") == ExitCode.NOT_FOUND
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", [False, True])
def test_what_is_left_out_is_counted_with_the_reason(
    standalone: Standalone, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: bool
) -> None:
    with Client(standalone.url) as client:
        job_id = client.submit_job("odd_files", wait=60)["job_id"]

    called(standalone, job_id, *(["-o", tmp_path] if output else []))

    said = capsys.readouterr()
    assert "good.txt" in said.out and "link" not in said.out
    assert "2 more entries of its folder are left out: links, pipes" in said.err


@pytest.mark.parametrize("patterns", [[], ["report.txt"]])
def test_a_file_is_replaced_only_if_that_is_said(
    standalone: Standalone, job_id: str, tmp_path: Path, patterns: list[str]
) -> None:
    (tmp_path / "report.txt").write_text("mine")

    assert called(standalone, job_id, *patterns, "-o", tmp_path) == ExitCode.CONFLICT
    assert files_in(tmp_path) == {"report.txt": "mine"}

    called(standalone, job_id, *patterns, "-o", tmp_path, "--force")
    assert files_in(tmp_path)["report.txt"] == "all\n"
