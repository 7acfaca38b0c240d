"""`echelon controller`: a controller as a separate process, for workers on any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import with_settings
from echelon.controller.commands.server import ServedEngine, run_server
from echelon.controller.settings import Resolved

if TYPE_CHECKING:
    from echelon.controller.catalogue.watcher import CatalogueLook


@click.command()
@with_settings(
    "catalogue", "volume", "broker", "datastore", "listen", "token", "insecure", "queue_type", "lease",
    "max_open_jobs", "allow_inline_commands",
)  # fmt: skip
def controller(resolved: Resolved) -> None:
    """Take jobs over REST and give their tasks to workers, over RabbitMQ.

    Several controllers may share one PostgreSQL datastore. Start workers with 'echelon worker'. When a controller
    stops, unfinished jobs go on with the other controllers, or at its next start.
    """
    settings = resolved.settings
    if not settings.broker:
        raise click.UsageError("a broker is needed: --broker-file, ECHELON_BROKER or ECHELON_BROKER_FILE")

    def build_engine(first: CatalogueLook) -> ServedEngine:
        from echelon.controller.serve import RemoteController

        return RemoteController(settings, first)

    run_server(settings, build_engine, about="workers over RabbitMQ")
