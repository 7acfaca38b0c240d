"""The HTTP client of a controller, for the command line and for users' programs. Imports no server code."""

from __future__ import annotations

from echelon.controller.client.client import Client
from echelon.controller.client.errors import Ambiguous, NotAllowed, Rejected, ServerFault, Unreachable

__all__ = ["Ambiguous", "Client", "NotAllowed", "Rejected", "ServerFault", "Unreachable"]
