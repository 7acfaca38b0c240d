"""Routes that tell why a job, a stage or a task does not move on."""

from __future__ import annotations

from flask import Response

from echelon.controller import shapes
from echelon.controller.api import render
from echelon.controller.api.config import get_jobs
from echelon.controller.api.routes import RouteAnswer, Routes
from echelon.controller.api.tasks import find_task
from echelon.shared.ids import JobId, TaskId

routes = Routes("reasons", "Why something does not move on.")

_WHY = RouteAnswer(shapes.Why, description="The reason.")


@routes.add_get("/jobs/<uuid:job_id>/why", _WHY, refuses=[404])
def explain_job(job_id: object) -> Response:
    """Tell the one reason that holds a job back now."""
    return render.make_answer(render.render_reason(get_jobs().reasons.find_reason(JobId(str(job_id)))))


@routes.add_get("/jobs/<uuid:job_id>/stages/<int:stage>/why", _WHY, refuses=[404])
def explain_stage(job_id: object, stage: int) -> Response:
    """Tell the one reason that holds a stage back now."""
    return render.make_answer(render.render_reason(get_jobs().reasons.find_reason(JobId(str(job_id)), stage)))


@routes.add_get("/tasks/<uuid:task_id>/why", _WHY, refuses=[404])
def explain_task(task_id: object) -> Response:
    """Tell the one reason that holds a task back now."""
    view = find_task(TaskId(str(task_id)))
    return render.make_answer(render.render_reason(get_jobs().reasons.find_reason(view.job_id, view.stage, view.index)))
