"""Routes that tell who works and what waits."""

from __future__ import annotations

from functools import partial

from flask import Response

from echelon.controller import shapes
from echelon.controller.api import render
from echelon.controller.api.config import get_context
from echelon.controller.api.routes import RouteAnswer, Routes
from echelon.shared.ids import WorkerId

#: Attempts of one worker that are shown.
SHOWN = 100

routes = Routes("cluster", "Workers and queues.")


@routes.add_get("/workers", RouteAnswer(shapes.PageOf[shapes.Worker], description="All workers that are known."))
def list_workers() -> Response:
    """Tell which workers are known, whether they live and what they do."""
    here = get_context()
    with here.jobs.store.read() as reader:
        workers = reader.list_workers(lost_after=here.settings.lost_after)
        held = reader.list_attempts_at_work(limit=SHOWN)
    return render.make_whole_list(workers, lambda one: render.render_worker(one, held.get(one.worker_id, [])))


@routes.add_route(
    "POST",
    "/workers/<uuid:worker_id>/drain",
    [RouteAnswer(shapes.Worker, description="The worker; it is DRAINING when it has answered.")],
    refuses=[404, 409],
)
def drain_worker(worker_id: object) -> Response:
    """Let a worker take no more tasks, and end when those that run there have ended."""
    drained = get_context().jobs.drain_worker(WorkerId(str(worker_id)))
    return render.make_answer(render.render_worker(drained, []))


@routes.add_get("/queues", RouteAnswer(shapes.PageOf[shapes.Queue], description="Queues in which something is."))
def list_queues() -> Response:
    """Tell how many tasks wait and run in each queue."""
    with get_context().jobs.store.read() as reader:
        return render.make_whole_list(reader.count_queues(), partial(render.fill_shape, shapes.Queue))
