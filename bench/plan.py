"""The steps of a run in their order. Every round runs all contestants in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from bench import api, growth, memory, speed, verbs
from bench.contestant import API, CHAIN, FAN_OUT, GROWTH, LATENCY, MEMORY, PARTS, VERBS, Contestant
from bench.contestants import LIMIT
from bench.echelon import SHAPES, Shape
from bench.growth import Stores
from bench.session import Session, Step

#: All contestants run fan-outs up to this size, Echelon and the limit also larger ones.
COMMON_SIZE = 10_000
#: Longer measurements, in seconds, are made in one round only.
_ONCE = 60.0
#: Counted tasks a second, and finished tasks a second when a store is filled.
_COUNTED, _FILLED = 6_000, 20_000
#: Tasks a second of all calls of the verbs bench together.
_HANDLED = 5_000
_API_SECONDS = 17.0
_GROWTH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of the command line."""

    contestants: Sequence[Contestant]
    benches: frozenset[str]
    rounds: int = 3
    sizes: Sequence[int] = (1_000, 10_000, 100_000)
    chains: Sequence[int] = (100,)
    submits: int = speed.SUBMITS
    clients: Sequence[int] = (1, 8, 32)
    finished: Sequence[int] = (0, 100_000, 1_000_000)
    counted: Sequence[int] = (1_000, 1_000_000)
    handled: Sequence[int] = (1_000, 100_000)
    #: Seconds of rest before the first step: ext4 creates files slowly for half a minute after many were removed.
    rest: float = 40.0

    @property
    def fan_outs(self) -> Sequence[int]:
        """Return the sizes of the fan-out; none if no chosen bench reads it."""
        return self.sizes if {FAN_OUT, PARTS, MEMORY} & self.benches else ()

    def list_shapes(self, bench: str) -> list[Shape]:
        """Return the forms of Echelon in a bench."""
        names = {one.name for one in self.contestants}
        return [shape for shape in SHAPES if shape.name in names and bench in self.benches]


def plan_steps(options: Options, filled: Stores) -> list[Step]:
    """Return all steps."""
    return [
        *_plan_rest(options),
        *_plan_common(options),
        *_plan_large(options),
        *_plan_growth(options, filled),
        *_plan_api(options),
        *_plan_memory(options),
        *_plan_verbs(options),
    ]


def _plan_rest(options: Options) -> Iterator[Step]:
    def settle(session: Session) -> None:
        os.sync()
        time.sleep(options.rest)

    if options.rest:
        yield Step("the file system settles", options.rest, settle)


def _plan_common(options: Options) -> Iterator[Step]:
    small = [size for size in options.fan_outs if size <= COMMON_SIZE]
    chains = options.chains if CHAIN in options.benches else ()
    submits = options.submits if LATENCY in options.benches else 0
    if not small and not chains and not submits:
        return
    for round_ in range(1, options.rounds + 1):
        for one in options.contestants:
            tasks = sum(size * (3 if size <= 1_000 else 1) for size in small)
            seconds = one.start + tasks / one.pace + 0.01 * sum(chains) + 0.03 * submits
            run = partial(
                speed.measure_contestant, contestant=one, round_=round_, fan_outs=small, chains=chains, submits=submits
            )
            yield Step(f"round {round_}, {one.name}", seconds, run)


def _plan_large(options: Options) -> Iterator[Step]:
    names = {shape.name for shape in SHAPES} | {LIMIT}
    for size in options.fan_outs:
        if size <= COMMON_SIZE:
            continue
        for round_ in range(1, options.rounds + 1):
            for one in options.contestants:
                seconds = size / one.pace
                if one.name in names and (round_ == 1 or seconds <= _ONCE):
                    run = partial(speed.measure_contestant, contestant=one, round_=round_, fan_outs=[size])
                    yield Step(f"round {round_}, {one.name}, {size:,}", one.start + seconds, run)


def _plan_growth(options: Options, filled: Stores) -> Iterator[Step]:
    shapes = options.list_shapes(GROWTH)
    if not shapes:
        return
    products = len({shape.postgresql for shape in shapes})
    fill = max(options.finished) / _FILLED * products
    yield Step("finished tasks for the growth bench", fill, lambda session: filled.fill(shapes, options.finished))
    for round_, size, shape in _take_turns(options.rounds, options.finished, shapes):
        run = partial(growth.measure_growth, shape=shape, round_=round_, size=size, filled=filled)
        yield Step(f"round {round_}, growth, {shape.name}, {size:,}", _GROWTH_SECONDS, run)


def _plan_api(options: Options) -> Iterator[Step]:
    for round_, clients, shape in _take_turns(options.rounds, options.clients, options.list_shapes(API)):
        run = partial(api.measure_api, shape=shape, round_=round_, clients=clients)
        yield Step(f"round {round_}, API, {shape.name}, {clients} clients", _API_SECONDS, run)


def _plan_memory(options: Options) -> Iterator[Step]:
    shapes = [shape for shape in options.list_shapes(MEMORY) if shape.distributed]
    for _, size, shape in _take_turns(1, options.counted, shapes):
        run = partial(memory.measure_memory, shape=shape, round_=1, size=size)
        yield Step(f"memory, {shape.name}, {size:,}", 8.0 + size / _COUNTED, run)


def _plan_verbs(options: Options) -> Iterator[Step]:
    for round_, size, shape in _take_turns(options.rounds, options.handled, options.list_shapes(VERBS)):
        run = partial(verbs.measure_verbs, shape=shape, round_=round_, size=size)
        yield Step(f"round {round_}, verbs, {shape.name}, {size:,}", 10.0 + size / _HANDLED, run)


def _take_turns(rounds: int, sizes: Sequence[int], shapes: Sequence[Shape]) -> Iterator[tuple[int, int, Shape]]:
    """Yield (round, size, shape): all shapes in turn, for each size of each round."""
    for round_ in range(1, rounds + 1):
        for size in sizes:
            for shape in shapes:
                yield round_, size, shape
