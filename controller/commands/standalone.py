"""`echelon standalone`: controller, worker, broker, store and REST interface in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import with_settings
from echelon.controller.commands.screen import format_count
from echelon.controller.commands.server import ServedEngine, run_server
from echelon.controller.settings import Resolved

if TYPE_CHECKING:
    from echelon.controller.catalogue.watcher import CatalogueLook


@click.command()
@with_settings(
    "catalogue", "volume", "listen", "slots", "datastore", "token", "insecure", "max_open_jobs",
    "allow_inline_commands",
)  # fmt: skip
def standalone(resolved: Resolved) -> None:
    """Run everything on this machine.

    It takes jobs over REST and from 'echelon submit', and reads the catalogue again whenever it changes. On Ctrl-C
    running tasks may end; a second Ctrl-C ends them. Unfinished jobs go on at the next start.
    """
    settings = resolved.settings

    def build_engine(first: CatalogueLook) -> ServedEngine:
        from echelon.controller.standalone import Standalone, StandaloneOptions

        options = StandaloneOptions(drain_timeout=settings.drain_timeout, sole_parent=True)
        return Standalone(settings, options=options, first=first)

    run_server(settings, build_engine, about=format_count(settings.slots, "slot"))
