"""`echelon health`: can the controller take and run jobs?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, with_client
from echelon.controller.commands.screen import Column, print_json, print_table, words
from echelon.shared.command import ExitCode

if TYPE_CHECKING:
    from echelon.controller.client import Client

_COLUMNS = (Column("PART"), Column("CONDITION", state=True), Column("DETAIL", wide=True))


@click.command()
@json_option
@with_client
def health(client: Client, as_json: bool) -> None:
    """Show whether the controller is ready.

    And the condition of what it leans on; exit code 1 when it is not ready.
    """
    found = client.health()
    if as_json:
        print_json(found)
    else:
        rows = [(one["name"], "ok" if one["ok"] else "bad", one["detail"]) for one in found["parts"]]
        print_table(_COLUMNS, rows, empty="the controller names no parts")
        words(f"{client.url} is {'ready' if found['ready'] else 'not ready'}")
    if not found["ready"]:
        raise click.exceptions.Exit(ExitCode.ENGINE)
