"""The sign of a controller is renewed before it fades, and at once when it is not true any more."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from echelon.controller.liveness.status import StatusWriter
from echelon.shared.lease import (
    DEFAULT_LEASE,
    SHORTEST_LEASE,
    STATUS_CHECKED_EVERY,
    status_fresh_for,
    status_written_every,
)
from echelon.shared.volume import Volume
from echelon.shared.volume.status_files import StatusFile, StatusReader


@dataclass
class Script:
    """Time and a broker in a test's hands: what was seen on the volume at each look, and when it goes away."""

    reader: StatusReader
    away_after: int
    looks: int
    seen: list[bool] = field(default_factory=list)

    @property
    def event(self) -> threading.Event:
        """Return this in the shape that a loop takes."""
        return cast(threading.Event, self)

    @property
    def able(self) -> bool:
        return len(self.seen) < self.away_after

    def is_set(self) -> bool:
        return len(self.seen) >= self.looks

    def wait(self, timeout: float) -> bool:
        assert timeout == STATUS_CHECKED_EVERY
        self.seen.append(self.reader.any_controller_able())
        return self.is_set()


def script(tmp_path: Path, *, away_after: int, looks: int, lease: float = DEFAULT_LEASE) -> list[bool]:
    volume = Volume.create(tmp_path / "volume")
    one = Script(StatusReader(volume, "worker"), away_after, looks)
    file = StatusFile(volume, "controller", fresh_for=status_fresh_for(lease))
    StatusWriter(file, lambda: one.able, lease=lease).run(one.event)
    assert not one.reader.any_controller_able()
    return one.seen


def test_a_controller_that_hears_nobody_any_more_says_so_at_the_next_look(tmp_path: Path) -> None:
    assert script(tmp_path, away_after=3, looks=6) == [True, True, True, False, False, False]


def test_the_sign_is_renewed_when_it_is_due(tmp_path: Path) -> None:
    looks = 3 * round(status_written_every(DEFAULT_LEASE) / STATUS_CHECKED_EVERY)

    assert script(tmp_path, away_after=looks + 1, looks=looks) == [True] * looks


@pytest.mark.parametrize("lease", [SHORTEST_LEASE, 4.0, 6.0, 10.0, DEFAULT_LEASE, 60.0])
def test_it_is_written_twice_at_least_before_it_expires_with_every_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lease: float
) -> None:
    written: list[int] = []
    looks: list[bool] = []
    file = StatusFile(Volume.create(tmp_path / "volume"), "controller", fresh_for=status_fresh_for(lease))
    monkeypatch.setattr(file, "write", lambda able: written.append(len(looks)))
    one = Script(StatusReader(Volume.open(tmp_path / "volume"), "worker"), away_after=101, looks=100, seen=looks)

    StatusWriter(file, lambda: one.able, lease=lease).run(one.event)

    gaps = [later - earlier for earlier, later in pairwise(written)]
    assert gaps and 2 * max(gaps) * STATUS_CHECKED_EVERY <= status_fresh_for(lease)
