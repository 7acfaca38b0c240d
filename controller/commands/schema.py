"""`echelon schema`: print the JSON Schema of a catalogue file, with which editors complete and check it."""

from __future__ import annotations

import click

from echelon.controller.commands.screen import print_json


@click.command()
def schema() -> None:
    """Print the JSON Schema of a catalogue file.

    For editors: save it as catalogue.schema.json and begin the catalogue with

    \b
      # yaml-language-server: $schema=catalogue.schema.json
    """
    from echelon.controller.catalogue.jsonschema import json_schema

    print_json(json_schema())
