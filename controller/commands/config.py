"""`echelon config`: show the settings in force and the origin of each."""

from __future__ import annotations

import click

from echelon.controller.commands.options import json_option, with_settings
from echelon.controller.commands.screen import print_json, print_message
from echelon.controller.commands.tables import Column, print_table
from echelon.controller.settings import Resolved, list_settings
from echelon.shared.settings import Setting, default_file

_COLUMNS: tuple[Column[tuple[Setting, str, str]], ...] = (
    Column("SETTING", lambda row: row[0].name),
    Column("VALUE", lambda row: row[1], note=True),
    Column("ORIGIN", lambda row: row[2]),
    Column("VARIABLE", lambda row: row[0].variable, spare=1),
    Column("MEANING", lambda row: row[0].meaning, note=True),
)


@click.command()
@with_settings(*(one.name for one in list_settings()))
@json_option
def config(resolved: Resolved, as_json: bool) -> None:
    """Show every setting, its value and its origin.

    A flag overrides an ECHELON_* variable, that overrides the config file, and that the default. Secrets are masked.
    """
    rows = resolved.rows()
    if as_json:
        keys = ("name", "value", "origin", "variable", "meaning")
        print_json([dict(zip(keys, (column.cell(row) for column in _COLUMNS), strict=True)) for row in rows])
        return
    print_table(_COLUMNS, rows, empty="")
    file = f"config file: {resolved.file}" if resolved.file else f"no config file ({default_file()} would be read)"
    print_message(file)
