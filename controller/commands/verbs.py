"""What pause, resume, cancel, kill, retry and skip have in common: their options, and what is said after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from echelon.controller.commands.options import (
    explain_inputs,
    header_option,
    json_option,
    parameter_option,
    state_option,
    with_client,
)
from echelon.controller.commands.screen import escape_text, format_count, print_json, print_message
from echelon.controller.commands.submit import find_input_types
from echelon.controller.commands.targets import TARGET_METAVAR, Target, find_task
from echelon.controller.commands.values import parse_headers, parse_parameters
from echelon.shared.errors import NotFound
from echelon.shared.messages import JsonValue

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Changed
    from echelon.controller.client.control import TaskSecrets, Verb

#: What has become of one thing, and of several.
_BECAME: Final = {
    "pause": ("is paused", "are paused"),
    "resume": ("goes on", "go on"),
    "cancel": ("is CANCELLED", "are CANCELLED"),
    "kill": ("is killed", "are killed"),
    "retry": ("runs again", "run again"),
    "skip": ("is SKIPPED", "are SKIPPED"),
}
#: These are meant for tasks, even when a job or a stage is named.
_OF_TASKS: Final = ("kill", "retry")

if_match_option = click.option(
    "--if-match",
    "etag",
    metavar="ETAG",
    # As a header shows it, it stands in quotes.
    callback=lambda _context, _make_option, value: None if value is None else value.strip().strip('"'),
    help="Only if it is still as it was when this etag was read (the --json of 'show' and 'tasks' tells etags).",
)


def _task_secrets(_context: click.Context, _option: click.Parameter, value: Path | None) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        found = json.loads(value.read_text())
    except (OSError, ValueError) as error:
        # Not the words of a JSON error: a part of a secret may stand in them.
        why = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise click.UsageError(f"--secrets {escape_text(str(value))}: {why}") from error
    if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
        raise click.UsageError(f'--secrets {escape_text(str(value))}: it has to hold {{"TASK_ID": {{"NAME": VALUE}}}}')
    return found


_secrets_option = click.option(
    "--secrets",
    "secrets",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=_task_secrets,
    help='JSON file with secrets of single tasks, erased when their job had ended: {"TASK_ID": {"NAME": VALUE}}.',
)
_place_argument = click.argument("what", metavar=TARGET_METAVAR)
_OPTIONS: Final = (_place_argument, state_option, if_match_option, json_option, with_client)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of a place, beside the verb."""

    state: str | None = None
    etag: str | None = None
    only_failed: bool = True
    #: Values for a job that opens again.
    values: Mapping[str, JsonValue] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    tasks: TaskSecrets = field(default_factory=dict)


def verb_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what every verb takes: the command gets `client`, `what`, `state`, `etag` and `as_json`."""
    decorated: Callable[..., Any] = function
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def opening_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what a verb takes that may open an ended job again: `written`, `header_lines` and `secrets`."""
    return parameter_option(header_option(_secrets_option(function)))


def carry_out(client: Client, verb: Verb, place: Target, wish: Wish, *, as_json: bool) -> bool:
    """Do something to a place, and tell what came of it; return whether anything was changed."""
    answer = change(client, verb, place, wish)
    if as_json:
        print_json(answer)
    else:
        for line in outcome(verb, place, answer, chosen=wish.state is not None):
            print_message(line)
    return any(answer["changed"].values())


def change(client: Client, verb: Verb, place: Target, wish: Wish) -> Changed:
    """Ask the controller for it."""
    with explain_inputs():
        if place.is_one_task:
            if wish.state is not None:
                raise click.UsageError("--state chooses among the tasks of a job, a stage or a range of indexes")
            task_id = find_task(client, place)["task_id"]
            return client.change_task(
                verb,
                task_id,
                only_failed=wish.only_failed,
                etag=wish.etag,
                input=wish.values,
                headers=wish.headers,
                tasks=wish.tasks,
            )
        if place.stage is None:
            return client.change_job(
                verb, place.job_id, state=wish.state, only_failed=wish.only_failed, etag=wish.etag,
                input=wish.values, headers=wish.headers, tasks=wish.tasks,
            )  # fmt: skip
        return client.change_stage(
            verb, place.job_id, place.stage, index=place.index, state=wish.state, only_failed=wish.only_failed,
            etag=wish.etag, input=wish.values, headers=wish.headers, tasks=wish.tasks,
        )  # fmt: skip


def outcome(verb: Verb, place: Target, answer: Changed, *, chosen: bool) -> Iterator[str]:
    """Yield what has been changed and what has not, in words; `chosen`: tasks of the place were meant, not itself."""
    one, several = _BECAME[verb]
    changed, left, name = answer["changed"], answer["unchanged"], place.describe_target()
    tasks, itself = changed["tasks"], changed["jobs"] or changed["stages"]
    ranged = place.index is not None and not place.is_one_task
    if not (chosen or ranged or verb in _OF_TASKS) or place.is_one_task:
        if not (tasks or itself):
            yield f"{name}: nothing to do, {escape_text(left[0]['reason']) if left else 'it is so already'}"
            return
        yield f"{name} {one}" + (f", {format_count(tasks, 'task')} with it" if tasks and not place.is_one_task else "")
    elif itself and not tasks:
        yield f"{name} {one}"
    else:
        told = f"{format_count(tasks, 'task') if tasks else 'no task'} of {place if ranged else name}"
        yield f"{told} {one if tasks < 2 else several}"
    for group in left:
        yield f"  {group['count']} not: {escape_text(group['reason'])}"


def given(
    client: Client, place: Target, written: tuple[str, ...], header_lines: tuple[str, ...]
) -> tuple[dict[str, JsonValue], dict[str, str]]:
    """Return the values of -p and -H for a job that opens again."""
    sent = parse_headers(header_lines)
    return parse_parameters(written, _types(client, place.job_id) if written else {}), sent


def _types(client: Client, job_id: str) -> dict[str, str]:
    """Return the types of a job's inputs; none when its type is in the catalogue no more."""
    try:
        return find_input_types(client, client.job(job_id)["type"])
    except NotFound:
        return {}
