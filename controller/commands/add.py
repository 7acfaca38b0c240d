"""`echelon add`: add tasks to a stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from echelon.controller.commands.options import escape_message, json_option, parameter_option, with_client
from echelon.controller.commands.screen import escape_text, format_count, print_json, print_message
from echelon.controller.commands.submit import read_json
from echelon.controller.commands.targets import Target, find_target
from echelon.controller.commands.values import describe_item_mistakes, parse_parameters
from echelon.controller.commands.verbs import if_match_option
from echelon.shared.errors import InvalidInput
from echelon.shared.messages import JsonValue

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import AddedTasks


@click.command()
@click.argument("what", metavar="ID.STAGE")
@parameter_option
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Read the tasks from a JSON file: a list of objects, one for each task, or one object (- is stdin).",
)
@click.option("--paused", is_flag=True, help="Do not start them until 'echelon resume'.")
@if_match_option
@json_option
@with_client
def add(
    client: Client,
    what: str,
    written: tuple[str, ...],
    file: Path | None,
    paused: bool,
    etag: str | None,
    as_json: bool,
) -> None:
    """Add tasks to a stage of a job.

    The stage must not have begun, or must be paused ('echelon pause ID.STAGE'). Give one task with -p, or a list of
    tasks in a file. They take the inputs of the stage's tasks, and are checked like the items of a spawn.json.

    \b
      echelon add 3f2a.Fetch -p url=https://www.example.com/late.txt
      echelon add 3f2a.1 --from items.json
    """
    target = find_target(client, what)
    if target.stage is None or target.index is not None:
        raise click.UsageError(f"tasks are added to a stage: write {target.job_id[:8]}.STAGE, a number or a name")
    if file is not None and written:
        raise click.UsageError("give the tasks with -p (one task) or with --from (a list), not both")
    items = _parse_task(client, target, written) if file is None else read_json(file, "--from")
    if not isinstance(items, list | dict):
        raise InvalidInput(f"{escape_text(file)} holds neither a list of objects nor one object")
    try:
        added = client.add_tasks(target.job_id, target.stage, items, paused=paused, etag=etag)
    except InvalidInput as error:
        raise InvalidInput(_describe_error(error, one=file is None)) from error
    if as_json:
        print_json(added)
    else:
        print_message(_describe_added(target, added, paused))


def _describe_error(error: InvalidInput, *, one: bool) -> str:
    """Describe what is wrong with the tasks; `one`: the only one was given with -p."""
    text = describe_item_mistakes(escape_message(error), getattr(error, "mistakes", ()), one=one)
    if text.endswith("too large"):
        text += ": send the tasks in several files, or raise the controller's limit (ECHELON_MAX_BODY)"
    return text


def _parse_task(client: Client, target: Target, written: tuple[str, ...]) -> dict[str, JsonValue]:
    """Return the one task of -p; its texts are converted to the types that the stage's task class declares."""
    if not written:
        return {}
    task_class = client.get_stage(target.job_id, cast(int, target.stage))["task_class"]
    known = {task["task_class"]: task["input"] for task in client.get_definitions()["tasks"]}
    return parse_parameters(written, {one["name"]: one["type"] or "string" for one in known.get(task_class, [])})


def _describe_added(target: Target, added: AddedTasks, paused: bool) -> str:
    number, first = len(added["task_ids"]), added["first_index"]
    names = str(Target(target.job_id, target.stage, str(first)))
    if number > 1:
        names += f" to {target.stage}.{first + number - 1}"
    return f"{format_count(number, 'task')} added to {target.describe_target()}{', paused' if paused else ''}: {names}"
