"""The server of `echelon standalone` and `echelon controller`: checks before the start, and the service itself."""

from __future__ import annotations

import errno
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import click

from echelon.controller.commands.screen import escape_text, format_count, print_message
from echelon.controller.commands.validate import print_mistakes
from echelon.controller.settings import Address, Settings
from echelon.shared.command import ExitCode
from echelon.shared.logs import ACCESS, set_up_logging

if TYPE_CHECKING:
    from echelon.controller.catalogue.definitions import Catalogue
    from echelon.controller.catalogue.watcher import CatalogueLook
    from echelon.controller.engine.jobs import Jobs

#: Seconds for which a taken address is tried: a process that was just killed needs a moment to release it.
_ADDRESS_WAIT = 5.0
_TRY_AGAIN = 0.1
#: Addresses of all interfaces, and the one of them at which this machine reaches itself.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
#: Seconds beyond the drain timeout until everything has ended.
_PATIENCE = 30.0
#: Reading requests answered at once: more with a database server, since waiting for it leaves others time to compute.
_READERS_HERE, _READERS_ELSEWHERE = 2, 4


class ServedEngine(Protocol):
    """The engine behind the interface."""

    @property
    def jobs(self) -> Jobs:
        """Return the use cases."""

    def start(self) -> None:
        """Begin to work."""

    def hurry(self) -> None:
        """Give running tasks no more time. Any thread may call it, also during `stop`."""

    def stop(self) -> None:
        """End in order."""


def run_server(settings: Settings, build: Callable[[CatalogueLook], ServedEngine], *, about: str) -> None:
    """Check the settings and the catalogue, then serve until a signal.

    `build` gets the catalogue as it was read; `about` describes the engine in the welcome message.
    """
    _check_token(settings)
    # Modules and the catalogue stay: collecting garbage among them would only cost time.
    gc.disable()
    first, catalogue = _load_catalogue(settings)
    _check_address(settings.listen)
    set_up_logging(settings.log_level, settings.log_format)
    ACCESS.disabled = not settings.access_log
    from echelon.controller.serving import Serving, serve

    gc.enable()
    failed = serve(
        Serving(
            listen=settings.listen,
            build=lambda: _EngineService(settings, build(first)),
            ready=lambda address: _print_welcome(address, settings, catalogue, about),
            patience=settings.drain_timeout + _PATIENCE,
            max_body=settings.max_body,
            readers=_READERS_HERE if settings.datastore_url.startswith("sqlite:") else _READERS_ELSEWHERE,
        )
    )
    raise click.exceptions.Exit(ExitCode.ENGINE if failed else ExitCode.GOOD)


def _load_catalogue(settings: Settings) -> tuple[CatalogueLook, Catalogue]:
    """Return the catalogue's files as read now, and the catalogue to use: the last good one if they are invalid."""
    from echelon.controller.catalogue.last_good import LastGood
    from echelon.controller.catalogue.watcher import look_at_files

    if not settings.catalogue:
        raise click.UsageError("a catalogue is needed: --catalogue FILE, or ECHELON_CATALOGUE")
    first = look_at_files(settings.catalogue)
    catalogue = first.loaded.catalogue or LastGood(settings.volume, settings.catalogue).read_catalogue()
    missing = [path for path in settings.catalogue if not path.exists()]
    if catalogue is None and missing:
        raise click.UsageError("there is no " + " and no ".join(escape_text(path) for path in missing))
    print_mistakes(first.loaded)
    if catalogue is None:
        raise click.exceptions.Exit(ExitCode.NOT_VALID)
    if first.loaded.catalogue is None:
        print_message(f"until this is corrected, the last good revision, {catalogue.revision}, is in force")
    return first, catalogue


def _check_token(settings: Settings) -> None:
    """Require a token if other machines reach the address: without one, any program there may run commands here."""
    if not settings.listen.is_loopback and not settings.token and not settings.insecure:
        raise click.UsageError(
            f"other machines can reach {settings.listen}, and any program there may run jobs: set a token "
            "(--token-file, ECHELON_TOKEN or ECHELON_TOKEN_FILE), or accept this with --insecure"
        )


def _check_address(listen: Address) -> None:
    """Require that this program can listen at the address; most often it is one that a forgotten engine has."""
    deadline = time.monotonic() + _ADDRESS_WAIT
    while (obstacle := _find_obstacle(listen)) is not None:
        if obstacle.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
            print_message(_explain_obstacle(listen, obstacle))
            raise click.exceptions.Exit(ExitCode.ENGINE)
        time.sleep(_TRY_AGAIN)


def _find_obstacle(listen: Address) -> OSError | None:
    """Return why nothing can listen at the address; None when it is free."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((listen.host, listen.port))
    except OSError as error:
        return error
    return None


def _explain_obstacle(listen: Address, error: OSError) -> str:
    host = escape_text(listen.host)
    if error.errno == errno.EADDRINUSE:
        return (
            f"{listen} is taken by another program, perhaps by an engine that still runs: end that one, or choose"
            " another address (--listen HOST:PORT)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"no interface of this machine has the address {host}: choose another one (--listen HOST:PORT)"
    if isinstance(error, socket.gaierror):
        return f"the name {host} has no address here ({error.strerror}): choose another one (--listen HOST:PORT)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not listen at port {listen.port}: choose one from 1024 on (--listen HOST:PORT)"
    return f"nothing can listen at {escape_text(listen)} ({error.strerror}): choose another one (--listen HOST:PORT)"


def _print_welcome(address: Address, settings: Settings, catalogue: Catalogue, about: str) -> None:
    jobs = list(catalogue.jobs)
    if address.host in _ANYWHERE:
        # The address of no machine: browsers and clients need one.
        address = Address(_ANYWHERE[address.host], address.port)
    print_message(f"echelon listens on http://{address} (to try it in a browser: http://{address}/docs)")
    print_message(
        f"{format_count(len(jobs), 'job')} in the catalogue, {about}, files in {escape_text(settings.volume)}"
    )
    if settings.allow_inline_commands:
        print_message(
            "commands in requests are allowed: any client that submits jobs can run any program on the workers"
        )
    if settings.task_user and not settings.token:
        print_message(
            f"tasks can call this interface, as every program here: each can read, end and submit jobs although it runs"
            f" as {escape_text(settings.task_user)}. Set a token (ECHELON_TOKEN_FILE)"
        )
    if jobs:
        url = "" if settings.url == f"http://{address}" else f" --url http://{address}"
        print_message(f"to submit one: echelon submit{url} {escape_text(jobs[0])} --watch")


class _EngineService:
    """The service of gunicorn's second process: the interface and the engine behind it."""

    def __init__(self, settings: Settings, engine: ServedEngine) -> None:
        self._settings = settings
        self._engine = engine
        self._stopping = threading.Event()

    def app(self) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
        """Return the interface."""
        from echelon.controller.app import ApiSettings, create_app

        return create_app(self._engine.jobs, ApiSettings.from_settings(self._settings, self._stopping))

    def start(self) -> None:
        """Begin to work."""
        self._engine.start()

    def interrupt(self) -> None:
        """Begin to end; the second call gives running tasks no more time."""
        if self._stopping.is_set():
            self._engine.hurry()
        self._stopping.set()

    def hurry(self) -> None:
        """End running tasks now; they go on at the next start."""
        self._stopping.set()
        # The second call takes their grace as well.
        self._engine.hurry()
        self._engine.hurry()

    def stop(self) -> None:
        """Let running tasks end, then everything else."""
        self._engine.stop()
