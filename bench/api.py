"""The API bench: the rate of a controller's answers during a fan-out, and their times.

The clients are threads of the bench, each with a persistent connection. They use the same cores as the engine.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

from bench.contestant import API
from bench.echelon import Shape, run_echelon
from bench.records import Record
from bench.rest import Rest
from bench.session import Session

#: Tasks that run during the requests.
FAN_OUT = 10_000
#: Seconds of requests, unless the fan-out ends earlier.
WINDOW = 4.0

Request = Callable[[Rest], object]


def measure_api(session: Session, shape: Shape, round_: int, clients: int) -> None:
    """Measure `GET /jobs/{id}`, then `POST /jobs`, each during a fan-out of its own."""
    with run_echelon(session.resources, session.resources.make_folder(f"api-{shape.name}"), shape) as echelon:
        echelon.run_fan_out(200)
        items = str(echelon.write_items(FAN_OUT))
        first = _submit_fan_out(echelon.rest, items)
        figures = _measure_requests(echelon.url, first, "get", clients, lambda rest: rest.get_job(first))
        echelon.rest.wait_completed(first)
        second = _submit_fan_out(echelon.rest, items)
        figures |= _measure_requests(echelon.url, second, "post", clients, lambda rest: rest.submit_job("single"))
        # Do not wait for the submitted jobs: that would take longer than everything else.
    session.keep_record(Record(API, shape.name, clients, round_, figures))


def _submit_fan_out(rest: Rest, items: str) -> str:
    return rest.submit_job("fan_out", {"items": items})


def _measure_requests(url: str, job_id: str, name: str, clients: int, request: Request) -> dict[str, float]:
    """Send requests from clients while a job runs; return requests a second, median and p99 in milliseconds."""
    stop = threading.Event()
    seen: list[list[float]] = [[] for _ in range(clients)]
    threads = [threading.Thread(target=_run_client, args=(url, request, stop, times)) for times in seen]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    _wait_ended(url, job_id)
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


def _wait_ended(url: str, job_id: str) -> None:
    """Return when a job has ended or the window is over."""
    rest = Rest(url)
    deadline = time.monotonic() + WINDOW
    while time.monotonic() < deadline and rest.get_job(job_id)["state"] in ("PENDING", "RUNNING"):
        time.sleep(0.1)
    rest.close()


def _run_client(url: str, request: Request, stop: threading.Event, times: list[float]) -> None:
    rest = Rest(url)
    while not stop.is_set():
        begun = time.perf_counter()
        request(rest)
        times.append(time.perf_counter() - begun)
    rest.close()
