"""Mechanisms of live control, and how each is taken away, to see that the rules notice."""

from __future__ import annotations

from tests.simulation.ablations import Cut

_CLAIMS = "echelon.controller.datastore.writes_claims:ClaimWrites"
_OPENING = "echelon.controller.engine.control.opening:Opening"
_RETRYING = "echelon.controller.engine.control.retrying"
_TASKS = "echelon.controller.engine.control.task_verbs"
_VERBS = "echelon.controller.datastore.writes_verbs:VerbWrites"

MECHANISMS: dict[str, tuple[Cut, ...]] = {
    "the pause of a stage": (Cut("echelon.controller.core.model:Stage.claimable", " or self.by is not None", ""),),
    "the wait of later stages": (Cut("echelon.controller.core.flow:_block", "stage.order > order", "False"),),
    "the wait for the end of what was killed": (
        Cut("echelon.controller.engine.base.settle:_settlement", "finished.outcome is Outcome.KILLED", "False"),
    ),
    "the lease of what was cancelled": (
        Cut(
            f"{_VERBS}._leave",
            "        if not stopped:\n            return []\n",
            "        if not stopped:\n            return []\n"
            "        self._session._connection.execute('UPDATE tasks SET lease_until = NULL'\n"
            "            \" WHERE state <> 'RUNNING' AND key >= ? AND key < ?\", keys)\n",
        ),
    ),
    "the wait for the end of a last lease": (
        Cut(f"{_CLAIMS}.chores", "(self.now(),) * 3", "(self.now(), self.now(), 1e18)"),
        Cut(f"{_CLAIMS}.due", "now if expire else NEVER", "1e18"),
        Cut("echelon.controller.datastore.writes_tasks:TaskWrites.release_due", "now if expire else NEVER", "1e18"),
    ),
    "the patience with leases that nobody could renew": (
        Cut(
            "echelon.controller.engine.upkeep.watchdog:Watchdog.turn",
            "_release_due(expire=expire)",
            "_release_due(expire=True)",
        ),
    ),
    "the refusal of a retry in vain": (Cut(f"{_TASKS}:refuse_in_vain", "stage is not None", "False"),),
    "the refusal of items that did not fit": (Cut(f"{_TASKS}:_answer", "misfit=one.misfit", "misfit=False"),),
    "the wait of what begins again": (
        Cut("echelon.controller.engine.base.board:Board._carry_out", "in reawakened(effects)", "in ()"),
    ),
    "the shortening of last leases": (Cut(f"{_CLAIMS}.shorten_leases", ", sql.SHORTEN_LAST_LEASES)", ",)"),),
    "the shortening of waits": (Cut(f"{_CLAIMS}.shorten_leases", "(sql.SHORTEN_WAITS, sql.END_IN_TIME)", "()"),),
    "the count of what is paused": (
        Cut(
            "echelon.controller.engine.base.settle:fold",
            "held[task.stage] += task.paused and row.state is State.PENDING",
            "pass",
        ),
    ),
    "the etag of a listed task": (
        Cut(f"{_RETRYING}:Retrying._why_not", "etag is not None and etag != task.etag", "False"),
    ),
    "the etags of jobs, stages and single tasks": (
        Cut(
            "echelon.controller.engine.control.control:check_etag",
            "expected is not None and expected != (found := etag())",
            "False",
        ),
    ),
    "the gaps between listed tasks": (Cut(f"{_RETRYING}:_spans", "spans[-1][1] + 1 == index", "True"),),
    "the states that a choice names": (
        Cut(f"{_TASKS}:TaskVerbs.census", "only=aim.choice.state", "only=None"),
        Cut(f"{_TASKS}:TaskVerbs._pause", "only=aim.choice.state", "only=None"),
        Cut(f"{_TASKS}:TaskVerbs._resume", "only=aim.choice.state", "only=None"),
        Cut(f"{_TASKS}:TaskVerbs._leave", "only=aim.choice.state", "only=None"),
    ),
    "the spans that a choice names": (Cut(f"{_VERBS}._keys", "if spans is None:", "if spans != SPAWN_ONLY:"),),
    "the question for secrets that were erased": (
        Cut(f"{_OPENING}._give_tasks", "board.tx.lost_secrets(job.job_id, limit=_TOLD)", "[]"),
    ),
    "the secrets that a retry brings": (
        Cut(f"{_OPENING}._take_some", "rows.append((one.key, fitting))", "rows.append((one.key, one.input))"),
    ),
}
