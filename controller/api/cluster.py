"""Routes that tell who works and what waits."""

from __future__ import annotations

from functools import partial

from flask import Response

from echelon.controller import shapes
from echelon.controller.api import render
from echelon.controller.api.config import context
from echelon.controller.api.routes import Answer, Routes

#: Attempts of one worker that are shown.
SHOWN = 100

routes = Routes("cluster", "Workers and queues.")


@routes.get("/workers", Answer(shapes.PageOf[shapes.Worker], description="All workers that are known."))
def list_workers() -> Response:
    """Tell which workers are known, whether they live and what they do."""
    here = context()
    with here.jobs.store.read() as reader:
        workers = reader.list_workers(lost_after=here.settings.lost_after)
        held = reader.list_attempts_at_work(limit=SHOWN)
    return render.everything(workers, lambda one: render.worker(one, held.get(one.worker_id, [])))


@routes.get("/queues", Answer(shapes.PageOf[shapes.Queue], description="Queues in which something is."))
def list_queues() -> Response:
    """Tell how many tasks wait and run in each queue."""
    with context().jobs.store.read() as reader:
        return render.everything(reader.count_queues(), partial(render.fill, shapes.Queue))
