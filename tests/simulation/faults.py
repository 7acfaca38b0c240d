"""Decides which fault strikes at which step. A step is an effect of a process: a commit, a message, a start, a file.

Every step draws once from one stream, so that a fault can be switched off by its step without moving the others'.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

#: Faults strike at so many of the steps ...
PROBABILITY = 0.03
#: ... and within so many of the turns, which are as frequent and mostly idle ...
WITHIN_TURNS = 0.005
#: ... until so many seconds have passed.
CALM_FROM = 200.0

#: The faults that may strike at a step, by place, with weights.
KINDS: dict[str, tuple[tuple[str, int], ...]] = {
    "store.commit": (
        ("refused", 6), ("ambiguous", 8), ("kill_before", 3), ("kill_after", 5), ("pause_before", 1),
        ("pause_after", 3),
    ),
    "store.begin": (("unavailable", 3), ("pause", 1), ("kill", 1)),
    "publish": (
        ("drop", 3), ("refuse", 4), ("confirm_lost", 3), ("duplicate", 5), ("delay", 5), ("cut", 3), ("kill", 2),
        ("kill_after", 2), ("pause", 1), ("isolate", 2), ("lose_queue", 2), ("broker_restart", 1),
    ),
    "take": (("kill", 2), ("pause", 1), ("cut", 2), ("redeliver", 2)),
    "ack": (("kill", 2), ("lost", 3), ("pause", 1)),
    "start": (("kill", 2), ("kill_after", 3), ("enospc", 5), ("pause", 2), ("hang", 2), ("not_started", 1)),
    "end": (("kill", 3), ("pause", 2), ("hang", 2)),
    "beat": (("kill", 2), ("pause", 3), ("drain", 4), ("skew", 3)),
    "volume": (("unavailable", 5), ("kill", 2), ("pause", 1)),
    "turn": (("pause", 4), ("kill", 1)),
}  # fmt: skip
_TABLES = {place: ([kind for kind, _ in kinds], [weight for _, weight in kinds]) for place, kinds in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that struck."""

    step: int
    place: str
    kind: str
    #: How long it lasts, where that means something.
    seconds: float
    #: Where within a turn, from 0 to 1.
    depth: float = 0.0


class Faults:
    """The faults of one run."""

    def __init__(self, seed: str, only: frozenset[int] | None) -> None:
        self._seed = seed
        self._rng = random.Random(f"{seed}/faults")
        self._only = only
        self.step = 0
        self.struck: list[Fault] = []

    def strike(self, place: str, now: float) -> Fault | None:
        """Return the fault of the next step, if one strikes."""
        self.step += 1
        probability = WITHIN_TURNS if place == "turn" else PROBABILITY
        if self._rng.random() >= probability or (self._only is not None and self.step not in self._only):
            return None
        rng = random.Random(f"{self._seed}/{self.step}")
        kinds, weights = _TABLES[place]
        kind = rng.choices(kinds, weights)[0]
        # Most are short; some outlive several leases. None lasts far into the calm.
        seconds = min(5.0 + 85.0 * rng.random() ** 3, CALM_FROM + 5.0 - now)
        fault = Fault(self.step, place, kind, seconds, rng.random())
        self.struck.append(fault)
        return fault
