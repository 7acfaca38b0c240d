"""What `echelon standalone` and `echelon controller` have in common: checks before the start, and what is served."""

from __future__ import annotations

import errno
import gc
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import click

from echelon.controller.commands.screen import counted, safe, words
from echelon.controller.commands.validate import tell
from echelon.controller.settings import Address, Settings
from echelon.shared.command import ExitCode

if TYPE_CHECKING:
    from echelon.controller.catalogue.definitions import Catalogue
    from echelon.controller.catalogue.watcher import Look
    from echelon.controller.engine.jobs import Jobs

#: Seconds in which whoever has listened at an address may let go of it: one that was killed just now needs a moment.
_LETS_GO = 5.0
_TRY_AGAIN = 0.1
#: Seconds beyond the tasks' own time in which everything else has ended.
_PATIENCE = 30.0
#: Reading requests that are answered at once: those that wait for a database elsewhere leave others time to compute.
_READERS_HERE, _READERS_ELSEWHERE = 2, 4


class Inner(Protocol):
    """What runs behind the interface."""

    @property
    def jobs(self) -> Jobs:
        """Return the use cases."""

    def start(self) -> None:
        """Begin to work."""

    def hurry(self) -> None:
        """Give what still runs no more time. Any thread may call it, during `stop`."""

    def stop(self) -> None:
        """End in order."""


def run_server(settings: Settings, build: Callable[[Look], Inner], *, about: str) -> None:
    """Check what can be checked before, then serve until a signal.

    `build` gets the catalogue as it was found; `about` is what the greeting says of the engine.
    """
    _refuse_open_door(settings)
    # Modules and a catalogue are no garbage.
    gc.disable()
    first, catalogue = _checked_catalogue(settings)
    _refuse_taken_address(settings.listen)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    for chatty in ("alembic", "pika"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL if chatty == "pika" else logging.WARNING)
    from echelon.controller.serving import Serving, serve

    gc.enable()
    ended = serve(
        Serving(
            listen=settings.listen,
            build=lambda: _Service(settings, build(first)),
            ready=lambda address: _greet(address, settings, catalogue, about),
            patience=settings.drain_timeout + _PATIENCE,
            max_body=settings.max_body,
            readers=_READERS_HERE if settings.datastore_url.startswith("sqlite:") else _READERS_ELSEWHERE,
        )
    )
    raise click.exceptions.Exit(ExitCode.ENGINE if ended else ExitCode.GOOD)


def _checked_catalogue(settings: Settings) -> tuple[Look, Catalogue]:
    """Return what the catalogue's files are now and the catalogue to begin with: the last good one if they are torn."""
    from echelon.controller.catalogue.last_good import LastGood
    from echelon.controller.catalogue.watcher import look

    if not settings.catalogue:
        raise click.UsageError("a catalogue is needed: --catalogue FILE, or ECHELON_CATALOGUE")
    first = look(settings.catalogue)
    catalogue = first.loaded.catalogue or LastGood(settings.volume, settings.catalogue).find()
    missing = [path for path in settings.catalogue if not path.exists()]
    if catalogue is None and missing:
        raise click.UsageError("there is no " + " and no ".join(safe(path) for path in missing))
    tell(first.loaded)
    if catalogue is None:
        raise click.exceptions.Exit(ExitCode.NOT_VALID)
    if first.loaded.catalogue is None:
        words(f"until this is mended, revision {catalogue.revision} is in force, the last good one")
    return first, catalogue


def _refuse_open_door(settings: Settings) -> None:
    """Without a token, whoever reaches the address may run commands here."""
    if not settings.listen.loopback and not settings.token and not settings.insecure:
        raise click.UsageError(
            f"{settings.listen} can be reached from other machines, and whoever reaches it may run jobs: set a token "
            "(--token-file, ECHELON_TOKEN or ECHELON_TOKEN_FILE), or say --insecure"
        )


def _refuse_taken_address(listen: Address) -> None:
    """Another program may listen there, most likely an engine that was forgotten."""
    deadline = time.monotonic() + _LETS_GO
    while not _free(listen):
        if time.monotonic() >= deadline:
            words(
                f"{listen} is taken by another program, perhaps by an engine that still runs: end that one, or give"
                " this one another address (--listen HOST:PORT)"
            )
            raise click.exceptions.Exit(ExitCode.ENGINE)
        time.sleep(_TRY_AGAIN)


def _free(listen: Address) -> bool:
    """Tell whether one could listen there. What else is wrong with the address is told by whoever tries for good."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def _greet(address: Address, settings: Settings, catalogue: Catalogue, about: str) -> None:
    jobs = list(catalogue.jobs)
    words(f"echelon listens on http://{address} (to try it in a browser: http://{address}/docs)")
    words(f"{counted(len(jobs), 'job')} in the catalogue, {about}, files in {safe(settings.volume)}")
    if settings.allow_inline_commands:
        words("commands that stand in a request are run: whoever can submit a job runs any program on the workers")
    if jobs:
        url = "" if settings.url == f"http://{address}" else f" --url http://{address}"
        words(f"to submit one: echelon submit{url} {safe(jobs[0])} --watch")


class _Service:
    """The service that gunicorn's second process runs: the interface and the engine behind it."""

    def __init__(self, settings: Settings, inner: Inner) -> None:
        self._settings = settings
        self._inner = inner
        self._stopping = threading.Event()

    def app(self) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
        """Return the interface."""
        from echelon.controller.app import ApiSettings, create_app

        return create_app(self._inner.jobs, ApiSettings.of(self._settings, self._stopping))

    def start(self) -> None:
        """Begin to work."""
        self._inner.start()

    def interrupt(self) -> None:
        """Begin to end; at the second call, running tasks get no more time."""
        if self._stopping.is_set():
            self._inner.hurry()
        self._stopping.set()

    def hurry(self) -> None:
        """Give nothing any more time: running tasks are ended, and go on with the next start."""
        self._stopping.set()
        # Once would leave them their grace.
        self._inner.hurry()
        self._inner.hurry()

    def stop(self) -> None:
        """Let running tasks end, then everything else."""
        self._inner.stop()
