"""`echelon pause`, `resume`, `cancel`, `kill` and `skip`: what people do to jobs that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.targets import find_target
from echelon.controller.commands.verbs import Wish, carry_out, given, opening_options, verb_options

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.control import TaskSecrets


@click.command()
@verb_options
def pause(client: Client, what: str, state: str | None, etag: str | None, as_json: bool) -> None:
    """Hold a job, a stage or tasks.

    Nothing of it is started until 'echelon resume'; what runs goes on. STAGE is a number from 0 or a name, INDEX a
    number, ranges such as 0-99,150, or spawn.

    \b
      echelon pause 3f2a            the job whose id begins with 3f2a
      echelon pause 3f2a.Publish    its stage Publish
      echelon pause 3f2a.1.0-99     the first 100 tasks of its stage 1
    """
    carry_out(client, "pause", find_target(client, what), Wish(state, etag), as_json=as_json)


@click.command()
@verb_options
def resume(client: Client, what: str, state: str | None, etag: str | None, as_json: bool) -> None:
    """Let go on what was paused.

    What was paused as a job, as a stage or as a task is resumed as that.

    \b
      echelon resume 3f2a
      echelon resume 3f2a.Publish
      echelon resume 3f2a.1.0-99
    """
    carry_out(client, "resume", find_target(client, what), Wish(state, etag), as_json=as_json)


@click.command()
@verb_options
def cancel(client: Client, what: str, state: str | None, etag: str | None, as_json: bool) -> None:
    """End a job, a stage or tasks for good.

    Nothing of it starts any more, and what runs is ended with all its processes. 'echelon retry' opens it again.

    \b
      echelon cancel 3f2a
      echelon cancel 3f2a.1.17
      echelon cancel 3f2a.1 --state queued
    """
    carry_out(client, "cancel", find_target(client, what), Wish(state, etag), as_json=as_json)


@click.command()
@verb_options
def kill(client: Client, what: str, state: str | None, etag: str | None, as_json: bool) -> None:
    """End what runs now, as a failed attempt.

    With all its processes. As far as its retries go it is tried again; 'echelon pause' first keeps it from that.

    \b
      echelon kill 3f2a.1.17
      echelon kill 3f2a
    """
    carry_out(client, "kill", find_target(client, what), Wish(state, etag), as_json=as_json)


@click.command()
@verb_options
@opening_options
def skip(
    client: Client,
    what: str,
    state: str | None,
    etag: str | None,
    as_json: bool,
    written: tuple[str, ...],
    header_lines: tuple[str, ...],
    secrets: TaskSecrets,
) -> None:
    """Count a job, a stage or tasks as done.

    They are not run, and what runs is ended. The next stage may start, and a job that failed goes on; secrets that
    were erased at its end are given again with -p and -H, those of single tasks with --secrets.

    \b
      echelon skip 3f2a.1.17
      echelon skip 3f2a.1 --state failed
      echelon skip 3f2a.Publish
    """
    place = find_target(client, what)
    values, sent = given(client, place, written, header_lines)
    carry_out(client, "skip", place, Wish(state, etag, values=values, headers=sent, tasks=secrets), as_json=as_json)
