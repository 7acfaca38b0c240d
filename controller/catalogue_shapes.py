"""The shapes of `/definitions`: the catalogue in force; see `shapes`."""

# No postponed annotations here: with them, NotRequired would be overlooked in `__required_keys__`.

from typing import Annotated, Literal, NotRequired, TypedDict

from echelon.controller.shape_words import about
from echelon.controller.shapes import StageSettings
from echelon.shared.messages import JsonValue


class CatalogueInput(TypedDict):
    """An input of a job or of a task class."""

    name: Annotated[str, about("Name of the input.")]
    description: Annotated[str | None, about("What it is for.")]
    source: Literal["parameter", "environment", "http-header"]
    key: Annotated[str, about("Name of the header or of the environment variable.")]
    type: Literal["string", "integer", "number", "boolean", "json"] | None
    required: bool
    secret: bool
    default: NotRequired[Annotated[JsonValue, about("Only of an input that is not required.")]]
    enum: NotRequired[list[JsonValue]]
    pattern: NotRequired[Annotated[str, about("RE2 syntax; the whole value has to match.")]]
    minimum: NotRequired[float]
    maximum: NotRequired[float]


class CatalogueStage(StageSettings):
    """A stage of a job of the catalogue."""

    paused: Annotated[bool, about("It does not start until it is resumed.")]
    job_failed_on_error: bool
    fail_fast: bool


class CatalogueJob(TypedDict):
    """A job of the catalogue."""

    type: Annotated[str, about("Name of the job.")]
    name: Annotated[str | None, about("Title of the job.")]
    description: Annotated[str | None, about("What it does.")]
    input: list[CatalogueInput]
    stages: list[CatalogueStage]


class CatalogueTask(TypedDict):
    """A task class of the catalogue, without its command."""

    task_class: Annotated[str, about("Name of the task class.")]
    name: Annotated[str | None, about("Title of the task class.")]
    description: Annotated[str | None, about("What it does.")]
    queue: Annotated[str, about("Queue of its tasks.")]
    timeout: Annotated[float | None, about("Seconds; null: no limit.")]
    workdir: Literal["job", "task"]
    retry_limit: Annotated[int, about("Number of additional attempts.")]
    input: list[CatalogueInput]


class Definitions(TypedDict):
    """The catalogue in force."""

    revision: Annotated[str, about("Identifies this content of the catalogue.")]
    tasks: list[CatalogueTask]
    jobs: list[CatalogueJob]
