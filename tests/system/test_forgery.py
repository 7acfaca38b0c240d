"""A program with RabbitMQ's password, but without the volume, changes nothing and stops nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from echelon.controller.client import Client
from echelon.shared.codec import encode_message
from echelon.shared.ids import JobId, TaskId, WorkerId, new_task_ids, new_worker_id
from echelon.shared.messages import (
    ANY_QUEUE,
    DEAD,
    REPORTS,
    AttemptRef,
    Finished,
    Grant,
    GrantedTask,
    Message,
    Orders,
    Outcome,
    Recipe,
    Report,
    Stop,
    WorkerCard,
    orders_queue,
)
from echelon.shared.signing import Signer, make_signer
from echelon.shared.volume import Volume
from tests.contract.rabbit import SIGNER, signed
from tests.system.cluster import ROOT, Cluster, Shape
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

CATALOGUE = """
tasks:
  wait:
    exec_command: sh
    exec_args: [-c, 'echo "$ECHELON_ATTEMPT" >> starts; while [ ! -e go ]; do sleep 0.05; done;
      echo own > "$ECHELON_OUTPUT"']
jobs:
  wait: {stages: [{name: Wait, task_class: wait}]}
"""
FAR = 10**9


def documented_permissions() -> dict[str, tuple[str, str, str]]:
    """Return the permissions of RabbitMQ's users as the documents say them."""
    text = Path(ROOT, "docs/how-to/secure.md").read_text()
    lines = re.findall(r"^rabbitmqctl set_permissions (\w+) '(.*)' '(.*)' '(.*)'$", text, re.M)
    return {user: (configure, write, read) for user, configure, write, read in lines}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    shape = Shape(controllers=1, workers=1, datastore="sqlite", permissions=documented_permissions())
    with Cluster(tmp_path_factory.mktemp("forgery"), CATALOGUE, shape) as one:
        yield one


class Attack:
    """What a stranger knows: the names of queues, workers and tasks, and the form of messages."""

    def __init__(self, cluster: Cluster, job_id: str) -> None:
        client = cluster.client()
        [task] = client.list_tasks(job_id)
        self.cluster, self.job_id, self.revision = cluster, JobId(job_id), client.get_job(job_id)["revision"]
        self.task = AttemptRef(TaskId(task["task_id"]), task["attempt"])
        cluster.note_lives()
        self.worker = WorkerId(str(cluster.workers[0].lives[-1].worker_id))
        self.mark = cluster.folder / "run-by-a-stranger"

    def messages(self) -> list[tuple[str, Message]]:
        """Return messages with their queues, each of which would do harm if it were believed."""
        orders = [(orders_queue(self.worker), one) for one in self._orders()]
        return [*orders, *((REPORTS, one) for one in self._reports())]

    def _orders(self) -> list[Orders]:
        recipe = Recipe(task_class="t", exec_command="touch", exec_args=(str(self.mark),))
        granting = []
        # The last report's number cannot be known: it is one of these.
        for number in range(1, 100):
            task = GrantedTask(new_task_ids(1)[0], 1, 0)
            grant = Grant(self.job_id, 0, "Wait", self.revision, "default", recipe, {}, {}, (task,))
            granting.append(Orders(self.worker, FAR, number, 3600.0, (grant,), renewed=True))
        stop = Stop(self.task.task_id, self.task.attempt, "cancelled")
        return [*granting, Orders(self.worker, 0, 1, 0.001, stop=(stop,))]

    def _reports(self) -> list[Report]:
        card = WorkerCard("stranger", "elsewhere", 1, "9", {ANY_QUEUE: 1000})
        ended = Finished(self.job_id, self.task.task_id, self.task.attempt, Outcome.COMPLETED, 0, result="forged")
        return [
            Report(self.worker, FAR, room={}, running=(), card=card, seen=FAR),
            Report(self.worker, FAR + 1, finished=(ended,)),
            Report(self.worker, FAR + 2, released=(self.task,)),
            Report(self.worker, FAR + 3, room={}, goodbye=True),
            Report(new_worker_id(), 1, room={ANY_QUEUE: 1000}, running=(), card=card),
            Report(new_worker_id(), 1, buried=(self.worker,), running=(), card=card),
        ]

    def send(self, signer: Signer = SIGNER) -> int:
        """Send all in every disguise, to every queue and by every way; return how many arrive."""
        connection = pika.BlockingConnection(pika.URLParameters(self.cluster.rabbit.url))
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            for queue in (REPORTS, orders_queue(self.worker)):
                for exchange in ("amq.fanout", "amq.topic", "amq.direct"):
                    channel.queue_bind(queue, exchange, queue)
            bodies = [(queue, encode_message(message)) for queue, message in self.messages()]
            bodies += [(queue, body.replace(b'"v":2', b'"v":1')) for queue, body in bodies[-3:]]
            bodies += [(REPORTS, bodies[0][1]), (orders_queue(self.worker), bodies[-4][1]), (REPORTS, b"no message")]
            for queue, body in bodies:
                channel.basic_publish("", queue, body, mandatory=True)
                channel.basic_publish("", queue, body, signed(queue, body, signer), mandatory=True)
            queue, body = bodies[-1]
            for exchange in ("amq.topic", "amq.direct"):
                channel.basic_publish(exchange, queue, body, mandatory=True)
            channel.basic_publish("amq.fanout", "", body, mandatory=True)
            return 2 * len(bodies) + 4
        finally:
            connection.close()


def count_dead(cluster: Cluster) -> int:
    connection = pika.BlockingConnection(pika.URLParameters(cluster.rabbit.url))
    try:
        return int(connection.channel().queue_declare(DEAD, passive=True).method.message_count)
    finally:
        connection.close()


def test_a_stranger_changes_nothing_and_stops_nothing(cluster: Cluster) -> None:
    client = cluster.client()
    job_id = client.submit_job("wait")["job_id"]
    work = cluster.volume / "jobs" / job_id / "work"
    until((work / "starts").exists, "the task runs")
    attack = Attack(cluster, job_id)
    before = list(client.list_events(job_id)), {one["worker_id"] for one in client.list_workers()}

    sent = attack.send()
    until(lambda: count_dead(cluster) == sent, f"all {sent} forged messages are dead")

    assert (list(client.list_events(job_id)), {one["worker_id"] for one in client.list_workers()}) == before
    assert [one["state"] for one in client.list_workers()] == ["UP"] and not attack.mark.exists()
    second = client.submit_job("wait")["job_id"]
    until((cluster.volume / "jobs" / second / "work" / "starts").exists, "the worker takes further tasks")
    for one in (job_id, second):
        (cluster.volume / "jobs" / one / "work" / "go").touch()
        check_own_end(client, one, cluster.volume / "jobs" / one / "work")
    assert not attack.mark.exists()


def check_own_end(client: Client, job_id: str, work: Path) -> None:
    """Check that a job's only task has run once and ended by itself."""
    until(lambda: client.get_job(job_id)["ended_at"] is not None, "the job ends")
    [task] = client.list_tasks(job_id)
    assert (client.get_job(job_id)["state"], task["result"], task["attempt"]) == ("COMPLETED", "own\n", 1)
    assert (work / "starts").read_text() == "1\n"


def test_each_sender_is_logged_once_with_the_remedy(cluster: Cluster) -> None:
    controller, worker = (program.log.read_text() for program in (cluster.controllers[0], cluster.workers[0]))

    named = [line for line in controller.splitlines() if "without a valid signature" in line]
    assert len(named) == 4 and sum("'stranger' on 'elsewhere'" in line for line in named) == 3, named
    assert all("give it the same release and the same volume" in line for line in named)
    assert worker.count("messages without a valid signature, from a controller,") == 1


def test_the_dead_queue_may_be_deleted_and_nothing_waits_behind_what_is_dead(cluster: Cluster) -> None:
    client = cluster.client()
    connection = pika.BlockingConnection(pika.URLParameters(cluster.rabbit.url))
    try:
        channel = connection.channel()
        channel.queue_delete(DEAD)
        for _ in range(2000):
            channel.basic_publish("", REPORTS, b"no message")
        job_id = client.submit_job("wait")["job_id"]
        work = cluster.volume / "jobs" / job_id / "work"
        until((work / "starts").exists, "the task runs")
        (work / "go").touch()

        check_own_end(client, job_id, work)
        until(lambda: count_dead(cluster) == 2000, "the dead queue is there again, and all are in it")
    finally:
        connection.close()


def test_permissions_are_no_wider_than_needed(cluster: Cluster) -> None:
    forbidden = {"worker": [REPORTS], "controller": [orders_queue(new_worker_id())]}
    for user, queues in forbidden.items():
        url = cluster.rabbit.url.replace("guest:guest", f"{user}:{user}")
        for queue in [*queues, DEAD]:
            connection = pika.BlockingConnection(pika.URLParameters(url))
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
                connection.channel().basic_get(queue)
            connection.close()


def test_the_same_messages_do_harm_when_they_are_signed(cluster: Cluster) -> None:
    attack = Attack(cluster, next(iter(cluster.client().list_jobs()))["job_id"])
    attack.send(make_signer(Volume.open(cluster.volume)))

    until(attack.mark.exists, "the worker runs what the orders say")
