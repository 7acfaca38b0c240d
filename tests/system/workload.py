"""Jobs with known answers: a catalogue made from a seed, the task that its classes run, and what has to come of a job.

Every task says in a ledger outside the engine when it starts and ends, one line each, appended by one write.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

#: Additional attempts of a class.
RETRIES = {"flaky": 3}
#: $1 behaviour, $2 edition of the catalogue, $3 item or number of items.
_TASK = r"""#!/bin/bash
say() {
    printf '%s %s %s %s %s %s %s %s %s %s %s %s\n' "$1" "$EPOCHREALTIME" "$ECHELON_JOB_ID" "$ECHELON_TASK_ID" \
        "$ECHELON_STAGE" "$ECHELON_INDEX" "$ECHELON_CLAIM" "$ECHELON_ATTEMPT" "$$" "$edition" \
        "${TMPDIR##*/}" "${2:-0}" >> '@LEDGER@'
}
behaviour=$1 edition=$2
say start
case $behaviour in
    short) sleep 0.$((RANDOM % 5)) ;;
    long) sleep @LONG@ ;;
    stubborn) trap '' TERM; sleep 1; sleep 1; sleep 1 ;;
    daemon) setsid sleep 1000 < /dev/null > /dev/null 2>&1 & ;;
    flaky) sleep 0.1; [ "$ECHELON_ATTEMPT" -gt 1 ] || exit 7 ;;
    doomed) exit 3 ;;
    private)
        echo "$ECHELON_CLAIM begun" > "$ECHELON_TASK_ID"
        sleep 0.2
        printf '%s done' "$ECHELON_CLAIM" > "$ECHELON_TASK_ID" ;;
    list)
        for ((i = 0; i < $3; i++)); do items+="${items:+,}{\"item\": \"$ECHELON_CLAIM.$i\"}"; done
        printf '[%s]' "$items" > "$ECHELON_SPAWN_FILE" ;;
esac
printf '%s' "$ECHELON_TASK_ID/$ECHELON_CLAIM/${TMPDIR##*/}" > "$ECHELON_OUTPUT"
say end "$3"
"""
_BEHAVIOURS = ("quick", "short", "long", "stubborn", "daemon", "flaky", "doomed", "private")
_WEIGHTS = (8, 4, 2, 1, 1, 2, 1, 3)
#: Behaviours that hold a slot for seconds are not fanned out widely.
_HEAVY = frozenset({"long", "stubborn"})


@dataclass(frozen=True, slots=True)
class Plan:
    """A job type and what it is to come to."""

    type: str
    #: Whether some stage fans out widely, narrowly.
    wide: bool
    outcome: str


class Workload:
    """The job types of one seed."""

    def __init__(self, seed: int, folder: Path, *, types: int = 16, long: float = 8.0) -> None:
        self._rng = random.Random(f"{seed} workload")
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self._script = folder / "task"
        self._script.write_text(_TASK.replace("@LEDGER@", str(self.ledger)).replace("@LONG@", f"{long:g}"))
        self._jobs: dict[str, Any] = {}
        self.plans = [self._make_plan(f"job{number}") for number in range(types)]

    def catalogue(self, edition: int) -> str:
        """Return the catalogue's text; editions differ in an argument of every task."""
        return yaml.safe_dump(
            {"tasks": {name: self._make_task(name, edition) for name in (*_BEHAVIOURS, "list")}, "jobs": self._jobs}
        )

    def _make_task(self, name: str, edition: int) -> dict[str, object]:
        task: dict[str, object] = {
            "input": {
                "item": {"source": "parameter", "default": ""},
                "token": {"source": "parameter", "default": "", "secret": True},
            },
            "exec_command": "/bin/bash",
            "exec_args": [str(self._script), name, f"edition-{edition}", "{item}"],
            "grace": "1s",
        }
        if name == "list":
            task["input"] = {"count": {"source": "parameter", "type": "integer"}}
            task["exec_args"] = [str(self._script), name, f"edition-{edition}", "{count}"]
        if name in RETRIES:
            task["retry"] = {"limit": RETRIES[name], "delay": "200ms"}
        if name == "private":
            task["workdir"] = "task"
        return task

    def _make_plan(self, name: str) -> Plan:
        stages = [self._make_stage(number) for number in range(self._rng.choice((1, 1, 2, 2, 3, 4)))]
        self._jobs[name] = {
            "input": {
                "count": {"source": "parameter", "type": "integer", "default": 0},
                "token": {"source": "http-header", "key": "X-Token", "secret": True, "default": "none"},
            },
            "stages": stages,
        }
        fatal = any(stage["task_class"] == "doomed" and stage["job_failed_on_error"] for stage in stages)
        wide = any("spawn_task" in stage for stage in stages) and not any(
            stage["task_class"] in _HEAVY and "spawn_task" in stage for stage in stages
        )
        return Plan(name, wide, "FAILED" if fatal else "COMPLETED")

    def _make_stage(self, number: int) -> dict[str, Any]:
        kind = self._rng.choices(_BEHAVIOURS, _WEIGHTS)[0]
        stage: dict[str, Any] = {
            "name": str(number),
            "task_class": kind,
            "job_failed_on_error": self._rng.random() < 0.5,
        }
        if kind == "doomed":
            # One task alone, so that its failure does not depend on the number of items.
            return stage
        if self._rng.random() < 0.7:
            stage["spawn_task"] = "list"
        if self._rng.random() < 0.2:
            stage["max_parallel"] = 3
        return stage
