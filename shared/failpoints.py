"""Failpoints: named steps at which tests make a process fail. Without the variable they do nothing.

The environment variable ECHELON_FAILPOINTS arms them once, at the start of a process: `name:action[:n]`, separated by
commas. The action happens when the step is reached for the n-th time (default 1), once for the process and all that it
forks: `kill` (SIGKILL to this process), `stop` (SIGSTOP to it), `sleep=SECONDS`, `raise` (FailpointReached, which
stands for a bug at this step).
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import signal
import struct
import threading
import time
from collections.abc import Mapping
from typing import Final

from echelon.shared.errors import InvalidInput

log = logging.getLogger(__name__)

VARIABLE: Final = "ECHELON_FAILPOINTS"

#: Every step, and the state in which it is reached.
FAILPOINTS: Final[Mapping[str, str]] = {
    # Controller: requests of users.
    "submit.before_insert": "A submitted job is about to be written.",
    "submit.after_insert": "A job has been written; its transaction is open.",
    "submit.after_commit": "A job has been committed; the client has not been answered.",
    "cancel.before_commit": "A cancel has been written; its transaction is open.",
    "cancel.after_commit": "A cancel has been committed; neither client nor workers know.",
    "retry.before_commit": "A job has been opened again; the transaction is open.",
    "retry.after_commit": "A job has been opened again and that is committed; neither client nor workers know.",
    "delete.before_commit": "A job's rows have been removed; the transaction is open.",
    "delete.after_commit": "A job's rows are gone; its folder is still there.",
    # Controller: one turn of the engine.
    "settle.before_commit": "The ends of attempts and their effects are written; the transaction is open.",
    "settle.after_commit": "The ends of attempts are committed; their reports have not been acknowledged.",
    "claim.before_commit": "Tasks have been claimed for a worker; the transaction is open.",
    "claim.after_commit": "Tasks have been claimed and that is committed; no order has been published.",
    "orders.before_publish": "An order is about to be published.",
    "orders.after_publish": "An order has been published; the reports that it answers have not been acknowledged.",
    "reports.after_ack": "Reports have been settled, answered and acknowledged.",
    "files.before_publish": "Attempts count, that is committed; their private files are not in the workspace yet.",
    "files.after_publish": "The private files of attempts that count are in the workspace; the store does not say so.",
    "expand.before_insert": "A chunk of spawned items is about to become tasks.",
    "expand.before_commit": "A chunk of spawned items has become tasks; the transaction is open.",
    "expand.after_commit": "A chunk of spawned items has become tasks; the next one has not.",
    "expire.before_commit": "Attempts whose leases ran out are written off; the transaction is open.",
    "expire.after_commit": "Attempts whose leases ran out are written off and that is committed.",
    "due.before_commit": "Tasks whose retry is due have been queued again; the transaction is open.",
    "due.after_commit": "Tasks whose retry is due have been queued again and that is committed.",
    # Both: the volume.
    "volume.before_marker": "A new volume has its folders and no marker.",
    "volume.after_marker": "A new volume has its marker.",
    "key.before_write": "A volume's key has been generated and not written.",
    "key.after_write": "A volume's key has been written and not used.",
    "durable.before_rename": "A file of the engine is complete under a temporary name.",
    # Worker: its incarnation.
    "life.after_lock": "A worker holds its lock; the lock file does not name this incarnation.",
    "life.after_write": "A worker's lock file names this incarnation; processes of earlier ones have not been killed.",
    "life.before_buried": "The broker has the report of dead incarnations; the lock file still names them.",
    "heartbeat.before_publish": "A heartbeat is about to be published.",
    "heartbeat.after_publish": "A heartbeat has been published.",
    "drain.begun": "A worker has been told to drain and has not started to.",
    "goodbye.before_publish": "A worker is about to publish its last report.",
    "goodbye.after_publish": "A worker's last report has been published.",
    # Worker: attempts.
    "orders.before_ack": "Granted attempts are held; the order has not been acknowledged.",
    "orders.after_ack": "Granted attempts are held; none has been started.",
    "release.before_publish": "Attempts are about to be handed back.",
    "exec.before_spawn": "An attempt has its folder and no process.",
    "exec.after_spawn": "An attempt's process runs; the executor does not watch it yet.",
    "exec.mid": "An attempt runs.",
    "exec.after_exit": "An attempt's main process has ended; nothing has been collected.",
    "spawn.before_write": "The items of a spawn task are about to be checked and written.",
    "spawn.after_write": "The items of a spawn task are on the volume and not reported.",
    "result.before_publish": "The ends of attempts are about to be published.",
    "result.after_publish": "The ends of attempts have been published.",
    "result.after_confirm": "The broker has confirmed the ends of attempts.",
}

_FORM: Final = re.compile(r"([a-z.0-9_]+):(kill|stop|raise|sleep=\d+(?:\.\d+)?)(?::([1-9]\d{0,8}))?")
_HITS: Final = struct.Struct("=Q")


class FailpointReached(Exception):
    """A failpoint raised on purpose."""


class _Armed:
    """The armed failpoints of a process and of all that it forks, with one count of hits."""

    def __init__(self, actions: Mapping[str, tuple[str, int]]) -> None:
        self._actions = actions
        self._place = {name: place * _HITS.size for place, name in enumerate(actions)}
        # Shared with children: a failpoint that kills one child must not kill the next one too.
        self._hits = mmap.mmap(-1, max(1, len(actions)) * _HITS.size)
        self._lock = threading.Lock()

    def count_hit(self, name: str) -> None:
        """Count a hit, and do the action if this is the n-th one."""
        found = self._actions.get(name)
        if found is None:
            return
        action, wanted = found
        with self._lock:
            hits = _HITS.unpack_from(self._hits, self._place[name])[0] + 1
            _HITS.pack_into(self._hits, self._place[name], hits)
            if hits != wanted:
                return
            log.warning("failpoint %s reached in process %d: %s", name, os.getpid(), action)
            if action == "kill":
                # Under the lock: a process must not die between its count and its log message.
                _do_action(name, action)
        _do_action(name, action)


_armed: _Armed | None = None


def failpoint(name: str) -> None:
    """Fail here if this failpoint is armed."""
    if _armed is not None:
        _armed.count_hit(name)


def arm_failpoints(environ: Mapping[str, str]) -> None:
    """Arm the failpoints in the environment variable; raise InvalidInput if it is not valid."""
    global _armed
    asked = environ.get(VARIABLE, "")
    if not asked:
        return
    _armed = _Armed(_parse_failpoints(asked))
    log.warning("%s is set, this process fails on purpose: %s", VARIABLE, asked)


def _parse_failpoints(asked: str) -> dict[str, tuple[str, int]]:
    actions: dict[str, tuple[str, int]] = {}
    for part in asked.split(","):
        found = _FORM.fullmatch(part.strip())
        if found is None:
            possible = "kill, stop, raise or sleep=SECONDS"
            raise InvalidInput(f"{VARIABLE}: {part.strip()!r} is not NAME:ACTION[:N], with {possible} as ACTION")
        name, action, hit = found.groups()
        if name not in FAILPOINTS:
            raise InvalidInput(f"{VARIABLE}: there is no failpoint {name!r}; there are: {', '.join(FAILPOINTS)}")
        actions[name] = action, int(hit or 1)
    return actions


def _do_action(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        # Sent to this thread: if sent to the process, another thread may get it and this one goes on.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    elif action == "raise":
        raise FailpointReached(name)
    else:
        time.sleep(float(action.partition("=")[2]))
