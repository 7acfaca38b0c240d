"""`echelon standalone`: controller, worker, broker and store in one process, with the REST interface in front."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from controller.commands.options import with_settings
from controller.commands.screen import counted, safe, words
from controller.commands.validate import checked
from controller.settings import Address, Resolved, Settings
from shared.command import ExitCode

if TYPE_CHECKING:
    from controller.catalogue.definitions import Catalogue

#: Seconds beyond the tasks' own time in which everything else has ended.
_PATIENCE = 30.0


@click.command()
@with_settings("catalogue", "volume", "listen", "slots", "datastore", "token", "insecure")
def standalone(resolved: Resolved) -> None:
    """Run everything on this machine.

    Jobs are taken over REST and by 'echelon submit'. The catalogue is read again whenever it changes. Ctrl-C lets
    running tasks end, a second one ends them, a third one kills them; they run again after the next start.
    """
    settings = resolved.settings
    if not settings.catalogue:
        raise click.UsageError("a catalogue is needed: --catalogue FILE, or ECHELON_CATALOGUE")
    missing = [path for path in settings.catalogue if not path.exists()]
    if missing:
        raise click.UsageError("there is no " + " and no ".join(safe(path) for path in missing))
    _refuse_open_door(settings)
    catalogue = checked(settings.catalogue)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    from controller.serving import Serving, serve

    ended = serve(
        Serving(
            listen=settings.listen,
            build=lambda: _Everything(settings),
            ready=lambda address: _greet(address, settings, catalogue),
            patience=settings.drain_timeout + _PATIENCE,
            max_body=settings.max_body,
        )
    )
    raise click.exceptions.Exit(ExitCode.ENGINE if ended else ExitCode.GOOD)


def _refuse_open_door(settings: Settings) -> None:
    """Without a token, whoever reaches the address may run commands here."""
    if not settings.listen.loopback and not settings.token and not settings.insecure:
        raise click.UsageError(
            f"{settings.listen} can be reached from other machines, and whoever reaches it may run jobs: set a token "
            "(--token-file, ECHELON_TOKEN or ECHELON_TOKEN_FILE), or say --insecure"
        )


def _greet(address: Address, settings: Settings, catalogue: Catalogue) -> None:
    jobs = list(catalogue.jobs)
    words(f"echelon listens on http://{address} (to try it in a browser: http://{address}/docs)")
    room = counted(settings.slots, "slot")
    words(f"{counted(len(jobs), 'job')} in the catalogue, {room}, files in {safe(settings.volume)}")
    if jobs:
        url = "" if settings.url == f"http://{address}" else f" --url http://{address}"
        words(f"to submit one: echelon submit{url} {safe(jobs[0])} --watch")


class _Everything:
    """The service that gunicorn's second process runs: the interface and the engine behind it."""

    def __init__(self, settings: Settings) -> None:
        from controller.standalone import Standalone, StandaloneOptions

        self._settings = settings
        self._inner = Standalone(settings, options=StandaloneOptions(drain_timeout=settings.drain_timeout))
        self._stopping = threading.Event()
        self._interrupts = 0

    def app(self) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
        """Return the interface."""
        from controller.app import ApiSettings, create_app

        return create_app(self._inner.jobs, ApiSettings.of(self._settings, self._stopping))

    def start(self) -> None:
        """Begin to work."""
        self._inner.start()

    def interrupt(self) -> None:
        """Begin to end; at the second call running tasks get no time but their grace, at the third not even that."""
        self._interrupts += 1
        self._stopping.set()
        if self._interrupts == 2:
            self._inner.hurry()
        elif self._interrupts > 2:
            # Not here: the thread that a signal interrupts may hold a lock that this needs.
            threading.Thread(target=self._inner.kill, daemon=True).start()

    def stop(self) -> None:
        """Let running tasks end, then everything else."""
        self._inner.stop()
