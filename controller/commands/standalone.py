"""`echelon standalone`: controller, worker, broker and store in one process, with the REST interface in front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import with_settings
from echelon.controller.commands.screen import counted
from echelon.controller.commands.server import Inner, run_server
from echelon.controller.settings import Resolved

if TYPE_CHECKING:
    from echelon.controller.catalogue.watcher import Look


@click.command()
@with_settings(
    "catalogue", "volume", "listen", "slots", "datastore", "token", "insecure", "max_open_jobs",
    "allow_inline_commands",
)  # fmt: skip
def standalone(resolved: Resolved) -> None:
    """Run everything on this machine.

    Jobs are taken over REST and by 'echelon submit'. The catalogue is read again whenever it changes. Ctrl-C lets
    running tasks end (a second one ends them); what has not ended goes on with the next start.
    """
    settings = resolved.settings

    def build(first: Look) -> Inner:
        from echelon.controller.standalone import Standalone, StandaloneOptions

        return Standalone(settings, options=StandaloneOptions(drain_timeout=settings.drain_timeout), first=first)

    run_server(settings, build, about=counted(settings.slots, "slot"))
