"""A worker to be killed: it runs one task that leaves a daemon behind, whose number it writes into the workspace."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.broker.port import Outgoing
from echelon.shared.clock import SystemClock
from echelon.shared.ids import JobId, new_task_ids
from echelon.shared.messages import ANY_QUEUE, REPORTS, Grant, GrantedTask, Orders, Recipe, orders_queue
from echelon.shared.volume import Volume
from echelon.worker.serve import build_worker
from echelon.worker.settings import WorkerSettings

DAEMON = "{} setsid sh -c 'echo $$ > pid; exec sleep 600' & sleep 600"


def main(state_dir: str, volume: str, job: str, wrapper: str = "") -> None:
    broker = MemoryBroker()
    broker.subscribe([REPORTS], prefetch=100)
    settings = WorkerSettings(state_dir=Path(state_dir), name="w", slots={ANY_QUEUE: 1})
    worker = build_worker(
        settings, broker=broker, volume=Volume.open(volume), clock=SystemClock(), environ={"PATH": "/usr/bin:/bin"}
    )
    print(worker.id, flush=True)
    worker.start()
    recipe = Recipe(task_class="t", exec_command="sh", exec_args=("-c", DAEMON.format(wrapper)))
    tasks = (GrantedTask(new_task_ids(1)[0], 1, 0),)
    grant = Grant(JobId(job), 0, "Stage", "r1", "default", recipe, {}, {}, tasks)
    broker.publish([Outgoing(orders_queue(worker.id), Orders(worker.id, 1, 1, 15.0, (grant,)))])
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
