"""Settings of the REST interface, and the context that its views work with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from flask import current_app

from echelon.controller.api.unserved import ServedQueues
from echelon.controller.engine.jobs import Jobs
from echelon.controller.settings import Settings

_EXTENSION = "echelon"
#: Host names that a browser on this machine may use: any other could be DNS rebinding.
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """How the REST interface behaves."""

    #: Secret that every request must carry; empty: none.
    token: str = field(default="", repr=False)
    #: Names that the Host header may hold, without port; None: any.
    hosts: frozenset[str] | None = LOCAL_HOSTS
    #: Bytes of a request's body.
    max_body: int = 1 << 20
    #: Seconds without a heartbeat after which a worker is shown as LOST.
    lost_after: float = 15.0
    #: Set when the process is about to end: answers that wait or follow come to their end.
    stopping: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def from_settings(cls, settings: Settings, stopping: threading.Event | None = None) -> ApiSettings:
        """Return the settings of the interface from those of the controller."""
        # Named hosts hold on an open address too: in a container every address is open, its published port is not.
        guarded = not settings.token and (settings.listen.is_loopback or settings.hosts)
        return cls(
            token=settings.token,
            hosts=LOCAL_HOSTS | {name.lower() for name in (settings.listen.host, *settings.hosts)} if guarded else None,
            max_body=settings.max_body,
            lost_after=settings.lease,
            stopping=stopping or threading.Event(),
        )


@dataclass(frozen=True, slots=True)
class Context:
    """The objects that views work with."""

    jobs: Jobs
    settings: ApiSettings
    served_queues: ServedQueues
    #: Renders /metrics.
    metrics: Callable[[], bytes]


def install_context(extensions: dict[str, object], context: Context) -> None:
    """Let the views of an application find their context."""
    extensions[_EXTENSION] = context


def get_context() -> Context:
    """Return the context of the application that answers the present request."""
    return cast(Context, current_app.extensions[_EXTENSION])


def get_jobs() -> Jobs:
    """Return the use cases."""
    return get_context().jobs
