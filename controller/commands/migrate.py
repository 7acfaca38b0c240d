"""`echelon migrate`: bring a database to the schema of this release."""

from __future__ import annotations

import time

import click

from echelon.controller.commands.options import with_settings
from echelon.controller.commands.screen import words
from echelon.controller.settings import Resolved, mask_password, seconds
from echelon.shared.errors import StoreUnavailable

#: Seconds between two looks for a server that does not answer yet.
_LOOK_AGAIN = 0.5


class _Time(click.ParamType[float]):
    """A length of time."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds."""
        try:
            return seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--wait", "patience", type=_Time(), default="0s", help="How long to wait for a server that is not there.")
@with_settings("datastore", "volume")
def migrate(resolved: Resolved, patience: float) -> None:
    """Create or upgrade the tables of the datastore.

    A second run changes nothing. A SQLite file is migrated by standalone itself.
    """
    url = resolved.settings.datastore_url
    schema = _bring_up(url, until=time.monotonic() + patience)
    words(f"{mask_password(url)} has schema {schema}")


def _bring_up(url: str, *, until: float) -> str:
    """Migrate, again and again as long as nobody answers; a moment of the monotonic clock ends it."""
    from echelon.controller.datastore.open import migrate as bring_up

    while True:
        try:
            return bring_up(url)
        except StoreUnavailable:
            if time.monotonic() >= until:
                raise
            time.sleep(_LOOK_AGAIN)
