"""How a job moves is shown in lines, or in a picture that fits the screen."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from echelon.controller.commands.follow import describe_ending, follow_job, take_last_lines
from echelon.controller.commands.pace import Pace
from echelon.controller.commands.progress import ProgressLines, ProgressPicture, describe_stage
from echelon.controller.commands.screen import style_state
from echelon.controller.shapes import ErrorGroup, Job, JobErrors, Stage, Task


def stage(number: int, state: str = "PENDING", **more: object) -> Stage:
    counts = dict.fromkeys(("PENDING", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED"), 0)
    facts: dict[str, object] = {
        "number": number, "order": number, "name": f"S{number}", "task_class": "t", "spawn_task": None, "state": state,
        "total": 1, "spawn_state": None, "max_parallel": None, "queue": "default", "waiting": None,
        "error": None, "started_at": None, "ended_at": None, "etag": "1",
    }  # fmt: skip
    given = more.pop("counts", {})
    assert isinstance(given, dict)
    return {**facts, **more, "counts": {**counts, **given}}  # type: ignore[typeddict-item]


def job(state: str, *stages: Stage, failed: int = 0, error: str | None = None) -> Job:
    return {
        "job_id": "12345678-0000-4000-8000-000000000000", "type": "demo", "revision": "r", "state": state, "input": {},
        "failed_tasks": failed, "error": error, "created_at": "2026-01-01T00:00:00.000Z",
        "started_at": "2026-01-01T00:00:00.000Z", "ended_at": "2026-01-01T00:01:05.000Z",
        "stages": list(stages), "etag": "1",
    }  # fmt: skip


def failed_task(index: int) -> Task:
    return {
        "task_id": f"t{index}", "job_id": "j", "stage": 1, "index": index, "spawn": False, "task_class": "fetch",
        "queue": "default", "state": "FAILED", "attempt": 2, "input": {}, "worker": "w", "exit_code": 7, "signal": None,
        "error": "exit code 7", "result": None, "not_before": None, "started_at": None, "ended_at": None, "etag": "1",
    }  # fmt: skip


class Recorded:
    """A job whose life is written down beforehand."""

    def __init__(self, *lives: Job, failures: int = 0) -> None:
        self._lives = iter(lives)
        self._failures = failures

    def wait_for_change(self) -> Job:
        return next(self._lives)

    def list_errors(self) -> JobErrors:
        groups: list[ErrorGroup] = [
            {
                "stage": 1, "error": f"exit code {code}", "example": f"exit code {code}", "count": 100,
                "tasks": [failed_task(code)],
            }
            for code in range(7, 7 + self._failures)
        ]  # fmt: skip
        return {"failed_tasks": 100 * self._failures, "grouped_tasks": 100 * self._failures, "groups": groups}

    def find_task(self, task_id: str) -> Task:
        return failed_task(int(task_id.removeprefix("t")))

    def read_stderr(self, task: Task) -> list[str]:
        return ["first\n", f"last of {task['index']}\x1b[2J\n"]


def test_lines_tell_when_a_stage_begins_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    lives = [
        job("RUNNING", stage(0, "RUNNING", counts={"RUNNING": 1}), stage(1, total=None)),
        job("RUNNING", stage(0, "RUNNING", counts={"RUNNING": 1}), stage(1, total=None)),
        job(
            "RUNNING",
            stage(0, "COMPLETED", counts={"COMPLETED": 1}),
            stage(1, "RUNNING", total=None, spawn_state="RUNNING"),
        ),
        job("COMPLETED", stage(0, "COMPLETED", counts={"COMPLETED": 1}), stage(1, "COMPLETED", total=0)),
    ]

    with ProgressLines() as shown:
        follow_job(Recorded(*lives), job("PENDING", stage(0), stage(1, total=None)), shown)

    assert capsys.readouterr().err.splitlines() == [
        "stage 0 S0: RUNNING, 0 of 1 task; 1 running",
        "stage 0 S0: COMPLETED, 1 of 1 task",
        "stage 1 S1: RUNNING, spawns",
        "stage 1 S1: COMPLETED, 0 of 0 tasks",
    ]


def test_each_kind_of_error_is_told_once_with_the_end_of_one_stderr_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end = job("FAILED", stage(0, "FAILED", counts={"FAILED": 100}, total=100), failed=100)

    with ProgressLines() as shown:
        follow_job(Recorded(end, failures=1), job("RUNNING", stage(0, "RUNNING"), failed=1), shown)

    assert capsys.readouterr().err.splitlines() == [
        "✗ task 1.7 fetch failed after 2 attempts: exit code 7",
        "  | first",
        "  | last of 7\\x1b[2J",
        "stage 0 S0: RUNNING, 0 of 1 task",
        "stage 0 S0: FAILED, 100 of 100 tasks; 100 failed",
        "✗ 100 tasks of stage 1 failed with: exit code 7",
    ]


def test_of_many_kinds_of_errors_only_a_few_are_told_and_the_others_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end = job("COMPLETED", stage(0, "COMPLETED"), failed=900)

    with ProgressLines() as shown:
        follow_job(Recorded(end, failures=9), end, shown)

    said = capsys.readouterr().err
    assert said.count("✗ task") == 5
    assert said.splitlines()[-1] == "✗ 400 tasks failed with other errors"


def test_the_pace_says_how_much_is_left_and_until_when() -> None:
    pace, since = Pace(), {"started_at": "2026-01-01T00:00:00.000Z", "total": 1000}
    running = [stage(0, "RUNNING", counts={"COMPLETED": done}, **since) for done in (100, 150, 200)]

    said = [pace.describe_pace(one, now=now) for one, now in zip(running, (0.0, 10.0, 20.0), strict=True)]

    # 100 tasks in 20 s: 800 more take 160 s, give or take 16 %.
    assert said[2] == "5/s, 800 left: 2 m 17 s to 3 m 11 s"
    # After a retry fewer have ended than before; it says nothing of a stage that does not run.
    assert pace.describe_pace(stage(0, "RUNNING", counts={"COMPLETED": 3}, **since), now=30.0) == ""
    assert Pace().describe_pace(stage(0, "COMPLETED", counts={"COMPLETED": 1000}, **since), now=0.0) == ""


def test_lines_and_picture_tell_the_pace() -> None:
    since = {"started_at": "2026-01-01T00:00:00.000Z", "total": 1000}
    running = job("RUNNING", stage(0, "RUNNING", counts={"COMPLETED": 500}, **since))

    assert "500 left: " in " ".join(drawn(running, height=24))


def test_an_idle_stage_says_what_it_waits_for() -> None:
    since = {"started_at": "2026-01-01T00:00:00.000Z"}

    assert describe_stage(stage(0, "RUNNING", counts={"QUEUED": 3}, queue="gpu", **since)) == "3 waiting in queue gpu"
    assert describe_stage(stage(0, "RUNNING", spawn_state="QUEUED")) == "waits for its spawn task"


def test_lines_say_once_that_no_worker_listens_to_a_queue(capsys: pytest.CaptureFixture[str]) -> None:
    since = {"started_at": "2026-01-01T00:00:00.000Z"}
    running = stage(0, "RUNNING", counts={"QUEUED": 1}, **since)
    vain = stage(0, "RUNNING", counts={"QUEUED": 1}, waiting="1 task waits for the queue 'gpu'", **since)

    with ProgressLines() as shown:
        for one in (running, vain, vain):
            shown.show_job(job("RUNNING", one))

    assert capsys.readouterr().err.splitlines()[1:] == [
        "stage 0 S0: RUNNING, 0 of 1 task; 1 task waits for the queue 'gpu'"
    ]


def test_the_last_line_says_how_it_ended() -> None:
    said = describe_ending(job("FAILED", failed=2, error="stage 1 failed\x1b"))

    assert said == (
        "job 12345678-0000-4000-8000-000000000000 is FAILED after 1 m 05 s with 2 failed tasks: stage 1 failed\\x1b"
    )


def test_a_job_that_completed_although_tasks_failed_looks_different() -> None:
    ended = job("COMPLETED", stage(0, "COMPLETED"), stage(1, "COMPLETED", counts={"FAILED": 8}), failed=8)

    head, good, ill = drawn(ended, height=24)

    assert "COMPLETED, 8 failed" in head and "COMPLETED, 8 failed" in ill and "failed" not in good
    assert (good[1], ill[1]) == ("✓", "!")
    assert describe_ending(ended).endswith("is COMPLETED, 8 failed after 1 m 05 s")
    assert {style_state(f"COMPLETED{more}") for more in ("", ", 8 failed")} == {"green", "yellow"}


def test_the_end_of_a_long_text_is_short() -> None:
    assert take_last_lines(f"line {number}\n" for number in range(1_000_000))[-2:] == ["line 999998", "line 999999"]
    assert take_last_lines(["x" * 1_000_000]) == ["x" * 2000]
    assert take_last_lines([]) == []


def drawn(shown: Job, *, height: int, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    picture = ProgressPicture(console)
    picture.show_job(shown)
    with console.capture() as captured:
        console.print(picture.draw_job())
    return captured.get().splitlines()


def test_the_picture_of_many_stages_fits_the_screen_and_shows_the_open_one() -> None:
    stages = [stage(number, "COMPLETED") for number in range(60)] + [stage(60, "RUNNING")]
    stages += [stage(number) for number in range(61, 100)]

    lines = drawn(job("RUNNING", *stages), height=24)

    assert len(lines) <= 22
    assert any(" 60 S60" in line for line in lines)
    assert lines[1] == "  54 stages before these"
    assert lines[-1] == "  27 stages after these"


def test_markup_in_names_is_shown_as_it_is() -> None:
    lines = drawn(job("RUNNING", stage(0, "RUNNING", name="[red]\x1b[0m[/red]")), height=24)

    assert "0 [red]\\x1b[0m[/red]" in lines[1]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_picture_is_right_at_every_width(width: int) -> None:
    reason = "spawn task: exit code 3: " + "the index of the reference cannot be found, make it first, " * 2
    stages = [
        stage(0, "FAILED", name="Align all of the samples to the reference", error=reason, counts={"FAILED": 1}),
        stage(1, "RUNNING", total=90_000, counts={"COMPLETED": 45_000, "RUNNING": 64}),
    ]

    head, first, *lines = drawn(job("RUNNING", *stages), height=24, width=width)

    assert all(len(line) <= width for line in (head, first, *lines))
    assert " ".join(reason.split()) in " ".join(" ".join((first, *lines)).split())
    assert "FAILED" in first and "1/1" in first and "Align all of" in first
    assert any("45000/90000" in line and ("━" * 12 + "┄" in line or width == 60) for line in lines)


def test_a_picture_with_long_remarks_is_no_higher_than_the_screen() -> None:
    stages = [stage(number, "FAILED", error="no such file " * 40) for number in range(30)]

    assert len(drawn(job("FAILED", *stages), height=24, width=60)) <= 22
