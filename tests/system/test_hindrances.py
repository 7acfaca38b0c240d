"""A table that is locked, links that flap, a broker that takes no messages: what runs goes on, nothing is lost, and all
goes on by itself afterwards.

With ECHELON_LONG=1 each lasts as long as it might in the field: the table is locked for 30 s, the links flap for 60.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pika
import pytest
import requests

from echelon.shared.messages import REPORTS
from tests.system.cluster import Cluster, Program, Shape
from tests.system.drills import CATALOGUE, Job, Show, pass_by, whole
from tests.system.hindrances import disk_alarm, flap, full_queues, locked
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

LONG = bool(os.environ.get("ECHELON_LONG"))
#: Seconds that a request may wait for a lock: one statement's, after that of a connection of the pool; and to spare.
LONGEST_WAIT = 25.0
#: Seconds that a process may take to end while the broker takes no messages: a worker's farewell, a controller's flush,
#: and what Python needs to go.
FAREWELL = 12.0
#: Orders of one task that full queues may refuse: the controller waits before it sends the next.
MOST_IN_VAIN = 10 if LONG else 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # The defaults: the reserve that workers keep of an unrenewed lease is enough for a controller to find the reason.
    shape = Shape(workers=2, slots=2, lease=15.0, heartbeat=5.0)
    with Cluster(tmp_path_factory.mktemp("hindrances"), CATALOGUE, shape) as one:
        yield one


class Asker:
    """Asks one controller for the same thing again and again, and keeps the answers and how long they took."""

    def __init__(self, ask: Callable[[], requests.Response]) -> None:
        self.answers: list[tuple[requests.Response, float]] = []
        self._ask = ask
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            begun = time.monotonic()
            answer = self._ask()
            self.answers.append((answer, time.monotonic() - begun))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def submit(url: str) -> requests.Response:
    return requests.post(f"{url}/api/v1/jobs", json={"type": "quick", "input": {}}, timeout=60.0)


def ended(cluster: Cluster, job_id: str) -> str:
    until(lambda: cluster.client().get_job(job_id)["ended_at"] is not None, f"job {job_id} ends")
    return cluster.client().get_job(job_id)["state"]


@pytest.mark.parametrize("table", ["tasks", "jobs", "workers"] if LONG else ["tasks"])
def test_while_a_table_is_locked_the_api_waits_or_says_503_and_what_runs_goes_on(
    cluster: Cluster, table: str, record_property: Show
) -> None:
    running = Job(cluster, "wait")
    running.started()
    url = cluster.urls[0]
    paths = ("jobs", f"jobs/{running.job_id}", f"jobs/{running.job_id}/tasks", "workers")
    looks: list[Callable[[], requests.Response]] = [
        lambda path=path: requests.get(f"{url}/api/v1/{path}", timeout=60.0)  # type: ignore[misc]
        for path in paths
    ]
    askers = [Asker(ask) for ask in (*looks, lambda: submit(cluster.urls[0]), lambda: submit(cluster.urls[1]))]
    try:
        with locked(cluster, table):
            # Longer than a statement waits for a lock, and than a worker waits for the renewal of a lease.
            pass_by(30.0 if LONG else 12.0)
    finally:
        for asker in askers:
            asker.stop()

    answers = [one for asker in askers for one in asker.answers]
    assert {answer.status_code for answer, _ in answers} <= {200, 201, 503}, Counter(a.text[:99] for a, _ in answers)
    assert all(int(answer.headers["Retry-After"]) > 0 for answer, _ in answers if answer.status_code == 503)
    longest = max(taken for _, taken in answers)
    counted = Counter(answer.status_code for answer, _ in answers)
    record_property("shown", f"longest wait {longest:.1f} s; answers: {dict(counted)}")
    assert longest < LONGEST_WAIT
    accepted = [answer.json()["job_id"] for answer, _ in answers if answer.status_code == 201]
    assert {ended(cluster, job_id) for job_id in accepted} <= {"COMPLETED"}
    assert Job(cluster, "quick").finish() == running.finish() == "COMPLETED"
    assert len(running.starts) == running.attempts == 1, "what ran was run again"
    assert all(program.running for program in cluster.programs)
    whole(cluster)


def test_links_that_flap_lose_nothing_and_nobody_storms_the_broker_or_gives_up(
    cluster: Cluster, record_property: Show
) -> None:
    links = [program.links["broker"] for program in cluster.programs]
    before = [link.opened for link in links]
    asker = Asker(lambda: submit(cluster.urls[0]))
    try:
        times = flap(links, 60.0 if LONG else 6.0)
    finally:
        asker.stop()
    opened = [link.opened - count for link, count in zip(links, before, strict=True)]

    record_property("shown", f"cut {times} times; connections opened: {opened}; jobs: {len(asker.answers)}")
    # One connection to publish and one to listen: a cut costs each one more, or two where it met the opening.
    assert all(times <= count <= 4 * times for count in opened), (times, opened)
    answers = Counter(answer.status_code for answer, _ in asker.answers)
    assert set(answers) == {201}, answers
    assert {ended(cluster, answer.json()["job_id"]) for answer, _ in asker.answers} == {"COMPLETED"}
    assert all(program.running for program in cluster.programs)
    whole(cluster)


def test_during_a_disk_alarm_the_api_takes_jobs_and_whoever_is_asked_to_end_does_so_in_time(
    cluster: Cluster, record_property: Show
) -> None:
    running = Job(cluster, "wait")
    running.started()
    leaving = running.worker
    with disk_alarm(cluster.rabbit):
        job = Job(cluster, "quick")
        until(lambda: "takes no messages" in leaving.log.read_text(), "the worker hears of the alarm")
        pass_by(20.0 if LONG else 0.0)
        taken = seconds_to_end(leaving, cluster.controllers[1])
        assert requests.get(f"{cluster.urls[0]}/api/v1/jobs/{job.job_id}", timeout=10.0).status_code == 200
        for program in (leaving, cluster.controllers[1]):
            program.start()

    record_property("shown", f"asked to end during the alarm: {taken}")
    # A task of this catalogue has a second between TERM and KILL.
    assert taken[leaving.name] < cluster.shape.drain_timeout + 1.0 + FAREWELL, taken
    assert taken[cluster.controllers[1].name] < FAREWELL, taken
    assert job.finish() == running.finish() == "COMPLETED"
    whole(cluster)


def seconds_to_end(*programs: Program) -> dict[str, float]:
    begun, taken = time.monotonic(), {}
    for program in programs:
        program.terminate()

    def all_ended() -> bool:
        taken.update({one.name: time.monotonic() - begun for one in programs if not (one.running or one.name in taken)})
        return len(taken) == len(programs)

    until(all_ended, "they end")
    for program in programs:
        assert program.wait() == 0, program.log.read_text()[-2000:]
    return taken


def test_what_full_queues_refuse_is_sent_again_when_there_is_room(cluster: Cluster) -> None:
    ending = Job(cluster, "wait")
    ending.started()
    with full_queues(cluster.rabbit):
        until(lambda: refuses(cluster), "the queues refuse messages")
        (ending.folder / "go").touch()
        jobs = [Job(cluster, "quick") for _ in range(5)]
        until(lambda: jobs[0].claims > 1, "an order is refused and comes back")
        # In the short version less than a worker keeps an unrenewed lease: running tasks end unnoticed.
        pass_by(20.0 if LONG else 0.0)
        assert not any(job.starts for job in jobs)
        assert all(cluster.answering(url) for url in cluster.urls)

    assert [job.finish() for job in jobs] == ["COMPLETED"] * 5
    assert ending.finish() == "COMPLETED"
    if not LONG:
        assert len(ending.starts) == ending.attempts == 1, "a result that was refused was not told again"
    # An order that was refused is as good as handed back: the next one brings the next attempt, and few are enough.
    assert all(len(job.starts) == 1 and job.attempts <= 1 + MOST_IN_VAIN for job in jobs), [j.attempts for j in jobs]
    whole(cluster)


def refuses(cluster: Cluster) -> bool:
    """Tell whether the queue of reports refuses a message that everybody may ignore."""
    connection = pika.BlockingConnection(pika.URLParameters(cluster.rabbit.url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", REPORTS, b'{"kind":"report","v":1,"worker":"nobody","number":1}')
        return False
    except pika.exceptions.NackError:
        return True
    finally:
        connection.close()
