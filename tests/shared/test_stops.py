"""Signs for workers that no message reaches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from echelon.shared.ids import TaskId
from echelon.shared.messages import AttemptRef
from echelon.shared.volume import Volume
from echelon.shared.volume.stops import StopFiles

ONE, NEXT = AttemptRef(TaskId("t"), 1), AttemptRef(TaskId("t"), 2)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "volume")


def test_a_sign_stands_for_one_attempt_and_for_every_process(volume: Volume) -> None:
    StopFiles(volume).write_stops([ONE])
    StopFiles(volume).write_stops([ONE])

    assert StopFiles(volume).is_stopped(ONE)
    assert not StopFiles(volume).is_stopped(NEXT)


def test_old_signs_are_taken_away(volume: Volume, tmp_path: Path) -> None:
    signs = StopFiles(volume)
    signs.write_stops([ONE])
    (file,) = (tmp_path / "volume" / ".echelon" / "stops").iterdir()
    os.utime(file, (0.0, 0.0))

    signs.write_stops([NEXT])

    assert not signs.is_stopped(ONE) and signs.is_stopped(NEXT)


def test_a_volume_that_cannot_be_written_holds_nobody_up(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "volume" / ".echelon" / "stops").write_text("a file where a folder should be")

    StopFiles(volume).write_stops([ONE])

    assert not StopFiles(volume).is_stopped(ONE)
