"""A list of files in pages: all of them once and in order, and a large folder is read once for all pages."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.shared.volume import artefacts
from echelon.shared.volume.artefacts import find_files, iterate_files

NAMES = st.text("ab.-!é", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))


def in_pages(root: Path, limit: int) -> list[str]:
    folder = os.open(root, os.O_RDONLY)
    try:
        found: list[str] = []
        while True:
            page = find_files(folder, after=found[-1] if found else "", limit=limit)
            found += [one.path for one in page.files]
            if not page.more:
                return found
    finally:
        os.close(folder)


@given(st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12), st.integers(1, 4), st.booleans())
def test_pages_hold_each_file_once_and_in_order(paths: set[str], limit: int, remembered: bool) -> None:
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        if remembered:
            patch.setattr(artefacts, "_LARGE", 0)
            patch.setattr(artefacts, "_SETTLED", -1.0)
        root, written = Path(made), set()
        for path in sorted(paths, key=len, reverse=True):
            file = root / path
            if not file.exists() and not any(one.is_file() for one in file.parents):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
                written.add(path)

        assert in_pages(root, limit) == sorted(written)
        folder = os.open(root, os.O_RDONLY)
        assert [one.path for one in iterate_files(folder)] == sorted(written)
        os.close(folder)


def test_a_large_folder_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "_LARGE", 10)
    monkeypatch.setattr(artefacts, "_SETTLED", -1.0)
    reads: list[object] = []
    monkeypatch.setattr(artefacts.os, "scandir", lambda folder, read=os.scandir: reads.append(folder) or read(folder))
    for number in range(50):
        (tmp_path / f"{number:02}").touch()

    assert len(in_pages(tmp_path, 5)) == 50
    assert len(reads) == 1
    (tmp_path / "50").touch()
    assert len(in_pages(tmp_path, 5)) == 51
    assert len(reads) == 2


def test_a_folder_that_has_just_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "_LARGE", 10)
    for number in range(20):
        (tmp_path / f"{number:02}").touch()

    assert len(in_pages(tmp_path, 100)) == 20
    (tmp_path / "20").touch()
    assert len(in_pages(tmp_path, 100)) == 21
