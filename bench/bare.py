"""The work itself: start one process with its output in two fresh files, and wait for it.

What the limit does and nothing else, and what every other engine's tasks do. Runs in environments of other engines too:
the standard library alone. As a program (`python -m bench.bare FOLDER`) it reads a count per line from stdin, does that
many and answers with a line.
"""

from __future__ import annotations

import os
import sys
import time

TRUE = ("/bin/true",)
#: Prints the wall clock in nanoseconds as soon as it runs.
CLOCK = ("/bin/date", "+%s%N")

_FRESH = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_ENVIRON = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def run(command: tuple[str, ...], place: str) -> None:
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
    """Return what a process that ran `CLOCK` at this place has read, in seconds since the epoch."""
    with open(f"{place}.out", encoding="ascii") as file:
        return int(file.read()) / 1e9


def own_latency(place: str) -> float:
    """Return the seconds from the start of a bare process until it reads the clock: nobody can be faster."""
    begun = time.time()
    run(CLOCK, place)
    return read_clock(place) - begun


def main() -> None:
    """Serve the limit: one line in, so many processes, one line out."""
    folder = sys.argv[1]
    done = 0
    for line in sys.stdin:
        for _ in range(int(line)):
            run(TRUE, f"{folder}/{done}")
            done += 1
        print(done, flush=True)


if __name__ == "__main__":
    main()
