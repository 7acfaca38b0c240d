"""The client's types name exactly the fields that the interface documents."""

from __future__ import annotations

import typing

import marshmallow
import pytest

from echelon.controller.api import definition_schemas, operations, schemas
from echelon.controller.client import answers

PAIRS = [
    (answers.Stage, schemas.StageSchema),
    (answers.Job, schemas.JobSchema),
    (answers.Attempt, schemas.AttemptSchema),
    (answers.Task, schemas.OneTaskSchema),
    (answers.Event, schemas.EventSchema),
    (answers.Artefact, schemas.ArtefactSchema),
    (answers.Worker, schemas.WorkerSchema),
    (answers.Queue, schemas.QueueSchema),
    (answers.Found, schemas.FoundSchema),
    (answers.Part, operations.PartSchema),
    (answers.Health, operations.HealthSchema),
    (answers.Input, definition_schemas.InputSchema),
    (answers.StageDefinition, definition_schemas.StageDefinitionSchema),
    (answers.JobDefinition, definition_schemas.JobDefinitionSchema),
    (answers.TaskDefinition, definition_schemas.TaskDefinitionSchema),
    (answers.Definitions, definition_schemas.DefinitionsSchema),
]


@pytest.mark.parametrize(("type_", "schema"), PAIRS, ids=[type_.__name__ for type_, _ in PAIRS])
def test_the_client_knows_the_fields_of_an_answer(type_: type, schema: type[marshmallow.Schema]) -> None:
    assert set(typing.get_type_hints(type_)) == set(schema().fields)
    assert set(schemas.Counts().fields) == set(schemas.STATES)
