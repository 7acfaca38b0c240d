"""The sign of a controller is renewed before it fades, and at once when it is not true any more."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from echelon.controller.liveness.status import StatusWriter
from echelon.shared.lease import STATUS_CHECKED_EVERY, STATUS_WRITTEN_EVERY
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


def script(tmp_path: Path, *, away_after: int, looks: int) -> list[bool]:
    volume = Volume.create(tmp_path / "volume")
    one = Script(StatusReader(volume, "worker"), away_after, looks)
    StatusWriter(StatusFile(volume, "controller"), lambda: one.able).run(one.event)
    assert not one.reader.any_controller_able()
    return one.seen


def test_a_controller_that_hears_nobody_any_more_says_so_at_the_next_look(tmp_path: Path) -> None:
    assert script(tmp_path, away_after=3, looks=6) == [True, True, True, False, False, False]


def test_the_sign_is_renewed_when_it_is_due(tmp_path: Path) -> None:
    looks = 3 * round(STATUS_WRITTEN_EVERY / STATUS_CHECKED_EVERY)

    assert script(tmp_path, away_after=looks + 1, looks=looks) == [True] * looks
