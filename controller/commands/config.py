"""`echelon config`: what the settings are here and now, and who says so."""

from __future__ import annotations

import click

from echelon.controller.commands.options import json_option, with_settings
from echelon.controller.commands.screen import Column, print_json, print_table, words
from echelon.controller.settings import Resolved, default_file, table


@click.command()
@with_settings(*(one.name for one in table()))
@json_option
def config(resolved: Resolved, as_json: bool) -> None:
    """Show every setting, its value and its origin.

    A flag stands over an ECHELON_* variable, that over the config file, that over the default. Secrets are masked.
    """
    if as_json:
        print_json(
            [
                {"name": one.name, "value": value, "origin": origin, "variable": one.variable, "meaning": one.meaning}
                for one, value, origin in resolved.rows()
            ]
        )
        return
    columns = (Column("SETTING"), Column("VALUE"), Column("ORIGIN"), Column("VARIABLE"), Column("MEANING", wide=True))
    rows = [(one.name, value, origin, one.variable, one.meaning) for one, value, origin in resolved.rows()]
    print_table(columns, rows, empty="")
    words(f"config file: {resolved.file}" if resolved.file else f"no config file ({default_file()} would be read)")
