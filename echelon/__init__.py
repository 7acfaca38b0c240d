"""Echelon's public interface: the client of the REST interface, its errors, and the types of its answers (`shapes`).

    from echelon import Client

    with Client("http://127.0.0.1:8080") as client:
        job = client.submit_job("hello", input={"name": "Ada"}, wait=60)
        print(job["state"])

Everything below `echelon.controller`, `echelon.worker` and `echelon.shared` is internal and may change with any
release. Names are loaded on first use, so that processes which never use the client do not load its HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echelon.controller import shapes as shapes
    from echelon.controller.client import Ambiguous as Ambiguous
    from echelon.controller.client import Client as Client
    from echelon.controller.client import NotAllowed as NotAllowed
    from echelon.controller.client import Rejected as Rejected
    from echelon.controller.client import ServerFault as ServerFault
    from echelon.controller.client import Unreachable as Unreachable
    from echelon.shared.errors import Conflict as Conflict
    from echelon.shared.errors import EchelonError as EchelonError
    from echelon.shared.errors import NotFound as NotFound
    from echelon.shared.errors import PreconditionFailed as PreconditionFailed
    from echelon.shared.errors import Unavailable as Unavailable

    __version__: str

__all__ = [
    "Ambiguous",
    "Client",
    "Conflict",
    "EchelonError",
    "NotAllowed",
    "NotFound",
    "PreconditionFailed",
    "Rejected",
    "ServerFault",
    "Unavailable",
    "Unreachable",
    "shapes",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("echelon")
    if name == "shapes":
        from echelon.controller import shapes

        return shapes
    if name in __all__:
        from echelon.controller import client
        from echelon.shared import errors

        return getattr(client, name, None) or getattr(errors, name)
    raise AttributeError(f"module 'echelon' has no attribute {name!r}")
