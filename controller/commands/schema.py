"""`echelon schema`: what a catalogue file may hold, for editors that complete and check while somebody writes."""

from __future__ import annotations

import click

from echelon.controller.commands.screen import print_json


@click.command()
def schema() -> None:
    """Print the JSON Schema of a catalogue file.

    Editors read it: save it as catalogue.schema.json and begin the file with

    \b
      # yaml-language-server: $schema=catalogue.schema.json
    """
    from echelon.controller.catalogue.jsonschema import json_schema

    print_json(json_schema())
