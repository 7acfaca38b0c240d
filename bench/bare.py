"""The work itself: start one process with its output in two new files, and wait for it.

The limit does only this; tasks of the other engines do the same. It also runs in the other engines' environments, so it
imports only the standard library. As a program (`python -m bench.bare FOLDER`) it reads a count per line from stdin,
runs that many processes and answers with a line.
"""

from __future__ import annotations

import os
import sys
import time

TRUE = ("/bin/true",)
#: Prints the wall clock in nanoseconds at once.
CLOCK = ("/bin/date", "+%s%N")

_FRESH = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_ENVIRON = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def run_process(command: tuple[str, ...], place: str) -> None:
    """Run a command with its output in `place`.out and `place`.err; an exit code other than 0 is an error."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 1, f"{place}.out", _FRESH, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, f"{place}.err", _FRESH, 0o644),
    ]
    pid = os.posix_spawn(command[0], command, _ENVIRON, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"{command[0]} ended with status {status}")


def read_clock(place: str) -> float:
    """Return the time that a process running `CLOCK` at this place has read, in seconds since the epoch."""
    with open(f"{place}.out", encoding="ascii") as file:
        return int(file.read()) / 1e9


def measure_own_latency(place: str) -> float:
    """Return the seconds from the start of a bare process until it reads the clock: the lower bound."""
    begun = time.time()
    run_process(CLOCK, place)
    return read_clock(place) - begun


def main() -> None:
    """Serve the limit: read a count, run as many processes, write a line."""
    folder = sys.argv[1]
    done = 0
    for line in sys.stdin:
        for _ in range(int(line)):
            run_process(TRUE, f"{folder}/{done}")
            done += 1
        print(done, flush=True)


if __name__ == "__main__":
    main()
