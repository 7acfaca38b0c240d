"""Pauses between two steps of a turn: a process stands still, or dies, before a random line of its own code.

The ports of the simulation can only strike where a process meets the outside. What a process does between two of these
places, it does with what it knew before: so it may also be stopped there, as SIGSTOP and a suspended machine do.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from tests.simulation.faults import CALM_FROM, Fault
from tests.simulation.world import Actor, World


@contextlib.contextmanager
def strike_within(world: World, actor: Actor, code: str, lines: int) -> Iterator[None]:
    """Let a fault strike within the block, at one of the first `lines` lines that it runs of the files below `code`."""
    fault = world.strike("turn")
    if fault is None:
        yield
        return
    before = sys.gettrace()
    sys.settrace(_make_tracer(world, actor, fault, code, left=round(fault.depth * lines)))
    try:
        yield
    finally:
        sys.settrace(before)


def _make_tracer(world: World, actor: Actor, fault: Fault, code: str, *, left: int) -> Any:
    def trace_line(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            # Another pause may have lasted into the calm.
            if left == 0 and world.now < CALM_FROM:
                world.log(actor.name, f"is struck before {frame.f_code.co_qualname}:{frame.f_lineno}")
                world.suffer(actor, fault)
        return trace_line

    def trace_call(frame: FrameType, event: str, arg: object) -> Any:
        return trace_line if left > 0 and frame.f_code.co_filename.startswith(code) else None

    return trace_call
