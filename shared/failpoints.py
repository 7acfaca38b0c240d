"""Named steps at which a process may be made to fail, for tests of what then happens; nothing where nobody asks for it.

Armed only by the environment variable ECHELON_FAILPOINTS, once, at the start of a process: `name:action[:n]`, several
with commas in between. The action is done at the n-th time that the step is reached (the first, if nothing is said),
once for the process and all that it forks: `kill` (SIGKILL to this process), `stop` (SIGSTOP to it), `sleep=SECONDS`,
`raise` (a FailpointReached, which counts as a mistake in that place).
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

#: Every step, and when it is reached.
FAILPOINTS: Final[Mapping[str, str]] = {
    # Controller: what people ask for.
    "submit.before_insert": "A job that was asked for is about to be written.",
    "submit.after_insert": "A job has been written; its transaction is open.",
    "submit.after_commit": "A job has been committed; the client has not been answered.",
    "cancel.before_commit": "A cancel has been written; its transaction is open.",
    "cancel.after_commit": "A cancel has been committed; neither client nor workers know.",
    "retry.before_commit": "A job has been opened again; the transaction is open.",
    "retry.after_commit": "A job has been opened again and that is committed; nobody knows.",
    "delete.before_commit": "A job's rows have been removed; the transaction is open.",
    "delete.after_commit": "A job's rows are gone; its folder is still there.",
    # Controller: one turn of the engine.
    "settle.before_commit": "The ends of attempts and what follows are written; the transaction is open.",
    "settle.after_commit": "The ends of attempts are committed; their reports have not been taken off the broker.",
    "claim.before_commit": "Tasks have been claimed for a worker; the transaction is open.",
    "claim.after_commit": "Tasks have been claimed and that is committed; no order says so.",
    "orders.before_publish": "An order is about to be handed to the broker.",
    "orders.after_publish": "An order is on its way; the reports that it answers have not been taken off the broker.",
    "reports.after_ack": "Reports have been settled, answered and taken off the broker.",
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
    "key.before_write": "A volume's key has been thought of and not written.",
    "key.after_write": "A volume's key has been written and not been used.",
    "durable.before_rename": "A file of the engine is complete under a temporary name.",
    # Worker: its life.
    "life.after_lock": "A worker has its name; its lock file does not name this life.",
    "life.after_write": "A worker's lock file names this life; what earlier lives left has not been ended.",
    "life.before_buried": "The broker knows that earlier lives are dead; the lock file still names them.",
    "heartbeat.before_publish": "A sign of life is about to be handed to the broker.",
    "heartbeat.after_publish": "A sign of life is on its way.",
    "drain.begun": "A worker has been told to end and has not acted on it.",
    "goodbye.before_publish": "A worker is about to say its last word.",
    "goodbye.after_publish": "A worker's last word is on its way.",
    # Worker: attempts.
    "orders.before_ack": "Granted attempts are held; the order has not been taken off the broker.",
    "orders.after_ack": "Granted attempts are held; none has been started.",
    "release.before_publish": "Attempts are about to be handed back.",
    "exec.before_spawn": "An attempt's folder is there; its process is not.",
    "exec.after_spawn": "An attempt's process runs; nothing waits for its end.",
    "exec.mid": "An attempt runs.",
    "exec.after_exit": "An attempt's main process has ended; nothing has been collected.",
    "spawn.before_write": "The items of a spawn task are about to be checked and laid down.",
    "spawn.after_write": "The items of a spawn task lie on the volume; nobody has been told.",
    "result.before_publish": "The ends of attempts are about to be handed to the broker.",
    "result.after_publish": "The ends of attempts are on their way.",
    "result.after_confirm": "The broker has the ends of attempts.",
}

_FORM: Final = re.compile(r"([a-z.0-9_]+):(kill|stop|raise|sleep=\d+(?:\.\d+)?)(?::([1-9]\d{0,8}))?")
_HITS: Final = struct.Struct("=Q")


class FailpointReached(Exception):
    """A failpoint was armed to raise."""


class _Armed:
    """The armed failpoints of a process and of all that it forks: they count their hits together."""

    def __init__(self, actions: Mapping[str, tuple[str, int]]) -> None:
        self._actions = actions
        self._place = {name: place * _HITS.size for place, name in enumerate(actions)}
        # Shared with children: what kills a child must not kill the next one too.
        self._hits = mmap.mmap(-1, max(1, len(actions)) * _HITS.size)
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Count, and act when it is time."""
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
                # Under the lock: nobody dies in between who has counted and has not told.
                _act(name, action)
        _act(name, action)


_armed: _Armed | None = None


def failpoint(name: str) -> None:
    """Fail here if that has been asked for."""
    if _armed is not None:
        _armed.reach(name)


def arm(environ: Mapping[str, str]) -> None:
    """Arm what the environment asks for; raise InvalidInput for what cannot be understood."""
    global _armed
    asked = environ.get(VARIABLE, "")
    if not asked:
        return
    _armed = _Armed(_parsed(asked))
    log.warning("%s is set, this process fails on purpose: %s", VARIABLE, asked)


def _parsed(asked: str) -> dict[str, tuple[str, int]]:
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


def _act(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        # To this thread: sent to the process, another thread may hear of it while this one goes on.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    elif action == "raise":
        raise FailpointReached(name)
    else:
        time.sleep(float(action.partition("=")[2]))
