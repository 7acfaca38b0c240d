"""`echelon retry`: run again what has failed or was cancelled; what was skipped when it is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.screen import print_message
from echelon.controller.commands.targets import find_target
from echelon.controller.commands.verbs import Wish, carry_out, change, given, opening_options, verb_options
from echelon.controller.commands.watch import watch_to_end

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.control import TaskSecrets


@click.command()
@verb_options
@opening_options
@click.option(
    "--all", "everything", is_flag=True, help="What has completed or was skipped too; what runs is killed first."
)
@click.option("--watch", "then_watch", is_flag=True, help="Watch the job to its end; the exit code says how it ended.")
def retry(
    client: Client,
    what: str,
    state: str | None,
    etag: str | None,
    as_json: bool,
    written: tuple[str, ...],
    header_lines: tuple[str, ...],
    secrets: TaskSecrets,
    everything: bool,
    then_watch: bool,
) -> None:
    """Run again what has failed or was cancelled.

    No limit of attempts stops it, and an ended job opens again; what has completed stays. What was skipped runs again
    when its task is named, or with --state skipped. A running task that is named is killed first. Secret inputs were
    erased when the job ended; they are given again with -p and -H, those of single tasks with --secrets.

    \b
      echelon retry 3f2a                       all that has failed
      echelon retry 3f2a.1.17                  one task
      echelon retry 3f2a.1.0-99 --all          these 100, the completed ones too
    """
    place = find_target(client, what)
    values, sent = given(client, place, written, header_lines)
    wish = Wish(state, etag, not everything, values, sent, secrets)
    if then_watch:
        change(client, "retry", place, wish)
        watch_to_end(client, client.job(place.job_id), as_json=as_json)
        return
    if carry_out(client, "retry", place, wish, as_json=as_json) and not as_json:
        print_message(f"'echelon watch {place.job_id[:8]}' shows it")
