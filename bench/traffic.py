"""The API bench: how many requests a second a controller answers while it runs a fan-out, and how fast the slowest.

The clients are threads of the bench, each with a kept connection; they take their CPU from the same cores.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

from bench.contestant import API
from bench.echelon import Shape, running
from bench.records import Record
from bench.rest import Rest
from bench.session import Session

#: Tasks that run meanwhile.
FAN_OUT = 10_000
#: Seconds of requests, unless the fan-out ends before.
WINDOW = 4.0

Request = Callable[[Rest], object]


def visit(session: Session, shape: Shape, round_: int, clients: int) -> None:
    """Measure `GET /jobs/{id}`, then `POST /jobs`, each during a fan-out of its own."""
    with running(session.ground, session.ground.fresh_folder(f"api-{shape.name}"), shape) as echelon:
        echelon.fan_out(200)
        items = str(echelon.items(FAN_OUT))
        first = _submit(echelon.rest, items)
        figures = _during(echelon.url, first, "get", clients, lambda rest: rest.job(first))
        echelon.rest.completed(first)
        second = _submit(echelon.rest, items)
        figures |= _during(echelon.url, second, "post", clients, lambda rest: rest.submit("single"))
        # What was submitted is not waited for: it would take longer than all the rest.
    session.keep(Record(API, shape.name, clients, round_, figures))


def _submit(rest: Rest, items: str) -> str:
    return rest.submit("fan_out", {"items": items})


def _during(url: str, job_id: str, name: str, clients: int, request: Request) -> dict[str, float]:
    """Let clients send requests while a job runs; return requests a second, median and p99 in milliseconds."""
    stop = threading.Event()
    seen: list[list[float]] = [[] for _ in range(clients)]
    threads = [threading.Thread(target=_client, args=(url, request, stop, times)) for times in seen]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    _until_ended(url, job_id)
    stop.set()
    seconds = time.perf_counter() - begun
    for thread in threads:
        thread.join()
    times = sorted(one * 1e3 for part in seen for one in part)
    return {
        f"{name}_rate": len(times) / seconds,
        f"{name}_median": statistics.median(times),
        f"{name}_p99": statistics.quantiles(times, n=100)[-1],
    }


def _until_ended(url: str, job_id: str) -> None:
    """Return when a job has ended or the window is over."""
    rest = Rest(url)
    deadline = time.monotonic() + WINDOW
    while time.monotonic() < deadline and rest.job(job_id)["state"] in ("PENDING", "RUNNING"):
        time.sleep(0.1)
    rest.close()


def _client(url: str, request: Request, stop: threading.Event, times: list[float]) -> None:
    rest = Rest(url)
    while not stop.is_set():
        begun = time.perf_counter()
        request(rest)
        times.append(time.perf_counter() - begun)
    rest.close()
