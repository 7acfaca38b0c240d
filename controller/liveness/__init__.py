"""Leases, outages and clocks, as a controller sees them.

A controller may start a task's next attempt only when the last one has ended. If a worker falls silent, its lease tells
when that is: the worker ends the attempt before the lease ends. Each failure, and the mechanism against it:

* *A worker dies, or is cut off alone.* Its leases end by the store's clock; the watchdog of the engine
  (`engine/upkeep/watchdog.py`) finds them, and `expired` judges each attempt.
* *An order never arrives.* The worker lives and has written down no start of the attempt: it counts as interrupted, not
  as lost (`expired`).
* *Broker or store were away, or this process was stopped.* No worker could renew, so a lease that ended proves nothing:
  `hearing` makes the watchdog wait until workers have had the time to come back, and makes leases longer meanwhile.
* *The store's clock is set.* A lease may then seem to have ended, or to last for hours: `store_clock` makes the
  watchdog wait for a lease, and shortens leases that reach too far.
* *Broker, store or all controllers are away for hours.* Workers must not end tasks that no controller can take away:
  `status` keeps a file on the volume that says whether this controller could; `echelon.worker.liveness` reads it.
* *A person ends an attempt while its worker cannot be told.* A stop file on the volume says so
  (`shared/volume/stops.py`).

Every length of time, with the inequalities between them: `echelon.shared.lease`. The worker's half of each mechanism:
`echelon.worker.liveness`.
"""
