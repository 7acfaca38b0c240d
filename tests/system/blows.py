"""Carries out each kind of fault, and undoes it afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import pika
import psycopg

from echelon.shared import codec
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import REPORTS, Finished, Outcome, Report, orders_queue
from echelon.shared.signing import make_signer
from echelon.shared.volume import Volume
from tests.contract.rabbit import signed
from tests.system.cluster import Program
from tests.system.hindrances import TABLES, disk_alarm, flap, full_queues, locked

if TYPE_CHECKING:
    from tests.system.nemesis import Fault, Nemesis

Blow = Callable[["Nemesis", "Fault"], None]
#: Seconds that a process gets to drain before it is killed.
_DRAIN = 30.0


def _wait_for(seconds: float) -> None:
    """Let a fault last."""
    threading.Event().wait(seconds)


def _find_program(nemesis: Nemesis, fault: Fault) -> Program:
    return next(one for one in nemesis.cluster.programs if one.name == fault.target)


def _restart_program(nemesis: Nemesis, program: Program) -> None:
    nemesis.cluster.note_lives()
    program.start()


def _kill_program(nemesis: Nemesis, fault: Fault) -> None:
    program = _find_program(nemesis, fault)
    program.kill()
    _wait_for(fault.seconds)
    _restart_program(nemesis, program)


def _pause_program(nemesis: Nemesis, fault: Fault) -> None:
    program = _find_program(nemesis, fault)
    program.pause()
    _wait_for(fault.seconds)
    program.go_on()


def _drain_program(nemesis: Nemesis, fault: Fault) -> None:
    program = _find_program(nemesis, fault)
    program.terminate()
    try:
        program.wait(_DRAIN)
    except subprocess.TimeoutExpired:
        nemesis.complaints.append(f"I9 no leaks: {program.name} did not drain within {_DRAIN:.0f} s")
        program.kill()
    _wait_for(fault.seconds)
    _restart_program(nemesis, program)


def _make_link_blow(act: str, server: str) -> Blow:
    def blow(nemesis: Nemesis, fault: Fault) -> None:
        link = _find_program(nemesis, fault).links[server]
        if act == "cut":
            link.cut()
            return
        if act == "slow":
            link.slow(0.2)
        else:
            link.swallow(up=act != "deafen", down=act != "mute")
        _wait_for(fault.seconds)
        # The held-back data arrives late, or never: test both.
        if fault.seed % 2:
            link.cut()
        link.heal()

    return blow


def _make_flap_blow(server: str) -> Blow:
    def blow(nemesis: Nemesis, fault: Fault) -> None:
        flap([_find_program(nemesis, fault).links[server]], fault.seconds)

    return blow


# --- the broker


def _kill_broker(nemesis: Nemesis, fault: Fault) -> None:
    rabbit = nemesis.cluster.rabbit
    rabbit.stop(signal.SIGKILL)
    _wait_for(fault.seconds)
    rabbit.start()


def _stop_app(nemesis: Nemesis, fault: Fault) -> None:
    rabbit = nemesis.cluster.rabbit
    rabbit.control("stop_app")
    _wait_for(fault.seconds)
    rabbit.control("start_app")


def _close_connections(nemesis: Nemesis, fault: Fault) -> None:
    nemesis.cluster.rabbit.control("close_all_connections", "chaos")


def _raise_alarm(nemesis: Nemesis, fault: Fault) -> None:
    rabbit = nemesis.cluster.rabbit
    rabbit.control("set_vm_memory_high_watermark", "0.0000001")
    _wait_for(fault.seconds)
    rabbit.control("set_vm_memory_high_watermark", "0.4")


def _disk_alarm(nemesis: Nemesis, fault: Fault) -> None:
    with disk_alarm(nemesis.cluster.rabbit):
        _wait_for(fault.seconds)


def _full_queues(nemesis: Nemesis, fault: Fault) -> None:
    with full_queues(nemesis.cluster.rabbit, room=fault.seed % 3):
        _wait_for(fault.seconds)


def _on_channel(nemesis: Nemesis, act: Callable[[pika.adapters.blocking_connection.BlockingChannel], object]) -> None:
    connection = pika.BlockingConnection(
        pika.URLParameters(nemesis.cluster.rabbit.url + "?blocked_connection_timeout=20")
    )
    try:
        act(connection.channel())
    finally:
        connection.close()


def _delete_reports(nemesis: Nemesis, fault: Fault) -> None:
    _on_channel(nemesis, lambda channel: channel.queue_delete(REPORTS))


def _delete_orders(nemesis: Nemesis, fault: Fault) -> None:
    rng = random.Random(fault.seed)
    ids = [worker.lives[-1].worker_id for worker in nemesis.cluster.workers if worker.lives[-1].worker_id]
    if ids:
        _on_channel(nemesis, lambda channel: channel.queue_delete(orders_queue(WorkerId(str(rng.choice(ids))))))


# --- messages


def _send_garbage(nemesis: Nemesis, fault: Fault) -> None:
    rng = random.Random(fault.seed)
    bodies = [
        b"", b"not json", b"{}", b"[" * 100_000, b'{"kind":"report","v":99}', os.urandom(200), b'{"kind":"report"}' * 3,
        b'{"kind":"nonsense","v":1}', b'{"kind":"report","worker":7,"number":"x"}', b"\xff\xfe\x00" * 1000, b"9" * 5000,
    ]  # fmt: skip
    signer = make_signer(Volume.open(nemesis.cluster.volume))
    queues = [REPORTS, *(orders_queue(WorkerId(str(w.lives[-1].worker_id))) for w in nemesis.cluster.workers)]

    def act(channel: pika.adapters.blocking_connection.BlockingChannel) -> None:
        for body in rng.sample(bodies, 4):
            queue = rng.choice(queues)
            channel.basic_publish("", queue, body, signed(queue, body, signer) if rng.random() < 0.5 else None)

    _on_channel(nemesis, act)


#: Claims with the workers that hold or held them. What may run still without a claim is left out: a lie about its end
#: would let the next attempt start beside it.
KNOWN_CLAIMS = (
    "SELECT j.job_id, t.task_id, t.attempt, w.worker_id, t.state, t.started_at IS NOT NULL FROM tasks t"
    " JOIN stages s ON s.key = t.stage JOIN jobs j ON j.key = s.job JOIN workers w ON w.key = t.worker"
    " WHERE t.attempt > 0 AND (t.state = 'RUNNING' OR t.lease_until IS NULL) ORDER BY random() LIMIT 20"
)


def make_stale_reports(rows: Iterable[Sequence[object]], rng: random.Random) -> list[Report]:
    """Say again, late and twice, what workers have said, and what none of them could say.

    Only a process that has run is told of as one: no worker hands an attempt back and then tells of its process, and
    the controllers believe those that hold the key.
    """
    reports = []
    for job_id, task_id, attempt, worker, state, begun in rows:
        # The lie about a running task comes from a worker that does not hold it.
        teller = "00000000-0000-4000-8000-000000000000" if state == "RUNNING" else str(worker)
        finished = Finished(
            JobId(str(job_id)),
            TaskId(str(task_id)),
            int(str(attempt)),
            rng.choice([Outcome.COMPLETED, Outcome.FAILED]),
            1,
            begun=bool(begun),
        )
        reports += 2 * [Report(worker=WorkerId(teller), number=1, finished=(finished, finished))]
    return reports


def _send_stale(nemesis: Nemesis, fault: Fault) -> None:
    if nemesis.cluster.postgresql is None:
        return
    reports = make_stale_reports(nemesis.cluster.psql(KNOWN_CLAIMS), random.Random(fault.seed))
    signer = make_signer(Volume.open(nemesis.cluster.volume))

    def act(channel: pika.adapters.blocking_connection.BlockingChannel) -> None:
        for report in reports:
            body = codec.encode_message(report)
            channel.basic_publish("", REPORTS, body, signed(REPORTS, body, signer))

    _on_channel(nemesis, act)


# --- database and catalogue


def _restart_database(nemesis: Nemesis, fault: Fault) -> None:
    server = nemesis.cluster.postgresql
    assert server is not None
    server.stop(signal.SIGQUIT)
    _wait_for(fault.seconds)
    server.start()


def _terminate_backends(nemesis: Nemesis, fault: Fault) -> None:
    # The server may be down at the moment: then there is nothing to end.
    try:
        nemesis.cluster.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    except psycopg.OperationalError:
        return


def _lock_table(nemesis: Nemesis, fault: Fault) -> None:
    with locked(nemesis.cluster, TABLES[fault.seed % len(TABLES)]):
        _wait_for(fault.seconds)


def _rewrite_catalogue(nemesis: Nemesis, fault: Fault) -> None:
    nemesis.edition += 1
    nemesis.cluster.catalogue.write_text(nemesis.catalogue(nemesis.edition))


def _spoil_catalogue(nemesis: Nemesis, fault: Fault) -> None:
    good = nemesis.catalogue(nemesis.edition)
    nemesis.cluster.catalogue.write_text(good[: len(good) // 2] + "\n  - {]")
    _wait_for(fault.seconds)
    nemesis.cluster.catalogue.write_text(good)


BLOWS: dict[str, Blow] = {
    **dict.fromkeys(("worker.kill", "worker.vanish", "controller.kill"), _kill_program),
    **dict.fromkeys(("worker.pause", "worker.oversleep", "controller.pause"), _pause_program),
    **dict.fromkeys(("worker.drain", "controller.drain"), _drain_program),
    **{f"worker-broker.{act}": _make_link_blow(act, "broker") for act in ("cut", "swallow", "deafen", "mute", "slow")},
    **{f"controller-broker.{act}": _make_link_blow(act, "broker") for act in ("cut", "swallow", "slow")},
    **{f"controller-datastore.{act}": _make_link_blow(act, "datastore") for act in ("cut", "swallow", "slow")},
    **{f"{role}-broker.flap": _make_flap_blow("broker") for role in ("worker", "controller")},
    "controller-datastore.flap": _make_flap_blow("datastore"),
    "broker.kill": _kill_broker,
    "broker.stop_app": _stop_app,
    "broker.close_connections": _close_connections,
    "broker.delete_reports": _delete_reports,
    "broker.delete_orders": _delete_orders,
    "broker.alarm": _raise_alarm,
    "broker.disk_alarm": _disk_alarm,
    "broker.full_queues": _full_queues,
    "database.restart": _restart_database,
    "database.terminate": _terminate_backends,
    "database.lock": _lock_table,
    "messages.garbage": _send_garbage,
    "messages.stale": _send_stale,
    "catalogue.rewrite": _rewrite_catalogue,
    "catalogue.spoil": _spoil_catalogue,
}
