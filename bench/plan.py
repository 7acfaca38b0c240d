"""What a run consists of: steps in the order in which they are taken. Every round takes all contestants in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from bench import growth, memory, traffic, verbs, work
from bench.contestant import API, CHAIN, FAN_OUT, GROWTH, LATENCY, MEMORY, PARTS, VERBS, Contestant
from bench.echelon import SHAPES, Shape
from bench.field import LIMIT
from bench.growth import Stores
from bench.session import Session, Step

#: Fan-outs up to this size are run by everybody, in one life with all else; larger ones by Echelon and the limit.
EVERYBODYS = 10_000
#: What would take longer than this many seconds is done in one round only.
_ONCE = 60.0
#: Tasks a second of what only counts, and of the filling of a store.
_COUNTED, _FILLED = 6_000, 20_000
#: Tasks a second of all calls of the verbs bench together.
_HANDLED = 5_000
_API_SECONDS = 17.0
_GROWTH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What is wanted."""

    contestants: Sequence[Contestant]
    benches: frozenset[str]
    rounds: int = 3
    sizes: Sequence[int] = (1_000, 10_000, 100_000)
    chains: Sequence[int] = (100,)
    submits: int = work.SUBMITS
    clients: Sequence[int] = (1, 8, 32)
    finished: Sequence[int] = (0, 100_000, 1_000_000)
    counted: Sequence[int] = (1_000, 1_000_000)
    handled: Sequence[int] = (1_000, 100_000)
    #: Seconds of rest before all else: ext4 is slow to make files for half a minute after many were removed.
    rest: float = 40.0

    @property
    def fan_outs(self) -> Sequence[int]:
        """Return the sizes of the fan-out, none when nothing is read from it."""
        return self.sizes if {FAN_OUT, PARTS, MEMORY} & self.benches else ()

    def shapes(self, bench: str) -> list[Shape]:
        """Return the forms of Echelon that take part in a bench."""
        names = {one.name for one in self.contestants}
        return [shape for shape in SHAPES if shape.name in names and bench in self.benches]


def steps(options: Options, filled: Stores) -> list[Step]:
    """Return everything that is to be done."""
    return [
        *_settling(options),
        *_everybodys(options),
        *_large(options),
        *_growth(options, filled),
        *_api(options),
        *_memory(options),
        *_verbs(options),
    ]


def _settling(options: Options) -> Iterator[Step]:
    def settle(session: Session) -> None:
        os.sync()
        time.sleep(options.rest)

    if options.rest:
        yield Step("the file system settles", options.rest, settle)


def _everybodys(options: Options) -> Iterator[Step]:
    small = [size for size in options.fan_outs if size <= EVERYBODYS]
    chains = options.chains if CHAIN in options.benches else ()
    submits = options.submits if LATENCY in options.benches else 0
    if not small and not chains and not submits:
        return
    for round_ in range(1, options.rounds + 1):
        for one in options.contestants:
            tasks = sum(size * (3 if size <= 1_000 else 1) for size in small)
            seconds = one.start + tasks / one.pace + 0.01 * sum(chains) + 0.03 * submits
            take = partial(work.visit, contestant=one, round_=round_, fan_outs=small, chains=chains, submits=submits)
            yield Step(f"round {round_}, {one.name}", seconds, take)


def _large(options: Options) -> Iterator[Step]:
    names = {shape.name for shape in SHAPES} | {LIMIT}
    for size in options.fan_outs:
        if size <= EVERYBODYS:
            continue
        for round_ in range(1, options.rounds + 1):
            for one in options.contestants:
                seconds = size / one.pace
                if one.name in names and (round_ == 1 or seconds <= _ONCE):
                    take = partial(work.visit, contestant=one, round_=round_, fan_outs=[size])
                    yield Step(f"round {round_}, {one.name}, {size:,}", one.start + seconds, take)


def _growth(options: Options, filled: Stores) -> Iterator[Step]:
    shapes = options.shapes(GROWTH)
    if not shapes:
        return
    products = len({shape.postgresql for shape in shapes})
    fill = max(options.finished) / _FILLED * products
    yield Step("finished tasks for the growth bench", fill, lambda session: filled.fill(shapes, options.finished))
    for round_, size, shape in _turns(options.rounds, options.finished, shapes):
        take = partial(growth.visit, shape=shape, round_=round_, size=size, filled=filled)
        yield Step(f"round {round_}, growth, {shape.name}, {size:,}", _GROWTH_SECONDS, take)


def _api(options: Options) -> Iterator[Step]:
    for round_, clients, shape in _turns(options.rounds, options.clients, options.shapes(API)):
        take = partial(traffic.visit, shape=shape, round_=round_, clients=clients)
        yield Step(f"round {round_}, API, {shape.name}, {clients} clients", _API_SECONDS, take)


def _memory(options: Options) -> Iterator[Step]:
    shapes = [shape for shape in options.shapes(MEMORY) if shape.distributed]
    for _, size, shape in _turns(1, options.counted, shapes):
        take = partial(memory.visit, shape=shape, round_=1, size=size)
        yield Step(f"memory, {shape.name}, {size:,}", 8.0 + size / _COUNTED, take)


def _verbs(options: Options) -> Iterator[Step]:
    for round_, size, shape in _turns(options.rounds, options.handled, options.shapes(VERBS)):
        take = partial(verbs.visit, shape=shape, round_=round_, size=size)
        yield Step(f"round {round_}, verbs, {shape.name}, {size:,}", 10.0 + size / _HANDLED, take)


def _turns(rounds: int, sizes: Sequence[int], shapes: Sequence[Shape]) -> Iterator[tuple[int, int, Shape]]:
    """Yield (round, size, shape): all shapes in turn, again and again."""
    for round_ in range(1, rounds + 1):
        for size in sizes:
            for shape in shapes:
                yield round_, size, shape
