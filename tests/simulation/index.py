"""A history with its rows at hand, for the rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.history import Entry, History, Row, Run

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"})

Complaints = Iterator[str]


@dataclass
class Index:
    """A history with its rows at hand."""

    history: History
    jobs: dict[object, Row] = field(default_factory=dict)
    stages: dict[object, Row] = field(default_factory=dict)
    tasks: dict[object, Row] = field(default_factory=dict)
    task_by_id: dict[object, Row] = field(default_factory=dict)
    attempts: dict[object, list[Row]] = field(default_factory=lambda: defaultdict(list))
    events: dict[object, list[Row]] = field(default_factory=lambda: defaultdict(list))
    #: (task id, attempt) -> its processes.
    runs: dict[tuple[str, int], list[Run]] = field(default_factory=lambda: defaultdict(list))
    #: Key of a task -> its lines of the diary.
    diary: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        history = self.history
        self.jobs = {row["key"]: row for row in history.jobs}
        self.stages = {row["key"]: row for row in history.stages}
        self.tasks = {row["key"]: row for row in history.tasks}
        self.task_by_id = {row["task_id"]: row for row in history.tasks}
        for row in sorted(history.attempts, key=lambda row: (row["job"], row["number"])):
            self.attempts[row["task"]].append(row)
        for row in sorted(history.events, key=lambda row: (row["job"], row["number"])):
            self.events[row["job"]].append(row)
        for run in history.ledger:
            self.runs[run.task_id, run.attempt].append(run)
        for entry in history.diary:
            if entry.kind == "task":
                self.diary[entry.key].append(entry)

    def job_of(self, task: Row) -> Row:
        """Return a task's job."""
        return self.jobs[self.stages[task["stage"]]["job"]]

    def stage_name(self, stage: Row) -> str:
        """Return a stage as complaints name it."""
        return f"stage {stage['number']} of job {self.jobs[stage['job']]['job_id']}"

    def name(self, task: Row) -> str:
        """Return a task as complaints name it."""
        return f"task {task['idx']} of {self.stage_name(self.stages[task['stage']])}"

    def leases(self, task: Row) -> dict[int, tuple[float, float]]:
        """Return attempt -> (claimed at, latest moment to which its lease was ever extended)."""
        found: dict[int, tuple[float, float]] = {}
        for entry in self.diary[task["key"]]:
            if entry.after == "RUNNING" and entry.attempt is not None and entry.lease_until is not None:
                begun, until = found.get(entry.attempt, (entry.at, entry.lease_until))
                found[entry.attempt] = begun, max(until, entry.lease_until)
        return found
