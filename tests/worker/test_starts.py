"""What a worker tells of starts: nothing of short tasks, and of others once; and what it gives back when asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from echelon.shared.ids import TaskId, new_worker_id
from echelon.shared.messages import ANY_QUEUE, AttemptRef, Outcome, Report, Started
from echelon.shared.volume import Volume
from echelon.shared.volume.starts import StartFiles, StartLog
from echelon.worker.reporter import LINGER
from tests.worker.stand import JOB, Stand, released

Make = Callable[..., Stand]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(slots: Mapping[str, int] | None = None) -> Stand:
        return Stand(tmp_path, slots=slots or {ANY_QUEUE: 2})

    return build


def started(reports: list[Report]) -> list[AttemptRef]:
    """Return what reports tell of starts, those of heartbeats apart."""
    told = [one for report in reports if report.card is None for one in report.started or ()]
    return [AttemptRef(one.task_id, one.attempt) for one in told]


def test_a_start_is_told_when_its_task_has_run_for_a_moment_and_only_once(make: Make) -> None:
    stand = make()
    first, second, _ = stand.run(3)

    stand.turn(after=LINGER / 2)
    assert stand.reports() == []
    stand.turn(after=LINGER / 2 + 0.001)
    (report,) = stand.reports()
    stand.turn(after=1.0)

    assert [(one.job_id, one.task_id) for one in report.started or ()] == [
        (JOB, first.task_id),
        (JOB, second.task_id),
    ]
    assert report.started is not None
    assert all(LINGER <= one.seconds < 2 * LINGER for one in report.started)
    assert started(stand.reports()) == []


def test_nothing_is_told_of_the_start_of_a_task_that_has_ended(make: Make) -> None:
    stand = make()
    refs = stand.run(2)
    for ref in refs:
        stand.executor.end(ref)

    stand.turn(after=LINGER * 2)

    (report,) = stand.reports()
    assert [one.task_id for one in report.finished] == [ref.task_id for ref in refs]
    assert report.started is None


def test_a_worker_wakes_up_to_tell_of_a_start(make: Make) -> None:
    stand = make()
    stand.run()

    assert stand.agent._compute_wait(60.0) == pytest.approx(LINGER)


def test_a_heartbeat_names_what_runs_and_what_is_only_held(make: Make) -> None:
    stand = make()
    running = stand.run(3)

    stand.clock.now += 3.0
    beat = stand.beat()

    assert beat.running == tuple(running)
    assert beat.started == tuple(Started(JOB, ref.task_id, ref.attempt, 3.0) for ref in running[:2])


def test_what_is_asked_back_is_given_back_unless_it_has_started(make: Make) -> None:
    stand = make()
    first, second, waiting = stand.run(3)
    stand.recall(first, waiting)

    stand.turn()
    stand.executor.end(first)
    stand.executor.end(second)
    stand.turn()

    reports = stand.reports()
    assert released(reports) == [waiting]
    assert [one.outcome for report in reports for one in report.finished] == [Outcome.COMPLETED] * 2
    assert stand.executor.started == [first, second]


def test_what_is_asked_back_before_it_comes_is_given_back_and_not_started_when_it_comes(make: Make) -> None:
    stand = make()
    (ref,) = stand.tasks()
    number = stand.beat().number
    stand.recall(ref)
    stand.turn()
    stand.grant([ref], answers=number)
    stand.turn()

    assert released(stand.reports()) == [ref]
    assert stand.executor.started == []


def test_what_has_ended_is_not_given_back(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.executor.end(ref)
    stand.turn()
    stand.recall(ref)
    stand.turn()

    assert released(stand.reports()) == []


# --- the file of starts


def ref(number: int, claim: int = 1) -> AttemptRef:
    return AttemptRef(TaskId(f"{number:036}"), claim)


def test_controllers_find_what_a_worker_has_started_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, worker = Volume.create(tmp_path), new_worker_id()
    monkeypatch.setattr("echelon.shared.volume.starts._LONGEST", 10 * 60)
    files = StartFiles(volume)
    assert files.find_starts(worker) is None, "no file: it is unknown"
    log = StartLog(volume, worker)
    assert files.find_starts(worker) == {}, "nothing has started"

    for number in range(30):
        log.add_start(ref(number, claim=number + 1))
        log.close()

    found = files.find_starts(worker)
    assert found is not None
    assert set(found) >= {ref(number, claim=number + 1) for number in range(20, 30)}
    assert ref(0) not in found, "its files do not grow without end"
    assert len(list((tmp_path / ".echelon" / "starts").iterdir())) == 2


def test_a_torn_line_hides_no_other_and_a_damaged_file_tells_nothing(tmp_path: Path) -> None:
    volume, worker = Volume.create(tmp_path), new_worker_id()
    log = StartLog(volume, worker)
    log.add_start(ref(1))
    path = tmp_path / ".echelon" / "starts" / worker
    whole = path.read_text()

    path.write_text(whole + whole[:20])
    torn = StartFiles(volume).find_starts(worker)
    path.write_text("x y z\n")

    assert torn is not None and set(torn) == {ref(1)}
    assert StartFiles(volume).find_starts(worker) is None
