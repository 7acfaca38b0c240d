"""Time, processes and the heap that steps them. Knows nothing of jobs.

How it works: everything that happens is an event on one heap of (time, number). A process that is paused in the middle
of a call runs the heap itself, from inside that call, until its pause is over: so a pause may strike between any two
effects, and still there is one thread and one order. Actions due for a paused process wait for the pause's end.
"""

from __future__ import annotations

import heapq
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.faults import CALM_FROM, Fault, Faults

#: Where the clocks begin.
EPOCH = 1_700_000_000.0
#: More events than this in one run: something spins.
MOST_EVENTS = 400_000


class Killed(BaseException):
    """The process at hand has been killed: nothing of it may act any more."""


@dataclass(eq=False)
class Process:
    """One life of a simulated process."""

    name: str
    born: float
    died: float | None = None
    paused: bool = False
    #: Pauses and hangs, each from when until when.
    pauses: list[tuple[float, float]] = field(default_factory=list)
    #: Called when it dies, to release what it holds.
    at_death: list[Callable[[], None]] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)

    @property
    def dead(self) -> bool:
        return self.died is not None


@dataclass(eq=False)
class Actor:
    """A thread of a process: it is stepped, and each of its effects is a place where a fault may strike."""

    process: Process
    name: str
    #: It hangs while its process goes on.
    stuck: bool = False
    deferred: list[Callable[[], None]] = field(default_factory=list)
    #: Set by the ports: how long the last turn would have waited; None: it had something to do.
    wait: float | None = None

    def __post_init__(self) -> None:
        self.process.actors.append(self)


class World:
    """One run of the simulation."""

    def __init__(self, seed: str, *, trace: bool = False, only: frozenset[int] | None = None) -> None:
        self.seed = seed
        self.now = 0.0
        #: By how much the store's clock is wrong.
        self.store_skew = 0.0
        self.rng = random.Random(f"{seed}/world")
        self.faults = Faults(seed, only)
        self.violations: list[str] = []
        #: How often each kind of fault struck, as "place:kind".
        self.struck: Counter[str] = Counter()
        self.lines: list[str] = []
        self._trace = trace
        self._heap: list[tuple[float, int, Actor | None, Callable[[], None]]] = []
        self._events = 0
        self._stopped = False

    # --- time

    def at(self, delay: float, actor: Actor | None, action: Callable[[], None]) -> None:
        """Run an action `delay` seconds from now, unless its process is dead by then."""
        self._events += 1
        heapq.heappush(self._heap, (self.now + delay, self._events, actor, action))

    def run(self, until: float) -> None:
        """Run all actions that are due until then."""
        while self._heap and self._heap[0][0] <= until and not self._stopped:
            time, _, actor, action = heapq.heappop(self._heap)
            self.now = max(self.now, time)
            self._run_action(actor, action)
            if self._events > MOST_EVENTS:
                self.violate("liveness", f"more than {MOST_EVENTS} events: something spins")
                self._stopped = True
        if not self._stopped:
            self.now = max(self.now, until)

    def stop(self) -> None:
        """Run no further action."""
        self._stopped = True

    def _run_action(self, actor: Actor | None, action: Callable[[], None]) -> None:
        if actor is not None:
            if actor.process.dead:
                return
            if actor.process.paused or actor.stuck:
                actor.deferred.append(action)
                return
        try:
            action()
        except Killed:
            pass
        except Exception:  # noqa: BLE001  (the loop guard of the simulation)
            self.violate("bug", f"{actor.name if actor else 'world'}: {traceback.format_exc(limit=-6)}")

    # --- processes

    def kill(self, process: Process) -> None:
        """End a process as kill -9 does."""
        if process.dead:
            return
        self.log(process.name, "killed")
        process.died = self.now
        for let_go in process.at_death:
            let_go()

    def pause(self, actor: Actor, seconds: float) -> None:
        """Stop a process (SIGSTOP) for a while, in the middle of what it does; everything else goes on."""
        process = actor.process
        self.log(process.name, f"stopped for {seconds:.1f} s")
        self._suspend(process, actor, seconds, whole=True)

    def hang(self, actor: Actor, seconds: float) -> None:
        """Let one thread of a process hang for a while, in the middle of what it does."""
        self.log(actor.name, f"hangs for {seconds:.1f} s")
        self._suspend(actor.process, actor, seconds, whole=False)

    def _suspend(self, process: Process, actor: Actor, seconds: float, *, whole: bool) -> None:
        begun = self.now
        place = len(process.pauses)
        process.pauses.append((begun, float("inf")))
        before = process.paused, actor.stuck
        process.paused = process.paused or whole
        actor.stuck = True
        # A turn may be traced (`steps`): that concerns the process that is suspended, not those that go on.
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            self.run(self.now + seconds)
        finally:
            sys.settrace(tracer)
        process.paused, actor.stuck = before
        process.pauses[place] = (begun, self.now)
        if process.dead or self._stopped:
            raise Killed
        self.log(actor.name, f"goes on after {self.now - begun:.1f} s")
        self._resume(process)

    def _resume(self, process: Process) -> None:
        """Hand the actors what came up for them in the meantime."""
        for actor in process.actors:
            if not (process.paused or actor.stuck):
                deferred, actor.deferred = actor.deferred, []
                for action in deferred:
                    self.at(0.0, actor, action)

    # --- faults

    def strike(self, place: str) -> Fault | None:
        """Return the fault that strikes at this step, if one does."""
        fault = None if self.now >= CALM_FROM else self.faults.strike(place, self.now)
        if fault is not None:
            self.struck[f"{place}:{fault.kind}"] += 1
            self.log(place, f"fault {fault.step}: {fault.kind}")
        return fault

    def suffer(self, actor: Actor, fault: Fault | None) -> None:
        """Let a fault that any step may meet have its way with a process."""
        if actor.process.dead:
            raise Killed
        if fault is None:
            return
        if fault.kind == "kill":
            self.kill(actor.process)
            raise Killed
        if fault.kind == "pause":
            self.pause(actor, fault.seconds)
        elif fault.kind == "hang":
            self.hang(actor, fault.seconds)

    # --- what is told afterwards

    def violate(self, rule: str, what: str) -> None:
        """Note that something happened that must not."""
        self.log("VIOLATION", f"{rule}: {what}")
        self.violations.append(f"{rule}: {what}")
        if rule == "bug":
            # Later complaints would only repeat this one.
            self._stopped = True

    def log(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        if self._trace:
            self.lines.append(f"{self.now:9.3f} {who:<14} {what}")

    @property
    def tracing(self) -> bool:
        return self._trace
