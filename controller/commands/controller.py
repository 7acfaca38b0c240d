"""`echelon controller`: a controller as a process of its own; workers on any machine do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import with_settings
from echelon.controller.commands.server import Inner, run_server
from echelon.controller.settings import Resolved

if TYPE_CHECKING:
    from echelon.controller.catalogue.watcher import Look


@click.command()
@with_settings(
    "catalogue", "volume", "broker", "datastore", "listen", "token", "insecure", "queue_type", "lease",
    "max_open_jobs", "allow_inline_commands",
)  # fmt: skip
def controller(resolved: Resolved) -> None:
    """Take jobs and hand their tasks to workers, over RabbitMQ.

    Several controllers may share one PostgreSQL datastore. Workers are started with 'echelon worker'. What has not
    ended when a controller stops goes on with the others, or with its next start.
    """
    settings = resolved.settings
    if not settings.broker:
        raise click.UsageError("a broker is needed: --broker-file, ECHELON_BROKER or ECHELON_BROKER_FILE")

    def build(first: Look) -> Inner:
        from echelon.controller.serve import RemoteController

        return RemoteController(settings, first)

    run_server(settings, build, about="workers over RabbitMQ")
