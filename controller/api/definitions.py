"""Routes of the catalogue in force. Commands and arguments stay inside: a client has no use for them."""

from __future__ import annotations

from flask import Response

from echelon.controller import catalogue_shapes
from echelon.controller.api import render
from echelon.controller.api.config import get_jobs
from echelon.controller.api.render import fill_shape
from echelon.controller.api.routes import RouteAnswer, Routes
from echelon.controller.catalogue.definitions import JobDefinition
from echelon.controller.catalogue.task_classes import InputDefinition, TaskClass
from echelon.controller.core.planner import policy_of, source_of
from echelon.controller.engine.base.labels import MASK

routes = Routes("definitions", "The catalogue in force.")


@routes.add_get("/definitions", RouteAnswer(catalogue_shapes.Definitions, description="The catalogue."))
def get_definitions() -> Response:
    """Tell the catalogue in force: its revision, its tasks and its jobs with their inputs."""
    catalogue = get_jobs().current_catalogue()
    body = {
        "revision": catalogue.revision,
        "tasks": [_render_task_class(one) for one in catalogue.tasks.values()],
        "jobs": [render_job(one) for one in catalogue.jobs.values()],
    }
    return render.make_answer(body, etag=catalogue.revision)


@routes.add_get(
    "/definitions/jobs/<string:type>", RouteAnswer(catalogue_shapes.CatalogueJob, description="The job."), refuses=[404]
)
def get_job_definition(type: str) -> Response:  # noqa: A002 - the word of the interface
    """Tell what a job takes and which stages it has."""
    return render.make_answer(render_job(get_jobs().current_catalogue().find_job(type)))


def render_job(definition: JobDefinition) -> catalogue_shapes.CatalogueJob:
    """Return a job of the catalogue."""
    inputs = [_render_input(one, secret=one.name in definition.secret) for one in definition.input.values()]
    stages = [_render_stage(definition, number) for number in range(len(definition.stages))]
    return fill_shape(catalogue_shapes.CatalogueJob, definition, input=inputs, stages=stages)


def _render_stage(definition: JobDefinition, number: int) -> catalogue_shapes.CatalogueStage:
    stage = definition.stages[number]
    return fill_shape(
        catalogue_shapes.CatalogueStage,
        stage,
        number=number,
        order=definition.order_of(number),
        source=source_of(stage),
        on_error=policy_of(stage),
    )


def _render_task_class(definition: TaskClass) -> catalogue_shapes.CatalogueTask:
    inputs = [_render_input(one, secret=one.secret) for one in definition.input.values()]
    return fill_shape(catalogue_shapes.CatalogueTask, definition, retry_limit=definition.retry.limit, input=inputs)


def _render_input(one: InputDefinition, *, secret: bool) -> catalogue_shapes.CatalogueInput:
    limits = {"enum": one.enum, "pattern": one.pattern, "minimum": one.minimum, "maximum": one.maximum}
    optional: dict[str, object] = {name: value for name, value in limits.items() if value is not None}
    if not one.required:
        optional["default"] = MASK if secret else one.default
    return fill_shape(catalogue_shapes.CatalogueInput, one, key=one.key or one.name, secret=secret, **optional)
