"""How a job moves, shown on stderr: a picture that renews itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from echelon.controller.commands.screen import (
    STATE_STYLES,
    age,
    console,
    counted,
    is_terminal,
    lasted,
    safe,
    words,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from echelon.controller.client.answers import Job, Stage

#: Seconds between two plain lines about a stage that goes on.
_LINE_EVERY: Final = 5.0
_WONDER_AFTER: Final = 2.0
_MARKS: Final = {"COMPLETED": "✓", "FAILED": "✗", "CANCELLED": "■", "SKIPPED": "»", "RUNNING": "●"}
_DONE: Final = ("COMPLETED", "FAILED", "CANCELLED", "SKIPPED")


class Progress(Protocol):
    """Shows a job while it is watched."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def show(self, job: Job) -> None:
        """Show how the job stands now."""

    def tell(self, text: str, *, style: str = "") -> None:
        """Write lines for people that stay."""


def progress() -> Progress:
    """Return what fits the stderr that we have."""
    if not is_terminal(sys.stderr):
        return Lines()
    screen = console(sys.stderr)
    return Lines() if screen.is_dumb_terminal else Picture(screen)


def done(stage: Stage) -> int:
    """Return how many of a stage's tasks have ended by themselves or were skipped."""
    return sum(stage["counts"].get(state, 0) for state in ("COMPLETED", "FAILED", "SKIPPED"))


def remarks(stage: Stage) -> str:
    """Return what is worth saying about a stage beside its figures."""
    said = [
        f"{stage['counts'].get(state, 0)} {state.lower()}"
        for state in ("RUNNING", "FAILED", "CANCELLED", "SKIPPED")
        if stage["counts"].get(state, 0)
    ]
    if stage["spawn_state"] in ("PENDING", "QUEUED", "RUNNING") and stage["state"] == "RUNNING":
        said.insert(0, "waits for its spawn task" if stage["spawn_state"] != "RUNNING" else "spawns")
    if stage["spawn_state"] == "FAILED":
        said.insert(0, "spawn task failed")
    queued = stage["counts"].get("QUEUED", 0)
    if stage.get("source") == "open" and stage["state"] == "PENDING":
        said.append("open for tasks")
    if pending := held_back(stage):
        said.append(f"{pending} held back")
    if waits_for_a_person(stage):
        said.append("waits for a person")
    # A controller of an earlier release does not tell.
    if stage.get("paused"):
        said.insert(0, "paused")
    elif stage.get("waiting"):
        said.append(safe(stage["waiting"]))
    elif _idle(stage) and queued and not stage["counts"].get("RUNNING", 0):
        said.append(f"{queued} waiting in queue {safe(stage['queue'])}")
    return ", ".join(said)


def waits_for_a_person(stage: Stage) -> bool:
    """Tell whether a stage with `on_error: block` has done all that it can without a retry or a skip."""
    counts = stage["counts"]
    wrong = counts.get("FAILED", 0) + counts.get("CANCELLED", 0) or stage["spawn_state"] in ("FAILED", "CANCELLED")
    left = sum(counts.get(state, 0) for state in ("PENDING", "QUEUED", "RUNNING"))
    return stage["state"] == "RUNNING" and stage.get("on_error") == "block" and bool(wrong) and not left


def held_back(stage: Stage) -> int:
    """Return how many tasks are paused, or wait for the time of their retry, while nothing else of a stage goes on."""
    counts = stage["counts"]
    goes_on = counts.get("QUEUED", 0) or counts.get("RUNNING", 0) or stage["spawn_state"] in ("QUEUED", "RUNNING")
    return 0 if goes_on or stage["state"] != "RUNNING" else counts.get("PENDING", 0)


def _idle(stage: Stage) -> bool:
    """Tell whether a stage has been open for long enough to wonder why nothing of it runs."""
    return stage["state"] == "RUNNING" and bool(stage["started_at"]) and age(stage["started_at"] or "") > _WONDER_AFTER


class Lines:
    """Writes a line when a stage begins, ends or has gone on for a while."""

    def __init__(self) -> None:
        #: What was said last of each stage: state, tasks done, when.
        self._said: dict[int, tuple[str, int, float]] = {}
        #: Stages of which it was said that they wait for a worker.
        self._waiting: set[int] = set()
        #: What people hold up: the job (None) and stages (their numbers).
        self._held: set[int | None] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave nothing behind."""

    def show(self, job: Job) -> None:
        """Write what is new."""
        if self._held_anew(None, bool(job.get("paused"))):
            words(f"the job is paused; 'echelon resume {job['job_id'][:8]}' lets it go on")
        for stage in job["stages"]:
            state, number, now = stage["state"], done(stage), time.monotonic()
            known = self._said.get(stage["number"], ("PENDING", 0, 0.0))
            late = number != known[1] and now - known[2] >= _LINE_EVERY
            held = self._held_anew(stage["number"], bool(stage.get("paused")) or waits_for_a_person(stage))
            if state != known[0] or late or held or self._waits_anew(stage):
                self._said[stage["number"]] = (state, number, now)
                words(_line(stage))

    def _waits_anew(self, stage: Stage) -> bool:
        """Tell whether a stage has begun to wait for a worker; one that is about to start gets a moment for that."""
        number = stage["number"]
        if not stage.get("waiting"):
            self._waiting.discard(number)
        elif _idle(stage) and number not in self._waiting:
            self._waiting.add(number)
            return True
        return False

    def _held_anew(self, what: int | None, held: bool) -> bool:
        """Tell whether something has begun to wait for a person."""
        anew = held and what not in self._held
        (self._held.add if held else self._held.discard)(what)
        return anew

    def tell(self, text: str, *, style: str = "") -> None:
        """Write lines."""
        words(text)


def _line(stage: Stage) -> str:
    head = f"stage {stage['number']} {safe(stage['name'])}: {stage['state']}"
    figures = f"{done(stage)} of {counted(stage['total'], 'task')}" if stage["total"] is not None else ""
    details = [part for part in (figures, remarks(stage), safe(stage["error"])) if part]
    return f"{head}, {'; '.join(details)}" if details else head


class Picture:
    """Draws all stages and renews the drawing in place."""

    def __init__(self, screen: Console) -> None:
        from rich.live import Live

        self._console = screen
        self._job: Job | None = None
        self._live = Live(console=self._console, get_renderable=self.draw, refresh_per_second=8, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, job: Job) -> None:
        """Take in what the next drawing shows."""
        self._job = job

    def tell(self, text: str, *, style: str = "") -> None:
        """Write lines above the drawing."""
        from rich.text import Text

        self._console.print(Text(text, style=style))

    def draw(self) -> RenderableType:
        """Return the drawing of the moment."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        job = self._job
        if job is None:
            return Text("")
        grid = Table.grid(padding=(0, 2))
        for justify in ("left", "left", "left", "left", "right", "left", "right"):
            grid.add_column(justify=justify, no_wrap=True)
        stages, above, below = _window(job["stages"], max(5, self._console.height - 6))
        for stage in stages:
            grid.add_row(*_row(stage))
        parts: list[RenderableType] = [_head(job)]
        if above:
            parts.append(Text(f"  {counted(above, 'stage')} before these", style="dim"))
        parts.append(grid)
        if below:
            parts.append(Text(f"  {counted(below, 'stage')} after these", style="dim"))
        return Group(*parts)


def _head(job: Job) -> Text:
    from rich.text import Text

    state = (job["state"], STATE_STYLES.get(job["state"], ""))
    took = lasted(job["started_at"] or job["created_at"], job["ended_at"])
    held = (", paused" if job.get("paused") else "", "yellow")
    return Text.assemble((safe(job["type"]), "bold"), f"  {job['job_id'][:8]}  ", state, held, f"  {took}")


def _row(stage: Stage) -> list[RenderableType]:
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    state, total, number = stage["state"], stage["total"], done(stage)
    style = STATE_STYLES.get(state, "")
    bar = ProgressBar(
        total=float(total) if total else 1.0,
        completed=float(number) if total else float(state in ("COMPLETED", "SKIPPED")),
        width=24,
        complete_style="red" if stage["counts"].get("FAILED", 0) else "cyan",
        finished_style=style or "cyan",
    )
    return [
        Text(f" {_MARKS.get(state, '○')}", style=style),
        Text(f"{stage['number']} {safe(stage['name'])}"[:40]),
        Text(state, style=style),
        bar if state != "PENDING" else Text(""),
        Text(f"{number}/{total}" if total is not None else "", style="" if state != "PENDING" else "dim"),
        Text(remarks(stage), style="red" if stage["counts"].get("FAILED", 0) else "dim"),
        Text(lasted(stage["started_at"], stage["ended_at"]), style="dim"),
    ]


def _window(stages: list[Stage], room: int) -> tuple[list[Stage], int, int]:
    """Return the stages around the first open one that fit, and how many lie before and after them."""
    if len(stages) <= room:
        return stages, 0, 0
    at = next((place for place, stage in enumerate(stages) if stage["state"] not in _DONE), len(stages) - 1)
    first = min(max(0, at - room // 3), len(stages) - room)
    return stages[first : first + room], first, len(stages) - room - first
