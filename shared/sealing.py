"""Keeps secret values unreadable wherever they rest or travel; whoever can read the volume's key can open them.

The key lies on the volume, readable by its owner alone: controller and workers share the volume, the store and the
broker never see the key.
"""

from __future__ import annotations

import functools
import os

from cryptography.fernet import Fernet, InvalidToken

from shared.errors import EchelonError, VolumeUnavailable
from shared.failpoints import failpoint
from shared.volume import Volume
from shared.volume.durable import write_bytes
from shared.volume.layout import KEY


class CannotOpen(EchelonError):
    """The sealed value was not sealed with this volume's key."""


class Sealer:
    """Seals and opens texts with the key of one volume. Safe for any thread."""

    def __init__(self, volume: Volume) -> None:
        self._path = volume.absolute(KEY)

    def seal(self, text: str) -> str:
        """Return the text so that only holders of the key can read it; the same text never looks the same twice."""
        return self._fernet.encrypt(text.encode("utf-8", "surrogatepass")).decode("ascii")

    def open(self, text: str) -> str:
        """Return a sealed text in clear; raise CannotOpen."""
        try:
            return self._fernet.decrypt(text.encode("ascii", "replace")).decode("utf-8", "surrogatepass")
        except InvalidToken:
            raise CannotOpen from None

    @functools.cached_property
    def _fernet(self) -> Fernet:
        try:
            if not os.path.exists(self._path):
                failpoint("key.before_write")
                # Whoever comes second keeps the first one's key.
                write_bytes(self._path, Fernet.generate_key(), mode=0o600, replace=False)
                failpoint("key.after_write")
            with open(self._path, "rb") as file:
                return Fernet(file.read())
        except (OSError, ValueError) as error:
            raise VolumeUnavailable(f"cannot use the key at {self._path}: {error}") from error
