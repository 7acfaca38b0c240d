"""Routes of the catalogue in force. Commands and arguments stay inside: a client has no use for them."""

from __future__ import annotations

from flask import Response

from echelon.controller.api import render
from echelon.controller.api.config import jobs
from echelon.controller.api.definition_schemas import DefinitionsSchema, JobDefinitionSchema
from echelon.controller.api.render import Json
from echelon.controller.api.routes import Answer, Routes
from echelon.controller.catalogue.definitions import JobDefinition, StageDefinition
from echelon.controller.catalogue.task_classes import InputDefinition, TaskClass
from echelon.controller.core.planner import source_of
from echelon.controller.engine.jobs import MASK

routes = Routes("definitions", "The catalogue in force.")


@routes.get("/definitions", Answer(DefinitionsSchema, description="The catalogue."))
def get_definitions() -> Response:
    """Tell the catalogue in force: its revision, its tasks and its jobs with their inputs."""
    catalogue = jobs().catalogue()
    body = {
        "revision": catalogue.revision,
        "tasks": [_task(one) for one in catalogue.tasks.values()],
        "jobs": [_job(one) for one in catalogue.jobs.values()],
    }
    return render.answer(body, etag=catalogue.revision)


@routes.get("/definitions/jobs/<string:type>", Answer(JobDefinitionSchema, description="The job."), refuses=[404])
def get_job_definition(type: str) -> Response:  # noqa: A002 - the word of the interface
    """Tell what a job takes and which stages it has."""
    return render.answer(_job(jobs().catalogue().job(type)))


def _job(definition: JobDefinition) -> Json:
    return {
        "type": definition.type,
        "name": definition.name,
        "description": definition.description,
        "input": [_input(one, secret=one.name in definition.secret) for one in definition.input.values()],
        "stages": [_stage(number, one) for number, one in enumerate(definition.stages)],
    }


def _stage(number: int, stage: StageDefinition) -> Json:
    return {
        "number": number,
        "order": number if stage.order is None else stage.order,
        "name": stage.name,
        "task_class": stage.task_class,
        "spawn_task": stage.spawn_task,
        "source": source_of(stage),
        "on_error": "block" if stage.block_on_error else "fail_job" if stage.job_failed_on_error else "ignore",
        "paused": stage.paused,
        "job_failed_on_error": stage.job_failed_on_error,
        "fail_fast": stage.fail_fast,
        "max_parallel": stage.max_parallel,
    }


def _task(definition: TaskClass) -> Json:
    return {
        "task_class": definition.task_class,
        "name": definition.name,
        "description": definition.description,
        "queue": definition.queue,
        "timeout": definition.timeout,
        "workdir": definition.workdir,
        "retry_limit": definition.retry.limit,
        "input": [_input(one, secret=one.secret) for one in definition.input.values()],
    }


def _input(one: InputDefinition, *, secret: bool) -> Json:
    told: Json = {
        "name": one.name,
        "description": one.description,
        "source": one.source,
        "key": one.key or one.name,
        "type": one.type,
        "required": one.required,
        "secret": secret,
    }
    if not one.required:
        told["default"] = MASK if secret else one.default
    limits = {"enum": one.enum, "pattern": one.pattern, "minimum": one.minimum, "maximum": one.maximum}
    return told | {name: value for name, value in limits.items() if value is not None}
