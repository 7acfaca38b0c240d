"""`echelon health`: tell whether the controller can accept and run jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, with_client
from echelon.controller.commands.screen import print_json, print_message
from echelon.controller.commands.tables import Column, print_table
from echelon.shared.command import ExitCode

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Readiness, ReadinessPart

_COLUMNS: tuple[Column[ReadinessPart], ...] = (
    Column("PART", lambda part: part["name"]),
    Column("CONDITION", lambda part: "ok" if part["ok"] else "bad", state=True),
    Column("DETAIL", lambda part: part["detail"], note=True),
)


@click.command()
@json_option
@with_client
def health(client: Client, as_json: bool) -> None:
    """Show whether the controller is ready, and the condition of its parts.

    The exit code is 1 when it is not ready, and 9 when it accepts jobs but tasks wait for a worker.
    """
    found = client.get_health()
    if as_json:
        print_json(found)
    else:
        print_table(_COLUMNS, found["parts"], empty="the controller names no parts")
        print_message(f"{client.url} {_describe_health(found)}")
    if not found["ready"]:
        raise click.exceptions.Exit(ExitCode.ENGINE)
    if not found["working"]:
        raise click.exceptions.Exit(ExitCode.NO_WORKER)


def _describe_health(found: Readiness) -> str:
    if not found["ready"]:
        return "is not ready"
    return "is ready" if found["working"] else "accepts jobs, but lacks workers for their tasks"
