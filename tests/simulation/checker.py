"""The promises to users, each as a function from a history to what breaks it. Pure.

It reads records alone (`history`), so that a run of real processes can be judged by the same words. I9 and I10 need
real processes and a real interface; they are not judged here.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation import rules_jobs, rules_tasks, rules_turns
from tests.simulation.history import History
from tests.simulation.index import Complaints, Index

RULES: dict[str, Callable[[Index], Complaints]] = {
    "I1 accepted survives": rules_jobs.accepted_survives,
    "I2 counted once": rules_tasks.counted_once,
    "I2 stage totals": rules_jobs.stage_totals,
    "I3 stage order": rules_jobs.stage_order,
    "I4 terminal is final": rules_jobs.terminal_is_final,
    "I5 cancel is final": rules_jobs.cancel_is_final,
    "I6 single owner": rules_tasks.single_owner,
    "I6 never beside": rules_tasks.never_beside,
    "I7 fan-out exact": rules_tasks.fan_out_exact,
    "I8 outputs": rules_tasks.outputs,
    "files in time": rules_tasks.files_in_time,
    "I11 idempotent submit": rules_jobs.idempotent_submit,
    "I12 snapshot": rules_jobs.snapshot,
    "budgets": rules_tasks.budgets,
    "suspects alone": rules_tasks.suspects_alone,
    "max_parallel": rules_tasks.max_parallel,
    "prompt": rules_tasks.prompt,
    "numbered": rules_tasks.numbered,
    "within slots": rules_tasks.within_slots,
    "claimed in turns": rules_turns.claimed_in_turns,
    "started in turns": rules_turns.started_in_turns,
}


def check(history: History) -> list[str]:
    """Return what breaks the promises, each with the name of its rule."""
    index = Index(history)
    return [f"{name}: {complaint}" for name, rule in RULES.items() for complaint in rule(index)]
