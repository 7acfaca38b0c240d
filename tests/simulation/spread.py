"""Spread work over processes that are forked from one that has everything loaded already.

Each child does a piece, prints JSON into a pipe and leaves without cleaning up: what it has used goes with it.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Piece = TypeVar("Piece")


def spread(pieces: Sequence[Piece], work: Callable[[Piece], Any], *, processes: int) -> Iterator[Any]:
    """Yield what `work` returns for each piece (as JSON knows it), as it comes; so many processes at a time."""
    waiting = list(reversed(pieces))
    children: dict[int, tuple[int, bytearray]] = {}
    gc.collect()
    gc.freeze()
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or children:
                while waiting and len(children) < processes:
                    child, pipe = _fork_worker(waiting.pop(), work)
                    children[pipe] = child, bytearray()
                    selector.register(pipe, selectors.EVENT_READ)
                for key, _ in selector.select():
                    data = os.read(key.fd, 1 << 16)
                    if data:
                        children[key.fd][1].extend(data)
                        continue
                    selector.unregister(key.fd)
                    child, told = children.pop(key.fd)
                    os.close(key.fd)
                    _, status = os.waitpid(child, 0)
                    if status:
                        raise RuntimeError(f"a process of the simulation ended with status {status}")
                    yield json.loads(told)
        finally:
            for pipe, (child, _) in children.items():
                os.close(pipe)
                os.kill(child, 9)
                os.waitpid(child, 0)


def _fork_worker(piece: Piece, work: Callable[[Piece], Any]) -> tuple[int, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        gc.disable()
        with os.fdopen(writing, "w") as pipe:
            json.dump(work(piece), pipe)
        status = 0
    finally:
        os._exit(status)
