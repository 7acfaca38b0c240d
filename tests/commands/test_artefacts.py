"""Artefacts are fetched into a folder, and none of them leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.controller.commands.artefacts import resolve_inside
from echelon.shared.errors import InvalidInput


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


def test_a_link_within_the_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert resolve_inside(tmp_path, "link/file") == tmp_path / "link" / "file"
