"""Live control for pause, resume, cancel, kill, retry and skip: their options, the request, and its result.

A new verb is a command in control.py: it names its REST verb and the two sentences of its report.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from echelon.controller.commands.targets import TARGET_METAVAR, Target, find_target, find_task
from echelon.controller.commands.values import parse_headers, parse_parameters
from echelon.shared.errors import NotFound
from echelon.shared.messages import JsonValue

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.control import Verb
    from echelon.controller.shapes import ChangeResult

_target_argument = click.argument("what", metavar=TARGET_METAVAR)
if_match_option = click.option(
    "--if-match",
    "etag",
    metavar="ETAG",
    # A header shows it in quotes.
    callback=lambda _context, _option, value: None if value is None else value.strip().strip('"'),
    help="Only if it has not changed since this etag was read ('show --json' and 'tasks --json' print etags).",
)


@dataclass(frozen=True, slots=True)
class VerbRequest:
    """A request to change a target, without its verb."""

    client: Client
    target: Target
    state: str | None
    etag: str | None
    as_json: bool
    #: Secrets for an ended job that opens again.
    values: Mapping[str, JsonValue]
    headers: Mapping[str, str]

    def carry_out(
        self,
        verb: Verb,
        one: str,
        several: str,
        *,
        of_tasks: bool = False,
        only_failed: bool = True,
        downstream: bool = False,
    ) -> bool:
        """Send the request and print its result; return whether anything was changed.

        `one` and `several` describe one changed thing and several. `of_tasks`: the verb is for tasks, even if a job or
        a stage is named.
        """
        answer = self.send_verb(verb, only_failed=only_failed, downstream=downstream)
        if self.as_json:
            print_json(answer)
        else:
            for line in self._describe_result(answer, one, several, of_tasks):
                print_message(line)
        return any(answer["changed"].values())

    def send_verb(self, verb: Verb, *, only_failed: bool = True, downstream: bool = False) -> ChangeResult:
        """Send the request to the controller."""
        client, target, state, etag = self.client, self.target, self.state, self.etag
        with explain_inputs():
            if target.is_one_task:
                if state is not None:
                    raise click.UsageError("--state chooses among the tasks of a job, a stage or a range of indexes")
                return client.change_task(
                    verb, find_task(client, target)["task_id"], only_failed=only_failed, downstream=downstream,
                    etag=etag, input=self.values, headers=self.headers,
                )  # fmt: skip
            if target.stage is None:
                return client.change_job(
                    verb, target.job_id, state=state, only_failed=only_failed, downstream=downstream,
                    etag=etag, input=self.values, headers=self.headers,
                )  # fmt: skip
            return client.change_stage(
                verb, target.job_id, target.stage, index=target.index, state=state, only_failed=only_failed,
                downstream=downstream, etag=etag, input=self.values, headers=self.headers,
            )  # fmt: skip

    def _describe_result(self, answer: ChangeResult, one: str, several: str, of_tasks: bool) -> Iterator[str]:
        """Yield lines about the changed and the unchanged things."""
        target, name = self.target, self.target.describe_target()
        changed, unchanged = answer["changed"], answer["unchanged"]
        tasks, itself = changed["tasks"], changed["jobs"] or changed["stages"]
        is_range = target.index is not None and not target.is_one_task
        if target.is_one_task or not (self.state is not None or is_range or of_tasks):
            if not (tasks or itself):
                reason = escape_text(unchanged[0]["reason"]) if unchanged else "it is so already"
                yield f"{name}: nothing to do, {reason}"
                return
            with_it = f", {format_count(tasks, 'task')} with it" if tasks and target.index is None else ""
            yield f"{name} {one}{with_it}"
        elif itself and not tasks:
            yield f"{name} {one}"
        else:
            number = format_count(tasks, "task") if tasks else "no task"
            yield f"{number} of {target if is_range else name} {one if tasks < 2 else several}"
        state = answer.get("state")
        if of_tasks and tasks and not target.is_one_task and state not in ("PENDING", "RUNNING"):
            yield f"  the {'job' if target.stage is None else 'stage'} is {state} now"
        for group in unchanged:
            yield f"  {group['count']} not: {escape_text(group['reason'])}"
        # A controller of an earlier release sends none.
        if answer.get("hint"):
            yield f"  {describe_hint(answer)}"


def describe_hint(answer: ChangeResult) -> str:
    """Return what a retry did not do, and the way to have it done."""
    return f"{escape_text(answer['hint'])}; --downstream lets later stages run again"


def verb_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every verb; the command gets a `VerbRequest` as its first argument."""

    @functools.wraps(function)
    def call(
        client: Client,
        what: str,
        state: str | None,
        etag: str | None,
        as_json: bool,
        written: tuple[str, ...] = (),
        header_lines: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        target = find_target(client, what)
        headers = parse_headers(header_lines)
        values = parse_parameters(written, _find_types(client, target.job_id) if written else {})
        function(VerbRequest(client, target, state, etag, as_json, values, headers), **more)

    return _target_argument(state_option(if_match_option(json_option(with_client(call)))))


def opening_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add -p and -H, for the secrets of an ended job that the verb opens again; below `verb_options`."""
    return parameter_option(header_option(function))


def _find_types(client: Client, job_id: str) -> dict[str, str]:
    """Return the types of a job's inputs; none if the catalogue does not have its type any more."""
    try:
        return find_input_types(client, client.get_job(job_id)["type"])
    except NotFound:
        return {}
