"""Observes a run: which processes of tasks live, whether a controller is ready, and the API's answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import requests

from echelon.shared.volume import Volume
from echelon.shared.volume.status_files import StatusReader
from echelon.worker.runtimes import proc
from tests.system.cluster import Cluster, Program

#: Seconds between two looks.
_EVERY = 0.2


@dataclass
class Seen:
    """The observations of a run."""

    #: (task id, attempt, pid) -> when its process was seen alive last.
    alive: dict[tuple[str, int, int], float] = field(default_factory=dict)
    #: When no controller was able to take tasks away.
    unable: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    #: Status -> how often the API answered so.
    answers: dict[str, int] = field(default_factory=dict)


class Observer:
    """Threads that look; entered and left like a file."""

    def __init__(self, cluster: Cluster, ledger: Path, busy: Callable[[str], bool]) -> None:
        self.seen = Seen()
        self._cluster = cluster
        self._ledger = ledger
        self._busy = busy
        self._stop = threading.Event()
        self._read = 0
        self._open: set[tuple[str, int, int]] = set()
        self._reader = StatusReader(Volume.open(cluster.volume), "observer")
        self._threads = [
            threading.Thread(target=self._again_and_again, args=(look,), daemon=True)
            for look in (self._look_at_processes, self._look_at_signs, *(self._make_asker(url) for url in cluster.urls))
        ]

    def __enter__(self) -> Observer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30.0)

    def _again_and_again(self, look: Callable[[], None]) -> None:
        while not self._stop.is_set():
            look()
            self._stop.wait(_EVERY)

    def _look_at_processes(self) -> None:
        self._cluster.note_lives()
        for program in self._cluster.programs:
            self._look_at(program)
        with self._ledger.open() as file:
            file.seek(self._read)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break
                self._read += len(line)
                words = line.split()
                key = words[3], int(words[6]), int(words[7])
                (self._open.add if words[0] == "start" else self._open.discard)(key)
        for key in list(self._open):
            # Before it is looked at: by the time that an answer is there the process may be gone.
            now = time.time()
            ref = proc.attempt_in(proc.environment_of(key[2]))
            if ref is not None and (ref.task_id, ref.attempt) == key[:2]:
                self.seen.alive[key] = now
            else:
                self._open.discard(key)

    def _look_at(self, program: Program) -> None:
        """Complain about a process that ended although no fault has killed it."""
        if not program.running and not self._busy(program.name) and not program.running:
            code = program.wait()
            self.seen.complaints.append(f"I9 no leaks: {program.name} ended by itself ({code}), see {program.log}")
            program.start()

    def _look_at_signs(self) -> None:
        if not self._reader.any_controller_able():
            self.seen.unable.append(time.time())

    def _make_asker(self, url: str) -> Callable[[], None]:
        def ask() -> None:
            try:
                answer = requests.get(f"{url}/api/v1/jobs", params={"limit": "1"}, timeout=10.0)
            except requests.RequestException:
                self._count_answer("none")
                return
            self._count_answer(str(answer.status_code))
            if answer.status_code >= 500 and (answer.status_code != 503 or "Retry-After" not in answer.headers):
                self.seen.complaints.append(f"I10 truthful API: {answer.status_code}: {answer.text[:200]}")

        return ask

    def _count_answer(self, what: str) -> None:
        self.seen.answers[what] = self.seen.answers.get(what, 0) + 1
