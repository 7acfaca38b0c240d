"""The worker's half of liveness: leases, outages and its own death.

A worker may run an attempt only while it holds the lease. The faults, and the mechanism against each:

* *The lease must not end while the task runs.* `heartbeat` names every held attempt to the controllers, from a thread
  of its own: it goes on while the agent's thread hangs in a slow disk. Their answers renew the leases.
* *An answer arrives late.* A lease counts from the moment the report was sent that it answers: `report_log` remembers
  that moment.
* *No renewal arrives, because this worker is cut off or was stopped.* `fence` finds the attempts that must end, early
  enough that their processes are gone before a controller starts the next attempts. The agent checks it in each turn,
  and again before each start and when that has been prepared: this process may be stopped between any two steps.
* *No renewal can arrive, because broker, store or controllers are away.* `fence` reads the controllers' status files on
  the volume: while no controller is able to take the attempts away they go on.
* *This process dies.* The next worker with its name holds its lock, so the controllers learn at once that the earlier
  incarnation is dead (`incarnation`; the heartbeat names it), and need not wait for a lease.

Every length of time, with the inequalities between them: `echelon.shared.lease`. The controller's half of each
mechanism: `echelon.controller.liveness`.
"""
