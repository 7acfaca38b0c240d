"""Signs of controllers on the volume: who is in charge, told without a broker."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from echelon.shared.lease import DEFAULT_LEASE, SHORTEST_LEASE, STATUS_FRESH_FOR, first_read, status_fresh_for
from echelon.shared.volume import Volume
from echelon.shared.volume.status_files import StatusFile, StatusReader


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "volume")


@pytest.fixture
def reader(volume: Volume) -> StatusReader:
    StatusFile(volume, "gone").write(able=True)
    StatusFile(volume, "gone").remove()
    return StatusReader(volume, "worker")


def age(volume: Volume, name: str, seconds: float) -> None:
    path = Path(volume.absolute_path(f".echelon/controllers/{name}"))
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_nobody_is_able_where_no_controller_lives(reader: StatusReader) -> None:
    assert reader.any_controller_able() is False


def test_one_able_controller_is_enough(volume: Volume, reader: StatusReader) -> None:
    StatusFile(volume, "one").write(able=False)
    assert reader.any_controller_able() is False
    StatusFile(volume, "two").write(able=True)
    assert reader.any_controller_able() is True


def test_a_sign_that_is_not_renewed_counts_no_more(volume: Volume, reader: StatusReader) -> None:
    StatusFile(volume, "one").write(able=True)
    age(volume, "one", STATUS_FRESH_FOR - 1)
    assert reader.any_controller_able() is True
    age(volume, "one", 2)
    assert reader.any_controller_able() is False


@pytest.mark.parametrize("lease", [SHORTEST_LEASE, 4.0, 6.0, 10.0, DEFAULT_LEASE, 60.0])
def test_the_sign_of_a_killed_controller_is_gone_when_a_worker_without_renewals_looks_whatever_the_lease(
    volume: Volume, reader: StatusReader, lease: float
) -> None:
    StatusFile(volume, "killed", fresh_for=status_fresh_for(lease)).write(able=True)
    age(volume, "killed", 0.9 * status_fresh_for(lease))
    assert reader.any_controller_able() is True
    StatusFile(volume, "killed", fresh_for=status_fresh_for(lease)).write(able=True)
    age(volume, "killed", first_read(lease))
    assert reader.any_controller_able() is False


@pytest.mark.parametrize("content", [b"1", b"1 ", b"1 many", b"1 1e9"])
def test_a_sign_that_does_not_tell_how_long_it_counts_counts_for_as_long_as_any(
    volume: Volume, reader: StatusReader, content: bytes
) -> None:
    Path(volume.absolute_path(".echelon/controllers/older")).write_bytes(content)
    age(volume, "older", STATUS_FRESH_FOR - 1)
    assert reader.any_controller_able() is True
    age(volume, "older", 2)
    assert reader.any_controller_able() is False


def test_the_file_of_a_controller_that_was_killed_long_ago_goes_with_another(volume: Volume) -> None:
    for name in ("killed", "lives", "ends"):
        StatusFile(volume, name).write(able=True)
    age(volume, "killed", 25 * 3600.0)
    StatusFile(volume, "ends").remove()

    assert os.listdir(volume.absolute_path(".echelon/controllers")) == ["lives"]


def test_a_sign_of_a_controller_that_is_being_written_counts(volume: Volume, reader: StatusReader) -> None:
    Path(volume.absolute_path(".echelon/controllers/one")).touch()

    assert reader.any_controller_able() is True


def test_a_volume_that_does_not_tell_leaves_the_worker_on_the_safe_side(volume: Volume, reader: StatusReader) -> None:
    shutil.rmtree(volume.absolute_path(".echelon"))

    assert reader.any_controller_able() is True


def test_looking_leaves_nothing_behind(volume: Volume, reader: StatusReader) -> None:
    reader.any_controller_able()

    assert os.listdir(volume.absolute_path(".echelon/controllers")) == []
