"""The client of another engine: `python -m bench.peers.drive NAME` reads one job per line from stdin and answers with
its seconds."""

from __future__ import annotations

import importlib
import sys

from bench.peers import stages


def main() -> None:
    """Serve until stdin ends."""
    send: stages.Send = importlib.import_module(f"bench.peers.{sys.argv[1]}_app").send_tasks
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        what, count = line.split()
        job = f"job{number}"
        if what == "clock":
            seconds = stages.measure_latency(send, job)
        else:
            seconds = stages.time_job(send, (what, job, 0, int(count)))
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
