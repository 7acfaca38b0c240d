"""`echelon add`: give a stage more tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from echelon.controller.commands.options import json_option, parameter_option, safe_message, with_client
from echelon.controller.commands.places import Place, find_place
from echelon.controller.commands.screen import counted, print_json, safe, words
from echelon.controller.commands.submit import json_of
from echelon.controller.commands.values import in_items, parameters
from echelon.controller.commands.verbs import if_match_option
from echelon.shared.errors import InvalidInput
from echelon.shared.messages import JsonValue

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Added


@click.command()
@click.argument("what", metavar="ID.STAGE")
@parameter_option
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Take the tasks from a JSON file: a list of objects, one task each, or one object (- is stdin).",
)
@click.option("--paused", is_flag=True, help="They are not started until 'echelon resume'.")
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

    The stage has not begun, or it is paused: 'echelon pause ID.STAGE'. One task with -p, or a list of them from a file.
    They take the inputs that the stage's tasks take, and are checked like the items of a spawn.json.

    \b
      echelon add 3f2a.Fetch -p url=https://www.example.com/late.txt
      echelon add 3f2a.1 --from items.json
    """
    place = find_place(client, what)
    if place.stage is None or place.index is not None:
        raise click.UsageError(f"tasks are added to a stage: write {place.job_id[:8]}.STAGE, a number or a name")
    if file is not None and written:
        raise click.UsageError("the tasks come from -p (one task) or from --from (a list), not from both")
    items = _one(client, place, written) if file is None else json_of(file, "--from")
    if not isinstance(items, list | dict):
        raise InvalidInput(f"{safe(file)} holds neither a list of objects nor one object")
    try:
        added = client.add_tasks(place.job_id, place.stage, items, paused=paused, etag=etag)
    except InvalidInput as error:
        raise InvalidInput(_explained(error, one=file is None)) from error
    if as_json:
        print_json(added)
    else:
        words(_told(place, added, paused))


def _explained(error: InvalidInput, *, one: bool) -> str:
    """Say what is wrong with the tasks; `one`: it was given with -p."""
    said = in_items(safe_message(error), getattr(error, "mistakes", ()), one=one)
    if said.endswith("too large"):
        said += ": send the tasks in several files, or let the controller take more (ECHELON_MAX_BODY)"
    return said


def _one(client: Client, place: Place, written: tuple[str, ...]) -> dict[str, JsonValue]:
    """Return the one task of -p, its texts as the types that the stage's task class declares."""
    if not written:
        return {}
    task_class = client.stage(place.job_id, cast(int, place.stage))["task_class"]
    known = {task["task_class"]: task["input"] for task in client.definitions()["tasks"]}
    types = {one["name"]: one["type"] or "string" for one in known.get(task_class, [])}
    return parameters(written, types)


def _told(place: Place, added: Added, paused: bool) -> str:
    number, first = len(added["task_ids"]), added["first_index"]
    names = str(Place(place.job_id, place.stage, str(first)))
    if number > 1:
        names += f" to {place.stage}.{first + number - 1}"
    held = ", paused" if paused else ""
    return f"{counted(number, 'task')} added to {place.named()}{held}: {names}"
