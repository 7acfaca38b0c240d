"""The HTTP client of a running controller: for the command line and for anyone's program.

Knows the REST interface and nothing behind it: no engine, no store, no Flask.
"""

from __future__ import annotations

from echelon.controller.client.client import Client
from echelon.controller.client.errors import Ambiguous, NotAllowed, Rejected, ServerFault, Unreachable

__all__ = ["Ambiguous", "Client", "NotAllowed", "Rejected", "ServerFault", "Unreachable"]
