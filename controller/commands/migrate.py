"""`echelon migrate`: bring a database to the schema of this release."""

from __future__ import annotations

import time

import click

from echelon.controller.commands.options import LENGTH_OF_TIME, with_settings
from echelon.controller.commands.screen import print_message
from echelon.controller.settings import Resolved
from echelon.shared.errors import StoreUnavailable
from echelon.shared.readers import mask_password

#: Seconds between two attempts to reach a server.
_TRY_AGAIN = 0.5


@click.command()
@click.option("--wait", "patience", type=LENGTH_OF_TIME, default="0s", help="How long to wait for the server.")
@with_settings("datastore", "volume")
def migrate(resolved: Resolved, patience: float) -> None:
    """Create or upgrade the tables of the datastore.

    A second run changes nothing. 'echelon standalone' migrates its SQLite file itself.
    """
    from echelon.controller.datastore.open import migrate_datastore

    url = resolved.settings.datastore_url
    deadline = time.monotonic() + patience
    while True:
        try:
            schema = migrate_datastore(url)
            break
        except StoreUnavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_TRY_AGAIN)
    print_message(f"{mask_password(url)} has schema {schema}")
