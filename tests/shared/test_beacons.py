"""Signs of controllers on the volume: who is in charge, told without a broker."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from echelon.controller.settings import Settings
from echelon.shared.volume import Volume
from echelon.shared.volume.beacons import EVERY, FRESH, Beacon, Lookout
from echelon.worker.settings import WorkerSettings


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "volume")


@pytest.fixture
def lookout(volume: Volume) -> Lookout:
    Beacon(volume, "gone").show(able=True)
    Beacon(volume, "gone").douse()
    return Lookout(volume, "worker")


def age(volume: Volume, name: str, seconds: float) -> None:
    path = Path(volume.absolute(f".echelon/controllers/{name}"))
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_nobody_is_able_where_no_controller_lives(lookout: Lookout) -> None:
    assert lookout.anyone_able() is False


def test_one_able_controller_is_enough(volume: Volume, lookout: Lookout) -> None:
    Beacon(volume, "one").show(able=False)
    assert lookout.anyone_able() is False
    Beacon(volume, "two").show(able=True)
    assert lookout.anyone_able() is True


def test_a_sign_that_is_not_renewed_counts_no_more(volume: Volume, lookout: Lookout) -> None:
    Beacon(volume, "one").show(able=True)
    age(volume, "one", FRESH - 1)
    assert lookout.anyone_able() is True
    age(volume, "one", 2)
    assert lookout.anyone_able() is False


def test_the_sign_of_a_controller_that_was_killed_fades_before_a_worker_with_default_settings_looks() -> None:
    controller, worker = Settings(), WorkerSettings(state_dir=Path())
    # A lease may have been renewed one heartbeat before the death; the worker looks in time to end its tasks.
    first_look = controller.lease - controller.heartbeat - worker.lease_margin - worker.lease_grace

    assert EVERY * 2 < FRESH <= first_look


def test_a_sign_of_a_controller_that_is_being_written_counts(volume: Volume, lookout: Lookout) -> None:
    Path(volume.absolute(".echelon/controllers/one")).touch()

    assert lookout.anyone_able() is True


def test_a_volume_that_does_not_tell_leaves_the_worker_on_the_safe_side(volume: Volume, lookout: Lookout) -> None:
    shutil.rmtree(volume.absolute(".echelon"))

    assert lookout.anyone_able() is True


def test_looking_leaves_nothing_behind(volume: Volume, lookout: Lookout) -> None:
    lookout.anyone_able()

    assert os.listdir(volume.absolute(".echelon/controllers")) == []
