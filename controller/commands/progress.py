"""A job's progress on stderr: a picture redrawn in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, Self

from echelon.controller.commands.pace import Pace
from echelon.controller.commands.screen import (
    count_seconds,
    escape_text,
    format_count,
    format_elapsed,
    is_terminal,
    make_console,
    print_message,
    style_state,
)
from echelon.controller.commands.tables import LEAST_WORDS, Cell, Column, Line, fit_cells
from echelon.shared.wrapping import cut_text, wrap_lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from echelon.controller.shapes import Job, Stage, Task

#: Seconds between two plain lines about a running stage.
_LINE_EVERY: Final = 5.0
#: Seconds after which a stage without running tasks counts as idle.
_IDLE_AFTER: Final = 2.0
#: Characters of a bar.
_BAR: Final = 24
_MARKS: Final = {"COMPLETED": "✓", "FAILED": "✗", "CANCELLED": "■", "SKIPPED": "»", "RUNNING": "●"}
_DONE: Final = ("COMPLETED", "FAILED", "CANCELLED", "SKIPPED")
_COUNTED: Final = ("RUNNING", "FAILED", "CANCELLED", "SKIPPED")


class Progress(Protocol):
    """Shows a job while it runs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def show_job(self, job: Job) -> None:
        """Show the job as it is now."""

    def print_lines(self, text: str, *, style: str = "") -> None:
        """Write lines that stay on the screen."""


def choose_progress() -> Progress:
    """Return a picture if stderr is a terminal that can show one, else lines."""
    if not is_terminal(sys.stderr):
        return ProgressLines()
    screen = make_console(sys.stderr)
    return ProgressLines() if screen.is_dumb_terminal else ProgressPicture(screen)


def format_state(one: Job | Task) -> str:
    """Return the state of a job or a task, and whether it is paused."""
    return one["state"] + (", paused" if one.get("paused") else "")


def format_job_state(job: Job) -> str:
    """Return the state of a job, whether it is paused, and how many tasks failed although it has completed."""
    return format_state(job) + _add_failed(job["state"], job["failed_tasks"])


def format_stage_state(stage: Stage) -> str:
    """Return the state of a stage, and how many tasks failed although it has completed."""
    return stage["state"] + _add_failed(stage["state"], stage["counts"].get("FAILED", 0))


def _add_failed(state: str, failed: int) -> str:
    return f", {failed} failed" if failed and state == "COMPLETED" else ""


def count_done(stage: Stage) -> int:
    """Return how many of a stage's tasks have completed, failed or were skipped."""
    counts = stage["counts"]
    return counts["COMPLETED"] + counts["FAILED"] + counts["SKIPPED"]


def describe_stage(stage: Stage, pace: str = "") -> str:
    """Return remarks about a stage beside its figures; `pace` is how fast it goes on."""
    counts = stage["counts"]
    told = "FAILED" if stage["state"] == "COMPLETED" else ""
    said = [f"{counts[state]} {state.lower()}" for state in _COUNTED if counts.get(state, 0) and state != told]
    if stage["spawn_state"] in ("PENDING", "QUEUED", "RUNNING") and stage["state"] == "RUNNING":
        said.insert(0, "waits for its spawn task" if stage["spawn_state"] != "RUNNING" else "spawns")
    if stage["spawn_state"] == "FAILED":
        said.insert(0, "spawn task failed")
    if stage.get("source") == "open" and stage["state"] == "PENDING":
        said.append("open for tasks")
    if pending := count_held_back(stage):
        said.append(f"{pending} held back")
    if needs_person(stage):
        said.append("waits for a person")
    # An earlier release's controller does not send these two fields.
    if stage.get("paused"):
        said.insert(0, "paused")
    elif stage.get("waiting"):
        said.append(escape_text(stage["waiting"]))
    elif _is_idle(stage) and counts.get("QUEUED", 0) and not counts.get("RUNNING", 0):
        said.append(f"{counts['QUEUED']} waiting in queue {escape_text(stage['queue'])}")
    if pace:
        said.append(pace)
    return ", ".join(said)


def describe_with_error(stage: Stage, pace: str = "") -> str:
    """Return remarks about a stage, and why it failed."""
    return "; ".join(filter(None, (describe_stage(stage, pace), escape_text(stage["error"]))))


def _describe_progress(stage: Stage, pace: str) -> str:
    """Return remarks about a stage, and why it failed unless the task that failed has been told of."""
    told = stage["counts"].get("FAILED", 0) and (stage["error"] or "").startswith("task ")
    return describe_stage(stage, pace) if told else describe_with_error(stage, pace)


def needs_person(stage: Stage) -> bool:
    """Tell whether a stage with `on_error: block` cannot go on without a retry or a skip."""
    counts = stage["counts"]
    wrong = counts.get("FAILED", 0) + counts.get("CANCELLED", 0) or stage["spawn_state"] in ("FAILED", "CANCELLED")
    left = counts["PENDING"] + counts["QUEUED"] + counts["RUNNING"]
    return stage["state"] == "RUNNING" and stage.get("on_error") == "block" and bool(wrong) and not left


def count_held_back(stage: Stage) -> int:
    """Return how many tasks are paused or wait for their retry, if no other task of the stage runs or is queued."""
    counts = stage["counts"]
    goes_on = counts.get("QUEUED", 0) or counts.get("RUNNING", 0) or stage["spawn_state"] in ("QUEUED", "RUNNING")
    return 0 if goes_on or stage["state"] != "RUNNING" else counts.get("PENDING", 0)


def _is_idle(stage: Stage) -> bool:
    """Tell whether a stage has been RUNNING for long enough that its tasks should run by now."""
    return (
        stage["state"] == "RUNNING"
        and bool(stage["started_at"])
        and count_seconds(stage["started_at"] or "") > _IDLE_AFTER
    )


class ProgressLines:
    """Writes a line when a stage begins or ends, and now and then while it runs."""

    def __init__(self) -> None:
        #: The last line about each stage: its state, its tasks done, and when it was written.
        self._written: dict[int, tuple[str, int, float]] = {}
        #: Stages that were reported to wait for a worker.
        self._waiting: set[int] = set()
        self._pace = Pace()
        #: Things that wait for a person: the job (None) and stages (their numbers).
        self._held: set[int | None] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: lines need no end."""

    def show_job(self, job: Job) -> None:
        """Write a line about each stage that has changed."""
        if self._held_anew(None, bool(job.get("paused"))):
            print_message(f"the job is paused; 'echelon resume {job['job_id'][:8]}' lets it go on")
        for stage in job["stages"]:
            state, number, now = stage["state"], count_done(stage), time.monotonic()
            pace = self._pace.describe_pace(stage)
            known = self._written.get(stage["number"], ("PENDING", 0, 0.0))
            late = number != known[1] and now - known[2] >= _LINE_EVERY
            held = self._held_anew(stage["number"], bool(stage.get("paused")) or needs_person(stage))
            if state != known[0] or late or held or self._waits_anew(stage):
                self._written[stage["number"]] = (state, number, now)
                print_message(_format_line(stage, pace))

    def _waits_anew(self, stage: Stage) -> bool:
        """Tell whether a stage has begun to wait for a worker; a stage that has just started does not count."""
        number = stage["number"]
        if not stage.get("waiting"):
            self._waiting.discard(number)
        elif _is_idle(stage) and number not in self._waiting:
            self._waiting.add(number)
            return True
        return False

    def _held_anew(self, number: int | None, held: bool) -> bool:
        """Tell whether the job or a stage has begun to wait for a person."""
        anew = held and number not in self._held
        (self._held.add if held else self._held.discard)(number)
        return anew

    def print_lines(self, text: str, *, style: str = "") -> None:
        """Write lines to stderr."""
        print_message(text)


def _format_line(stage: Stage, pace: str) -> str:
    head = f"stage {stage['number']} {escape_text(stage['name'])}: {format_stage_state(stage)}"
    figures = f"{count_done(stage)} of {format_count(stage['total'], 'task')}" if stage["total"] is not None else ""
    details = "; ".join(filter(None, (figures, _describe_progress(stage, pace))))
    return f"{head}, {details}" if details else head


class ProgressPicture:
    """Draws all stages, and redraws them in place."""

    def __init__(self, screen: Console) -> None:
        from rich.live import Live

        self._console = screen
        self._job: Job | None = None
        self._pace = Pace()
        self._paces: dict[int, str] = {}
        self._live = Live(
            console=self._console, get_renderable=self.draw_job, refresh_per_second=8, redirect_stdout=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show_job(self, job: Job) -> None:
        """Keep the job for the next drawing."""
        self._job = job
        self._paces = {stage["number"]: self._pace.describe_pace(stage) for stage in job["stages"]}

    def print_lines(self, text: str, *, style: str = "") -> None:
        """Write lines above the drawing."""
        from rich.text import Text

        self._console.print(Text(wrap_lines(text, self._console.width), style=style), soft_wrap=True)

    def draw_job(self) -> RenderableType:
        """Return the drawing of the job as it is now: no wider and no higher than the screen."""
        from rich.text import Text

        if self._job is None:
            return Text("")
        width, room = self._console.width, max(5, self._console.height - 2)
        number = room
        while len(lines := _draw_lines(self._job, number, width, self._paces)) > room and number > 1:
            number -= 1
        return Text("\n").join(Text.assemble(*line) for line in lines)


def _draw_lines(job: Job, number: int, width: int, paces: Mapping[int, str]) -> list[Line]:
    """Return a head and the lines of at most `number` stages, those around the first open one."""
    stages, above, below = _choose_stages(job["stages"], number)
    state, took = format_job_state(job), format_elapsed(job["started_at"] or job["created_at"], job["ended_at"])
    name = cut_text(escape_text(job["type"]), max(LEAST_WORDS, width - len(state) - len(took) - 14))
    lines: list[Line] = [
        [(name, "bold"), (f"  {job['job_id'][:8]}  ", ""), (state, style_state(state)), (f"  {took}", "")]
    ]
    if above:
        lines.append([(f"  {format_count(above, 'stage')} before these", "dim")])
    lines += fit_cells(
        _COLUMNS, [_draw_stage(stage, paces.get(stage["number"], "")) for stage in stages], width, head=False
    ).lines
    if below:
        lines.append([(f"  {format_count(below, 'stage')} after these", "dim")])
    return lines


#: Of the picture; its cells are drawn by `_draw_stage`.
_COLUMNS: Final[tuple[Column[Stage], ...]] = (
    Column("MARK", str),
    Column("STAGE", str, least=12),
    Column("STATE", str),
    Column("BAR", str, spare=2),
    Column("DONE", str, right=True),
    Column("REMARKS", str, note=True),
    Column("TOOK", str, right=True, spare=1),
)


def _draw_stage(stage: Stage, pace: str) -> list[Cell]:
    state, total, number = stage["state"], stage["total"], count_done(stage)
    style, failed = style_state(format_stage_state(stage)), stage["counts"].get("FAILED", 0)
    mark = "!" if failed and state == "COMPLETED" else _MARKS.get(state, "○")
    colour = "red" if failed and state not in _DONE else style or "cyan"
    return [
        Cell(f" {mark}", style),
        Cell(f"{stage['number']} {escape_text(stage['name'])}"),
        Cell(format_stage_state(stage), style),
        Cell(_draw_bar(stage), colour),
        Cell(f"{number}/{total}" if total is not None else "", "" if state != "PENDING" else "dim"),
        Cell(
            _describe_progress(stage, pace),
            "red" if failed else "dim",
        ),
        Cell(format_elapsed(stage["started_at"], stage["ended_at"]), "dim"),
    ]


def _draw_bar(stage: Stage) -> str:
    """Return how much of a stage is done, as a line; nothing for a stage that has not begun."""
    if stage["state"] == "PENDING":
        return ""
    if stage["total"]:
        filled = _BAR * count_done(stage) // stage["total"]
    else:
        filled = _BAR if stage["state"] in ("COMPLETED", "SKIPPED") else 0
    return "━" * filled + "┄" * (_BAR - filled)


def _choose_stages(stages: list[Stage], room: int) -> tuple[list[Stage], int, int]:
    """Return the stages around the first open one that fit, and how many lie before and after them."""
    if len(stages) <= room:
        return stages, 0, 0
    at = next((index for index, stage in enumerate(stages) if stage["state"] not in _DONE), len(stages) - 1)
    first = min(max(0, at - room // 3), len(stages) - room)
    return stages[first : first + room], first, len(stages) - room - first
