"""`echelon migrate`: bring a database to the schema of this release."""

from __future__ import annotations

import click

from controller.commands.options import with_settings
from controller.commands.screen import words
from controller.settings import Resolved, mask_password


@click.command()
@with_settings("datastore", "volume")
def migrate(resolved: Resolved) -> None:
    """Create or upgrade the tables of the datastore.

    A second run changes nothing. A SQLite file is migrated by standalone itself.
    """
    from controller.datastore.open import migrate as bring_up

    url = resolved.settings.datastore_url
    schema = bring_up(url)
    words(f"{mask_password(url)} has schema {schema}")
